//! The writes that store a signed token as used. They are parts of the transactions that register or reauthorize a
//! connection.

use protocol::{Subscriber, Timestamp};
use serde::{Deserialize, Serialize};
use service::ports::{Fault, Minute, SignedUse, TokenHash, TokenRecord, TokenState};

use crate::{
    keys::Key,
    tokens::{TokenItem, ttl},
    write::{Write, map, number},
};

/// A row under a `jti`. Only its existence matters.
#[derive(Serialize, Deserialize)]
pub(super) struct JtiItem {
    pub(super) ttl: i64,
}

/// Returns the write that stores the token as used, conditional on it not being invalidated.
pub(crate) fn token(
    hash: &TokenHash,
    subscriber: &Subscriber,
    at: Timestamp,
    used: &SignedUse,
) -> Result<Write, Fault> {
    let record = TokenRecord {
        subscriber: subscriber.clone(),
        state: TokenState::Active,
        issued: at,
        expires: used.expires,
    };
    let item = TokenItem::new(&record, Minute::of(used.expires));
    Ok(Write::put(Key::token(hash), &item)?
        .when("attribute_not_exists(#token) OR #state = :active")
        .value(":active", map(&TokenState::Active)?))
}

/// Returns the check that the `jti`, if there is one, was not invalidated, and the rows by which the token is found.
pub(crate) fn rows(
    hash: &TokenHash,
    subscriber: &Subscriber,
    used: &SignedUse,
) -> Result<Vec<Write>, Fault> {
    let mut rows = Vec::new();
    let ttl = ttl(used.expires);
    if let Some(jti) = &used.jti {
        rows.push(Write::check(Key::refused_jti(jti)).when("attribute_not_exists(#token)"));
        rows.push(Write::put(Key::jti_token(jti, hash), &JtiItem { ttl })?);
    }
    // An update, because the function's IAM policy allows only updates of this table.
    let of_subscriber = Write::update(
        Key::subscriber_token(subscriber, hash),
        "SET #ttl = :ttl, #v = :one",
    );
    rows.push(
        of_subscriber
            .value(":ttl", number(ttl))
            .value(":one", number(1)),
    );
    Ok(rows)
}
