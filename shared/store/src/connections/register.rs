//! Registering a connection: one transaction over the token, its connections and the subscriber's.

use std::collections::BTreeMap;

use service::ports::{Fault, RegisterError, Registration, SignedUse, TokenState};

use super::item::Entry;
use crate::{
    DynamoStore,
    keys::Key,
    requests::TURNS,
    signed,
    tokens::TokenConnectionItem,
    write::{Write, map, number},
};

/// Parts of the transaction, in their order.
const TOKEN: usize = 0;
const CONNECTIONS: usize = 2;
const JTI: usize = 3;

pub(crate) async fn register(
    store: &DynamoStore,
    registration: &Registration,
    used: Option<&SignedUse>,
) -> Result<(), RegisterError> {
    let pattern = used.map_or("register", |_| "register_signed");
    let mut is_first = false;
    for _ in 0..TURNS {
        let writes = transaction(registration, used, is_first)?;
        let Err(cancelled) = store.transact(pattern, &writes).await? else {
            return Ok(());
        };
        if cancelled.stood(TOKEN).is_some() || cancelled.stood(JTI).is_some() {
            return Err(RegisterError::Token);
        }
        if cancelled.stood(CONNECTIONS).is_some() {
            // The subscriber never had a connection, or has got its first one since that was so.
            is_first = !is_first;
        }
    }
    Err(Fault::Conflict.into())
}

fn transaction(
    registration: &Registration,
    used: Option<&SignedUse>,
    is_first: bool,
) -> Result<Vec<Write>, Fault> {
    let Registration {
        subscriber,
        id,
        connection,
    } = registration;
    let token = match used {
        Some(used) => signed::token(&connection.token, subscriber, connection.since, used)?,
        None => Write::check(Key::token(&connection.token))
            .when("#state = :active AND #expires > :since")
            .value(":active", map(&TokenState::Active)?)
            .value(":since", number(connection.since.millis())),
    };
    let authorised = TokenConnectionItem::new(subscriber, connection.ends_at);
    let authorised = Write::put(Key::token_connection(&connection.token, id), &authorised)?;
    let entry = Entry::new(connection)?;
    // Updates of the subscriber's item in both cases: that is all the function may do with this table.
    let own = if is_first {
        let all = BTreeMap::from([(id.as_str(), entry)]);
        Write::update(
            Key::connections(subscriber),
            "SET #connections = :all, #v = :one",
        )
        .when("attribute_not_exists(#connections)")
        .value(":all", map(&all)?)
        .value(":one", number(1))
    } else {
        // An entry that is there stays as it is: it is an earlier attempt's, and something may be parked there by now.
        Write::update(
            Key::connections(subscriber),
            "SET #connections.#id = if_not_exists(#connections.#id, :entry)",
        )
        .when("attribute_exists(#connections)")
        .name("#id", id.as_str())
        .value(":entry", map(&entry)?)
    };
    let mut writes = vec![token, authorised, own];
    if let Some(used) = used {
        writes.extend(signed::rows(&connection.token, subscriber, used)?);
    }
    Ok(writes)
}
