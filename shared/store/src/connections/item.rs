//! The item that holds a subscriber's connections.

use std::collections::BTreeMap;

use protocol::{ConnectionId, Timestamp};
use serde::{Deserialize, Serialize};
use service::ports::{Connection, Fault, Framing, Reference, TokenHash};

use super::WHAT;
use crate::{items::millis, keys::Item, requests::decode};

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct ConnectionsItem {
    #[serde(default)]
    pub(crate) connections: BTreeMap<String, Entry>,
}

/// One connection.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Entry {
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
    pub(crate) announced: bool,
}

impl ConnectionsItem {
    /// What stood where a condition failed.
    pub(crate) fn stood(item: Option<&Item>) -> Result<Self, Fault> {
        item.map_or_else(|| Ok(Self::default()), |item| decode(item.clone(), WHAT))
    }

    /// All connections.
    pub(crate) fn all(self) -> Result<BTreeMap<ConnectionId, Connection>, Fault> {
        self.connections
            .into_iter()
            .map(|(id, entry)| Ok((ConnectionId(id), entry.connection()?)))
            .collect()
    }

    /// One of them.
    pub(crate) fn one(mut self, id: &ConnectionId) -> Result<Option<Connection>, Fault> {
        let entry = self.connections.remove(id.as_str());
        entry.map(Entry::connection).transpose()
    }
}

impl Entry {
    /// The entry of a new connection, which has announced nothing.
    pub(crate) fn new(connection: &Connection) -> Result<Self, Fault> {
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

    pub(crate) fn connection(self) -> Result<Connection, Fault> {
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
pub(crate) fn references(references: &[Reference]) -> Result<Vec<String>, Fault> {
    references
        .iter()
        .map(serde_json::to_string)
        .collect::<Result<_, _>>()
        .map_err(|_| Fault::Corrupt("a reference that cannot be written".to_owned()))
}
