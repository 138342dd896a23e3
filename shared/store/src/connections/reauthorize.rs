//! Moves a connection to another token, in one transaction over both tokens and the subscriber's connections.

use service::ports::{Fault, Reauthorization, ReauthorizeError, SignedUse, TokenState};

use super::item::update;
use crate::{
    DynamoStore,
    keys::Key,
    signed::writes,
    tokens::TokenConnectionItem,
    write::{Write, map, number, text},
};

/// The parts of the transaction that check the new token.
const TOKEN: usize = 0;
const JTI: usize = 4;

pub(crate) async fn reauthorize(
    store: &DynamoStore,
    reauthorization: &Reauthorization,
    used: Option<&SignedUse>,
) -> Result<(), ReauthorizeError> {
    let pattern = used.map_or("reauthorize", |_| "reauthorize_signed");
    let writes = transaction(reauthorization, used)?;
    if store.transact_under(pattern, &writes, [TOKEN, JTI]).await? {
        Ok(())
    } else {
        Err(ReauthorizeError::Token)
    }
}

fn transaction(
    reauthorization: &Reauthorization,
    used: Option<&SignedUse>,
) -> Result<Vec<Write>, Fault> {
    let Reauthorization {
        subscriber,
        id,
        old,
        new,
        at,
        ends_at,
    } = reauthorization;
    let token = match used {
        Some(used) => writes::token(new, subscriber, *at, used)?,
        None => Write::check(Key::token(new))
            .when("#state = :active AND #expires > :at")
            .value(":active", map(&TokenState::Active)?)
            .value(":at", number(at.millis())),
    };
    let authorised = TokenConnectionItem::new(subscriber, *ends_at);
    let authorised = Write::put(Key::token_connection(new, id), &authorised)?;
    let forgotten = Write::delete(Key::token_connection(old, id));
    let own = update(
        &subscriber.connection(id.clone()),
        "SET #id.#token = :new, #id.#ends_at = :ends",
    )
    .when("#id.#token = :old")
    .name("#ends_at", "ends-at")
    .value(":new", text(new.as_str()))
    .value(":old", text(old.as_str()))
    .value(":ends", number(ends_at.millis()));
    let mut parts = vec![token, authorised, forgotten, own];
    if let Some(used) = used {
        parts.extend(writes::rows(new, subscriber, used)?);
    }
    Ok(parts)
}
