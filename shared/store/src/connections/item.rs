//! The item that holds a subscriber's connections: an attribute for each, which is a map.
//!
//! A fan-out reads one such item for each member, so that an entry has nothing that can be left out: what is empty is not
//! there, and a gate is an attribute like the others.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use protocol::{ConnectionId, Timestamp};
use serde::de::DeserializeOwned;
use service::ports::{Connection, Fault, Framing, Reference};

use super::WHAT;
use crate::{
    keys::Item,
    write::{number, text},
};

/// What the names of the connections' attributes begin with, and no other's.
const PREFIX: char = '#';
/// What the names of an entry's gates begin with, and no other's.
const GATE: &str = "gate-";

/// The name of a connection's attribute.
pub(super) fn attribute(id: &ConnectionId) -> String {
    format!("{PREFIX}{id}")
}

/// The name of a gate in an entry.
pub(super) fn gate(name: &str) -> String {
    format!("{GATE}{name}")
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

/// The entry of a new connection. It has announced nothing: that is only there once it has, so that a condition can ask
/// whether it exists.
pub(super) fn entry(connection: &Connection) -> Result<AttributeValue, Fault> {
    let Connection {
        token,
        framing,
        since,
        ends_at,
        gates,
        parked,
        announced: _,
    } = connection;
    let mut entry = Item::from([
        ("token".to_owned(), text(token.as_str())),
        ("since".to_owned(), number(since.millis())),
        ("ends-at".to_owned(), number(ends_at.millis())),
    ]);
    if *framing != Framing::default() {
        let framing = serde_dynamo::aws_sdk_dynamodb_1::to_attribute_value(framing)
            .map_err(|_| Fault::Corrupt("a framing that cannot be written".to_owned()))?;
        entry.insert("framing".to_owned(), framing);
    }
    for (name, deadline) in gates {
        entry.insert(gate(name), number(deadline.millis()));
    }
    if !parked.is_empty() {
        entry.insert("parked".to_owned(), list(parked)?);
    }
    Ok(AttributeValue::M(entry))
}

fn connection(entry: AttributeValue) -> Result<Connection, Fault> {
    let AttributeValue::M(mut entry) = entry else {
        return Err(corrupt());
    };
    let token = field(entry.remove("token"))?.ok_or_else(corrupt)?;
    let framing = field(entry.remove("framing"))?.unwrap_or_default();
    let since = time(entry.remove("since"))?;
    let ends_at = time(entry.remove("ends-at"))?;
    let parked: Option<Vec<String>> = field(entry.remove("parked"))?;
    let announced = field(entry.remove("announced"))?.unwrap_or(false);
    let gates = entry
        .into_iter()
        .filter_map(|(name, deadline)| Some((name.strip_prefix(GATE)?.to_owned(), deadline)))
        .map(|(name, deadline)| Ok((name, time(Some(deadline))?)))
        .collect::<Result<_, Fault>>()?;
    Ok(Connection {
        token,
        framing,
        since,
        ends_at,
        gates,
        parked: parked
            .unwrap_or_default()
            .iter()
            .map(|reference| serde_json::from_str(reference))
            .collect::<Result<_, _>>()
            .map_err(|_| Fault::Corrupt("a parked reference".to_owned()))?,
        announced,
    })
}

/// A field by itself: a whole entry through serde takes twice the time.
fn field<T: DeserializeOwned>(value: Option<AttributeValue>) -> Result<Option<T>, Fault> {
    value
        .map(serde_dynamo::aws_sdk_dynamodb_1::from_attribute_value)
        .transpose()
        .map_err(|_| corrupt())
}

fn time(value: Option<AttributeValue>) -> Result<Timestamp, Fault> {
    let millis = field(value)?.ok_or_else(corrupt)?;
    Ok(Timestamp::from_millis(millis))
}

fn corrupt() -> Fault {
    Fault::Corrupt(WHAT.to_owned())
}

/// References as they are stored, each as JSON.
pub(super) fn list(references: &[Reference]) -> Result<AttributeValue, Fault> {
    let references = references
        .iter()
        .map(|reference| serde_json::to_string(reference).map(AttributeValue::S))
        .collect::<Result<_, _>>()
        .map_err(|_| Fault::Corrupt("a reference that cannot be written".to_owned()))?;
    Ok(AttributeValue::L(references))
}
