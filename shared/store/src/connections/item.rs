//! The item that contains a subscriber's connections. Each connection is an attribute, which is a map.
//!
//! A fan-out reads one such item for each member, so entries are small: they omit empty attributes, and store each gate
//! as an attribute beside the others.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use protocol::{ConnectionId, ConnectionKey, Timestamp};
use serde::de::DeserializeOwned;
use service::ports::{Connection, Fault, Framing, Reference};

use super::WHAT;
use crate::{
    keys::{Item, Key},
    write::{Write, number, text},
};

/// The prefix of connection attributes. No other attribute has it.
const PREFIX: char = '#';
/// The prefix of the gates in an entry. No other attribute of an entry has it.
const GATE: &str = "gate-";

/// Returns the attribute name of a connection.
pub(super) fn attribute(id: &ConnectionId) -> String {
    format!("{PREFIX}{id}")
}

/// Returns the attribute name of a gate in an entry.
pub(super) fn gate(name: &str) -> String {
    format!("{GATE}{name}")
}

/// Returns an update of a subscriber's item. In the expression `#id` is the attribute of the connection `id`.
pub(crate) fn update(key: &ConnectionKey, expression: impl Into<String>) -> Write {
    Write::update(Key::connections(&key.subscriber), expression).name("#id", attribute(&key.id))
}

/// Parses all connections of an item.
pub(super) fn all(item: Item) -> Result<BTreeMap<ConnectionId, Connection>, Fault> {
    item.into_iter()
        .filter_map(|(name, value)| {
            Some((ConnectionId(name.strip_prefix(PREFIX)?.to_owned()), value))
        })
        .map(|(id, value)| Ok((id, connection(value)?)))
        .collect()
}

/// Parses one connection of an item.
pub(super) fn one(mut item: Item, id: &ConnectionId) -> Result<Option<Connection>, Fault> {
    item.remove(&attribute(id)).map(connection).transpose()
}

/// Returns the entry of a new connection. It has no `announced` attribute, which exists only after an announcement, so
/// that conditions can test for it.
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
            .map_err(|_| Fault::Corrupt("framing cannot be serialized".to_owned()))?;
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

/// Parses one field. Parsing a whole entry with serde takes twice the time.
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

/// Returns references as a list attribute, each as JSON text.
pub(super) fn list(references: &[Reference]) -> Result<AttributeValue, Fault> {
    let references = references
        .iter()
        .map(|reference| serde_json::to_string(reference).map(AttributeValue::S))
        .collect::<Result<_, _>>()
        .map_err(|_| Fault::Corrupt("reference cannot be serialized".to_owned()))?;
    Ok(AttributeValue::L(references))
}
