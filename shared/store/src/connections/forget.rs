//! Forgetting a connection: its entry together with its announcement.

use aws_sdk_dynamodb::types::ReturnValue;
use protocol::{ConnectionId, Subscriber};
use service::ports::{Connection, Fault};

use super::{WHAT, item::ConnectionsItem};
use crate::{
    DynamoStore,
    keys::Key,
    presence,
    requests::{Repeat, TURNS, Written, decode, pause},
    write::Write,
};

pub(super) async fn forget(
    store: &DynamoStore,
    subscriber: &Subscriber,
    id: &ConnectionId,
) -> Result<Option<Connection>, Fault> {
    let removal = Write::update(Key::connections(subscriber), "REMOVE #connections.#id")
        .name("#id", id.as_str());
    let silent = removal.clone().when(
        "attribute_exists(#connections.#id) AND attribute_not_exists(#connections.#id.#announced)",
    );
    let announced = removal.when("attribute_exists(#connections.#id.#announced)");
    for turn in 1..=TURNS {
        // Repeated after a lost answer it would say that there was no such connection.
        let written = store
            .write("forget", &silent, ReturnValue::AllOld, Repeat::Never)
            .await?;
        let stood = match written {
            Written::Done(old) => return decode::<ConnectionsItem>(old, WHAT)?.one(id),
            Written::Stood(stood) => ConnectionsItem::stood(stood.as_ref())?,
        };
        let Some(connection) = stood.one(id)? else {
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
