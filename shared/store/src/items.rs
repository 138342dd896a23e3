//! Helpers that several items share: times as numbers, raw JSON as text, names from keys.

use protocol::Json;
use service::ports::Fault;

use crate::keys::{Collection, Item};

/// Times as milliseconds since the epoch.
pub(crate) mod millis {
    use protocol::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde's `with` gives a reference"
    )]
    pub(crate) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(time.millis())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(from).map(Timestamp::from_millis)
    }
}

/// Parses stored JSON text. Fails with [`Fault::Corrupt`] and `what` if it is invalid.
pub(crate) fn json(text: &str, what: &'static str) -> Result<Json, Fault> {
    Json::parse(text).ok_or_else(|| Fault::Corrupt(what.to_owned()))
}

/// Parses the names in the keys of `items`, which belong to `collection`.
pub(crate) fn names<T>(
    collection: &Collection,
    items: &[Item],
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, Fault> {
    items
        .iter()
        .map(|item| {
            collection
                .name(item)
                .and_then(&parse)
                .ok_or_else(|| Fault::Corrupt("key without a valid name".to_owned()))
        })
        .collect()
}
