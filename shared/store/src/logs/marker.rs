//! The marker of a message: what makes a repeated one a single event.

use aws_sdk_dynamodb::types::ReturnValue;
use protocol::{Timestamp, limits};
use serde::{Deserialize, Serialize};
use service::ports::{Fault, Marker};

use crate::{
    DynamoStore,
    items::millis,
    keys::Key,
    requests::{Repeat, Written, decode},
    seconds_now,
    write::{Write, number, text},
};

const WHAT: &str = "a marker";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MarkerItem {
    /// The event's sequence; `sequence` is the marker's own key.
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
    marker: &Marker,
) -> Result<Result<(), Marker>, Fault> {
    let write = Write::put(key, &MarkerItem::new(marker))?
        .when("attribute_not_exists(#channel) OR #ttl <= :now")
        .value(":now", number(seconds_now()));
    let written = store
        .write("set_marker", &write, ReturnValue::None, Repeat::Safe)
        .await?;
    match written {
        Written::Done(_) => Ok(Ok(())),
        Written::Stood(Some(item)) => Ok(Err(decode::<MarkerItem>(item, WHAT)?.into())),
        Written::Stood(None) => Err(Fault::Conflict),
    }
}

pub(super) async fn replace(
    store: &DynamoStore,
    key: Key,
    old: &Marker,
    new: &Marker,
) -> Result<bool, Fault> {
    let write = Write::put(key, &MarkerItem::new(new))?
        .when("#place = :place AND #content_hash = :hash AND #nonce = :nonce AND #at = :at AND #ttl > :now")
        .value(":place", number(old.sequence))
        .value(":hash", text(old.content_hash.as_str()))
        .value(":nonce", text(old.nonce.as_str()))
        .value(":at", number(old.at.millis()))
        .value(":now", number(seconds_now()));
    // Repeated after a lost answer it would say that the old one was gone.
    let written = store
        .write("replace_marker", &write, ReturnValue::None, Repeat::Never)
        .await?;
    Ok(matches!(written, Written::Done(_)))
}

pub(super) async fn forget(store: &DynamoStore, key: Key) -> Result<(), Fault> {
    let write = Write::delete(key);
    store
        .write("forget_marker", &write, ReturnValue::None, Repeat::Safe)
        .await?;
    Ok(())
}

pub(super) async fn read(store: &DynamoStore, key: &Key) -> Result<Option<Marker>, Fault> {
    let item: Option<MarkerItem> = store.get("marker", key, WHAT).await?;
    Ok(item.map(Marker::from))
}

impl MarkerItem {
    fn new(marker: &Marker) -> Self {
        Self {
            place: marker.sequence,
            content_hash: marker.content_hash.clone(),
            nonce: marker.nonce.clone(),
            at: marker.at,
            ttl: super::entry::ttl(marker.at, limits::HISTORY_DAYS),
        }
    }
}

impl From<MarkerItem> for Marker {
    fn from(item: MarkerItem) -> Self {
        Self {
            sequence: item.place,
            content_hash: item.content_hash,
            nonce: item.nonce,
            at: item.at,
        }
    }
}
