//! The idempotency record of a message. With it a repeated message is one event.

use aws_sdk_dynamodb::types::ReturnValue;
use protocol::{Timestamp, limits};
use serde::{Deserialize, Serialize};
use service::ports::{Fault, IdempotencyRecord};

use crate::{
    DynamoStore,
    client::Repeat,
    items::millis,
    keys::Key,
    requests::{Written, decode},
    seconds_now,
    write::{Write, number, text},
};

const WHAT: &str = "an idempotency record";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RecordItem {
    /// The event's sequence. The attribute `sequence` is the sort key of the record itself.
    place: u64,
    content_hash: String,
    nonce: String,
    #[serde(with = "millis")]
    at: Timestamp,
    ttl: i64,
}

pub(super) async fn set(
    store: &DynamoStore,
    key: Key,
    record: &IdempotencyRecord,
) -> Result<Result<(), IdempotencyRecord>, Fault> {
    let write = Write::put(key, &RecordItem::new(record))?
        .when("attribute_not_exists(#channel) OR #ttl <= :now")
        .value(":now", number(seconds_now()));
    let written = store
        .write(
            "set_idempotency_record",
            &write,
            ReturnValue::None,
            Repeat::Safe,
        )
        .await?;
    match written {
        Written::Done(_) => Ok(Ok(())),
        Written::Stood(Some(item)) => Ok(Err(decode::<RecordItem>(item, WHAT)?.into())),
        Written::Stood(None) => Err(Fault::Conflict),
    }
}

pub(super) async fn replace(
    store: &DynamoStore,
    key: Key,
    old: &IdempotencyRecord,
    new: &IdempotencyRecord,
) -> Result<bool, Fault> {
    let write = Write::put(key, &RecordItem::new(new))?
        .when("#place = :place AND #content_hash = :hash AND #nonce = :nonce AND #at = :at AND #ttl > :now")
        .value(":place", number(old.sequence))
        .value(":hash", text(old.content_hash.as_str()))
        .value(":nonce", text(old.nonce.as_str()))
        .value(":at", number(old.at.millis()))
        .value(":now", number(seconds_now()));
    // Never repeated: after a lost response the second attempt would report that the old record is gone.
    let written = store
        .write(
            "replace_idempotency_record",
            &write,
            ReturnValue::None,
            Repeat::Never,
        )
        .await?;
    Ok(matches!(written, Written::Done(_)))
}

pub(super) async fn forget(store: &DynamoStore, key: Key) -> Result<(), Fault> {
    let write = Write::delete(key);
    store
        .write(
            "forget_idempotency_record",
            &write,
            ReturnValue::None,
            Repeat::Safe,
        )
        .await?;
    Ok(())
}

pub(super) async fn read(
    store: &DynamoStore,
    key: &Key,
) -> Result<Option<IdempotencyRecord>, Fault> {
    let item: Option<RecordItem> = store.get("idempotency_record", key, WHAT).await?;
    Ok(item.map(IdempotencyRecord::from))
}

impl RecordItem {
    fn new(record: &IdempotencyRecord) -> Self {
        Self {
            place: record.sequence,
            content_hash: record.content_hash.clone(),
            nonce: record.nonce.clone(),
            at: record.at,
            ttl: super::entry::ttl(record.at, limits::HISTORY_DAYS),
        }
    }
}

impl From<RecordItem> for IdempotencyRecord {
    fn from(item: RecordItem) -> Self {
        Self {
            sequence: item.place,
            content_hash: item.content_hash,
            nonce: item.nonce,
            at: item.at,
        }
    }
}
