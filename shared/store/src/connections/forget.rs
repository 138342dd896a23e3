//! Forgetting a connection: its entry together with its announcement.

use aws_sdk_dynamodb::types::ReturnValue;
use protocol::{ConnectionId, Subscriber};
use service::ports::{Connection, Fault};

use super::{item, update};
use crate::{
    DynamoStore, presence,
    requests::{Repeat, TURNS, Written, pause},
};

pub(super) async fn forget(
    store: &DynamoStore,
    subscriber: &Subscriber,
    id: &ConnectionId,
) -> Result<Option<Connection>, Fault> {
    let removal = update(subscriber, id, "REMOVE #id");
    let silent = removal
        .clone()
        .when("attribute_exists(#id) AND attribute_not_exists(#id.#announced)");
    let announced = removal.when("attribute_exists(#id.#announced)");
    for turn in 1..=TURNS {
        // Repeated after a lost answer it would say that there was no such connection.
        let written = store
            .write("forget", &silent, ReturnValue::AllOld, Repeat::Never)
            .await?;
        let stood = match written {
            Written::Done(old) => return item::one(old, id),
            Written::Stood(stood) => item::one(stood.unwrap_or_default(), id)?,
        };
        let Some(connection) = stood else {
            return Ok(None);
        };
        let both = [announced.clone(), presence::removal(subscriber, id)];
        match store.transact("forget", &both).await? {
            Ok(()) => return Ok(Some(connection)),
            Err(_) => pause(turn).await,
        }
    }
    Err(Fault::Conflict)
}
