//! Registers a connection, in one transaction over the token, the token's connections and the subscriber's connections.

use service::ports::{Fault, RegisterError, Registration, SignedUse, TokenState};

use super::item::{self, update};
use crate::{
    DynamoStore,
    keys::Key,
    signed::writes,
    tokens::TokenConnectionItem,
    write::{Write, map, number},
};

/// The parts of the transaction that check the token.
const TOKEN: usize = 0;
const JTI: usize = 3;

pub(crate) async fn register(
    store: &DynamoStore,
    registration: &Registration,
    used: Option<&SignedUse>,
) -> Result<(), RegisterError> {
    let pattern = used.map_or("register", |_| "register_signed");
    let writes = transaction(registration, used)?;
    if store.transact_under(pattern, &writes, [TOKEN, JTI]).await? {
        Ok(())
    } else {
        Err(RegisterError::Token)
    }
}

fn transaction(registration: &Registration, used: Option<&SignedUse>) -> Result<Vec<Write>, Fault> {
    let Registration {
        subscriber,
        id,
        connection,
    } = registration;
    let token = match used {
        Some(used) => writes::token(&connection.token, subscriber, connection.since, used)?,
        None => Write::check(Key::token(&connection.token))
            .when("#state = :active AND #expires > :since")
            .value(":active", map(&TokenState::Active)?)
            .value(":since", number(connection.since.millis())),
    };
    let authorised = TokenConnectionItem::new(subscriber, connection.ends_at);
    let authorised = Write::put(Key::token_connection(&connection.token, id), &authorised)?;
    // An existing entry stays unchanged: an earlier attempt wrote it, and it may have parked references by now.
    let own = update(
        &subscriber.connection(id.clone()),
        "SET #id = if_not_exists(#id, :entry), #v = :one",
    )
    .value(":entry", item::entry(connection)?)
    .value(":one", number(1));
    let mut parts = vec![token, authorised, own];
    if let Some(used) = used {
        parts.extend(writes::rows(&connection.token, subscriber, used)?);
    }
    Ok(parts)
}
