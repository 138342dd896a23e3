//! Signed (JWT) tokens: the items that are stored once a token is used or invalidated.
//!
//! A used token has the same item as an opaque token. If it has a `jti`, it also has a row in the partition of that
//! `jti`, so that the invalidation of the `jti` finds it by a consistent query.
//!
//! # Cost
//!
//! | pattern | requests | units |
//! |---|---|---|
//! | `register_signed` | TransactWriteItems of 4, with a `jti` of 6 | as `register`, and 2 + 2 + 2 write, and 1 for the index the first time |
//! | `reauthorize_signed` | TransactWriteItems of 5, with a `jti` of 7 | as `reauthorize`, and the same |
//! | `refuse_signed` | PutItem | 1 write, and 1 for the index; 2 if its key moves |
//! | `refuse_jti` | PutItem | 1 write |
//! | `is_jti_refused` | GetItem | 1 read |
//! | `tokens_with_jti` | Query | 1 read per 4 KiB, about 12 tokens |

use aws_sdk_dynamodb::types::ReturnValue;
use protocol::{Subscriber, Timestamp};
use serde::{Deserialize, Serialize};
use service::ports::{
    Fault, Jti, Minute, Page, Reauthorization, ReauthorizeError, RegisterError, Registration,
    SignedToken, SignedTokens, SignedUse, TokenHash, TokenRecord, TokenState,
};

use crate::{
    DynamoStore, connections, items,
    keys::{Collection, Key},
    requests::Repeat,
    tokens::{TokenItem, ttl},
    write::{Write, map, number},
};

/// A row under a `jti`. Only its existence matters.
#[derive(Serialize, Deserialize)]
struct JtiItem {
    ttl: i64,
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

impl SignedTokens for DynamoStore {
    async fn register_signed(
        &self,
        registration: &Registration,
        token: &SignedUse,
    ) -> Result<(), RegisterError> {
        if registration.connection.since >= token.expires {
            return Err(RegisterError::Token);
        }
        connections::register(self, registration, Some(token)).await
    }

    async fn reauthorize_signed(
        &self,
        reauthorization: &Reauthorization,
        token: &SignedUse,
    ) -> Result<(), ReauthorizeError> {
        if reauthorization.at >= token.expires {
            return Err(ReauthorizeError::Token);
        }
        connections::reauthorize(self, reauthorization, Some(token)).await
    }

    async fn refuse_signed(&self, token: &SignedToken, now: Timestamp) -> Result<(), Fault> {
        let record = TokenRecord {
            subscriber: token.subscriber.clone(),
            state: TokenState::Invalidated,
            issued: token.begins,
            expires: token.expires,
        };
        let item = TokenItem::new(&record, Minute::of(now));
        let item = Write::put(Key::token(&token.hash), &item)?;
        self.write("refuse_signed", &item, ReturnValue::None, Repeat::Safe)
            .await?;
        Ok(())
    }

    async fn refuse_jti(&self, jti: &Jti, expires: Timestamp) -> Result<(), Fault> {
        let item = JtiItem { ttl: ttl(expires) };
        let item = Write::put(Key::refused_jti(jti), &item)?;
        self.write("refuse_jti", &item, ReturnValue::None, Repeat::Safe)
            .await?;
        Ok(())
    }

    async fn is_jti_refused(&self, jti: &Jti) -> Result<bool, Fault> {
        let key = Key::refused_jti(jti);
        let item: Option<JtiItem> = self.get("is_jti_refused", &key, "a refused jti").await?;
        Ok(item.is_some())
    }

    async fn tokens_with_jti(
        &self,
        jti: &Jti,
        after: Option<&TokenHash>,
        limit: usize,
    ) -> Result<Page<TokenHash>, Fault> {
        let rows = Collection::tokens_with_jti(jti);
        let after = after.map(TokenHash::as_str);
        let (found, more) = self.page("tokens_with_jti", &rows, after, limit).await?;
        let hash = |name: &str| Some(TokenHash::from_stored(name.to_owned()));
        let items = items::names(&rows, &found, hash)?;
        Ok(Page { items, more })
    }
}
