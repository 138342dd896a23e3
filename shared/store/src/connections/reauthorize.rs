//! Putting a connection under another token: one transaction over both tokens and the subscriber's connections.

use service::ports::{Fault, Reauthorization, ReauthorizeError, TokenState};

use crate::{
    DynamoStore,
    keys::Key,
    tokens::TokenConnectionItem,
    write::{Write, map, number, text},
};

/// The part of the transaction that asks for the new token.
const TOKEN: usize = 0;

pub(super) async fn reauthorize(
    store: &DynamoStore,
    reauthorization: &Reauthorization,
) -> Result<(), ReauthorizeError> {
    match store
        .transact("reauthorize", &transaction(reauthorization)?)
        .await?
    {
        Ok(()) => Ok(()),
        Err(cancelled) if cancelled.stood(TOKEN).is_some() => Err(ReauthorizeError::Token),
        Err(_) => Err(Fault::Conflict.into()),
    }
}

fn transaction(reauthorization: &Reauthorization) -> Result<Vec<Write>, Fault> {
    let Reauthorization {
        subscriber,
        id,
        old,
        new,
        at,
        ends_at,
    } = reauthorization;
    let token = Write::check(Key::token(new))
        .when("#state = :active AND #expires > :at")
        .value(":active", map(&TokenState::Active)?)
        .value(":at", number(at.millis()));
    let authorised = TokenConnectionItem::new(subscriber, *ends_at);
    let authorised = Write::put(Key::token_connection(new, id), &authorised)?;
    let forgotten = Write::delete(Key::token_connection(old, id));
    let own = Write::update(
        Key::connections(subscriber),
        "SET #connections.#id.#token = :new, #connections.#id.#ends_at = :ends",
    )
    .when("#connections.#id.#token = :old")
    .name("#id", id.as_str())
    .name("#ends_at", "ends-at")
    .value(":new", text(new.as_str()))
    .value(":old", text(old.as_str()))
    .value(":ends", number(ends_at.millis()));
    Ok(vec![token, authorised, forgotten, own])
}
