//! Forgets a connection: removes its entry and its announcement together.

use aws_sdk_dynamodb::types::ReturnValue;
use protocol::ConnectionKey;
use service::ports::{Connection, Fault};

use super::item::{self, update};
use crate::{
    DynamoStore,
    client::Repeat,
    presence::removal::removal,
    requests::{TURNS, Written, pause},
};

pub(super) async fn forget(
    store: &DynamoStore,
    key: &ConnectionKey,
) -> Result<Option<Connection>, Fault> {
    let forgotten = update(key, "REMOVE #id");
    let silent = forgotten
        .clone()
        .when("attribute_exists(#id) AND attribute_not_exists(#id.#announced)");
    let announced = forgotten.when("attribute_exists(#id.#announced)");
    for turn in 1..=TURNS {
        // Never repeated: after a lost response the second attempt would report that there is no such connection.
        let written = store
            .write("forget", &silent, ReturnValue::AllOld, Repeat::Never)
            .await?;
        let stood = match written {
            Written::Done(old) => return item::one(old, &key.id),
            Written::Stood(stood) => item::one(stood.unwrap_or_default(), &key.id)?,
        };
        let Some(connection) = stood else {
            return Ok(None);
        };
        // The connection has announced a presence: remove both in one transaction. On a conflict, read again.
        let both = [announced.clone(), removal(key)];
        match store.transact("forget", &both).await? {
            Ok(()) => return Ok(Some(connection)),
            Err(_) => pause(turn).await,
        }
    }
    Err(Fault::Conflict)
}
