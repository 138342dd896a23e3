//! The item that holds a subscriber's connections: an attribute for each.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use protocol::{ConnectionId, Timestamp};
use serde::{Deserialize, Serialize};
use service::ports::{Connection, Fault, Framing, Reference, TokenHash};

use super::WHAT;
use crate::{items::millis, keys::Item};

/// What the names of the connections' attributes begin with, and no other's.
const PREFIX: char = '#';

/// The name of a connection's attribute.
pub(super) fn attribute(id: &ConnectionId) -> String {
    format!("{PREFIX}{id}")
}

/// All connections of an item.
pub(super) fn all(item: Item) -> Result<BTreeMap<ConnectionId, Connection>, Fault> {
    item.into_iter()
        .filter_map(|(name, value)| {
            Some((ConnectionId(name.strip_prefix(PREFIX)?.to_owned()), value))
        })
        .map(|(id, value)| Ok((id, connection(value)?)))
        .collect()
}

/// One of them.
pub(super) fn one(mut item: Item, id: &ConnectionId) -> Result<Option<Connection>, Fault> {
    item.remove(&attribute(id)).map(connection).transpose()
}

fn connection(value: AttributeValue) -> Result<Connection, Fault> {
    let entry: Entry = serde_dynamo::aws_sdk_dynamodb_1::from_attribute_value(value)
        .map_err(|_| Fault::Corrupt(WHAT.to_owned()))?;
    entry.connection()
}

/// One connection.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Entry {
    token: TokenHash,
    framing: Framing,
    #[serde(with = "millis")]
    since: Timestamp,
    #[serde(with = "millis")]
    ends_at: Timestamp,
    gates: BTreeMap<String, i64>,
    /// References as JSON.
    parked: Vec<String>,
    /// Only there while it holds an announcement, so that a condition can ask whether it exists.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    announced: bool,
}

impl Entry {
    /// The entry of a new connection, which has announced nothing.
    pub(super) fn new(connection: &Connection) -> Result<Self, Fault> {
        Ok(Self {
            token: connection.token.clone(),
            framing: connection.framing,
            since: connection.since,
            ends_at: connection.ends_at,
            gates: connection
                .gates
                .iter()
                .map(|(gate, deadline)| (gate.clone(), deadline.millis()))
                .collect(),
            parked: references(&connection.parked)?,
            announced: false,
        })
    }

    fn connection(self) -> Result<Connection, Fault> {
        Ok(Connection {
            token: self.token,
            framing: self.framing,
            since: self.since,
            ends_at: self.ends_at,
            gates: self
                .gates
                .into_iter()
                .map(|(gate, deadline)| (gate, Timestamp::from_millis(deadline)))
                .collect(),
            parked: self
                .parked
                .iter()
                .map(|reference| serde_json::from_str(reference))
                .collect::<Result<_, _>>()
                .map_err(|_| Fault::Corrupt("a parked reference".to_owned()))?,
            announced: self.announced,
        })
    }
}

/// References as they are stored.
pub(super) fn references(references: &[Reference]) -> Result<Vec<String>, Fault> {
    references
        .iter()
        .map(serde_json::to_string)
        .collect::<Result<_, _>>()
        .map_err(|_| Fault::Corrupt("a reference that cannot be written".to_owned()))
}
