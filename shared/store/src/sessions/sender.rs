//! The lease of the request that sends a client's messages.

use aws_sdk_dynamodb::types::ReturnValue;
use protocol::Timestamp;
use service::ports::{Attached, Fault, Lease, SessionKey};

use super::{attached, item::LeaseItem};
use crate::{
    DynamoStore,
    client::Repeat,
    keys::Key,
    write::{Write, map, number, text},
};

pub(super) async fn begin(
    store: &DynamoStore,
    key: &SessionKey,
    lease: &Lease,
    now: Timestamp,
) -> Result<Attached, Fault> {
    let write = Write::update(Key::session(key), "SET #sender = :lease")
        .when(
            "#alive_until > :now AND attribute_not_exists(#closing) AND \
             (attribute_not_exists(#sender) OR #sender.#until <= :now OR #sender.#holder = :holder)",
        )
        .value(":lease", map(&LeaseItem::new(lease))?)
        .value(":now", number(now.millis()))
        .value(":holder", text(lease.holder.as_str()));
    let written = store
        .write("begin_sending", &write, ReturnValue::AllNew, Repeat::Safe)
        .await?;
    attached(store, written)
}

pub(super) async fn end(store: &DynamoStore, key: &SessionKey, holder: &str) -> Result<(), Fault> {
    let write = Write::update(Key::session(key), "REMOVE #sender")
        .when("#sender.#holder = :holder")
        .value(":holder", text(holder));
    store
        .write("end_sending", &write, ReturnValue::None, Repeat::Safe)
        .await?;
    Ok(())
}
