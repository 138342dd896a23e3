//! Gates and the references parked behind them. Each step is one conditional update of the subscriber's item.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use protocol::{ConnectionId, ConnectionKey, Timestamp};
use service::ports::{Connection, FIRST_GATE, Fault, Gone, Parked, ParkedOutcome, Reference};

use super::{
    WHAT,
    item::{self, update},
};
use crate::{
    DynamoStore,
    client::Repeat,
    keys::Item,
    requests::Written,
    write::{Write, number},
};

/// Appends references to the parked ones.
const APPENDED: &str = "#id.#parked = list_append(if_not_exists(#id.#parked, :empty), :references)";
/// True if at least one reference is parked. A list may be empty after its references were unparked.
const SOMETHING: &str = "attribute_exists(#id.#parked[0])";
/// True if no reference is parked, and also if there is no such connection.
const NOTHING: &str = "attribute_not_exists(#id.#parked[0])";

/// Adds the values of [`APPENDED`] to `write`.
fn appending(write: Write, references: &[Reference]) -> Result<Write, Fault> {
    Ok(write
        .value(":references", item::list(references)?)
        .value(":empty", AttributeValue::L(Vec::new())))
}

/// Returns the connection in the item as the write left it.
fn after(item: Item, id: &ConnectionId) -> Result<Connection, Fault> {
    item::one(item, id)?.ok_or_else(|| Fault::Corrupt(WHAT.to_owned()))
}

pub(super) async fn raise(
    store: &DynamoStore,
    key: &ConnectionKey,
    gate: &str,
    deadline: Timestamp,
) -> Result<Result<Connection, Gone>, Fault> {
    let write = update(key, "SET #id.#gate = :deadline")
        .when("attribute_exists(#id)")
        .name("#gate", item::gate(gate))
        .value(":deadline", number(deadline.millis()));
    let written = store
        .write("raise_gate", &write, ReturnValue::AllNew, Repeat::Safe)
        .await?;
    match written {
        Written::Done(item) => after(item, &key.id).map(Ok),
        Written::Stood(_) => Ok(Err(Gone)),
    }
}

pub(super) async fn park(
    store: &DynamoStore,
    key: &ConnectionKey,
    saw: Option<&str>,
    parked: &[Reference],
) -> Result<ParkedOutcome, Fault> {
    let write = appending(update(key, format!("SET {APPENDED}")), parked)?;
    let write = match saw {
        Some(saw) => write
            .when(format!("attribute_exists(#id.#saw) OR {SOMETHING}"))
            .name("#saw", item::gate(saw)),
        None => write.when(SOMETHING),
    };
    // Never repeated: a second execution would park everything twice.
    let written = store
        .write("park", &write, ReturnValue::AllOld, Repeat::Never)
        .await?;
    match written {
        Written::Done(old) => {
            let is_first = after(old, &key.id)?.parked.is_empty();
            Ok(ParkedOutcome::Parked(if is_first {
                Parked::First
            } else {
                Parked::Further
            }))
        }
        Written::Stood(stood) => {
            let there = item::one(stood.unwrap_or_default(), &key.id)?;
            Ok(if there.is_some() {
                ParkedOutcome::Changed
            } else {
                ParkedOutcome::NotRegistered
            })
        }
    }
}

pub(super) async fn unpark(
    store: &DynamoStore,
    key: &ConnectionKey,
    gate: &str,
    count: usize,
    deadline: Timestamp,
) -> Result<Result<Connection, Gone>, Fault> {
    // Short names, so that the expression has room for the largest number of removals.
    let first: Vec<String> = (0..count).map(|index| format!("#id.#p[{index}]")).collect();
    let removed = if first.is_empty() {
        String::new()
    } else {
        format!(" REMOVE {}", first.join(", "))
    };
    let mut write = update(key, format!("SET #id.#gate = :deadline{removed}"))
        .when("attribute_exists(#id.#gate)")
        .name("#gate", item::gate(gate))
        .value(":deadline", number(deadline.millis()));
    if count > 0 {
        write = write.name("#p", "parked");
    }
    // Never repeated: a second execution would remove references that were parked since.
    let written = store
        .write("unpark", &write, ReturnValue::AllNew, Repeat::Never)
        .await?;
    match written {
        Written::Done(item) => after(item, &key.id).map(Ok),
        Written::Stood(_) => Ok(Err(Gone)),
    }
}

pub(super) async fn lower(
    store: &DynamoStore,
    key: &ConnectionKey,
    gate: &str,
    other: Option<&str>,
) -> Result<bool, Fault> {
    let write = update(key, "REMOVE #id.#gate").name("#gate", item::gate(gate));
    // DynamoDB cannot remove an attribute of a map that does not exist, so the condition requires the connection.
    let write = match other {
        Some(other) => write
            .when(format!(
                "attribute_exists(#id) AND ({NOTHING} OR attribute_exists(#id.#other))"
            ))
            .name("#other", item::gate(other)),
        None => write.when(format!("attribute_exists(#id) AND {NOTHING}")),
    };
    let written = store
        .write("lower_gate", &write, ReturnValue::None, Repeat::Safe)
        .await?;
    match written {
        Written::Done(_) => Ok(true),
        Written::Stood(stood) => {
            let there = item::one(stood.unwrap_or_default(), &key.id)?;
            Ok(there.is_none_or(|connection| !connection.gates.contains_key(gate)))
        }
    }
}

pub(super) async fn lower_first(
    store: &DynamoStore,
    key: &ConnectionKey,
) -> Result<Option<BTreeMap<ConnectionId, Connection>>, Fault> {
    let write = update(key, "REMOVE #id.#gate")
        .when(format!("attribute_exists(#id.#gate) AND {NOTHING}"))
        .name("#gate", item::gate(FIRST_GATE));
    // After a lost response the second attempt finds no gate. The caller then reads the connection.
    let written = store
        .write(
            "lower_first_gate",
            &write,
            ReturnValue::AllNew,
            Repeat::Safe,
        )
        .await?;
    match written {
        Written::Done(item) => item::all(item).map(Some),
        Written::Stood(_) => Ok(None),
    }
}

pub(super) async fn take(
    store: &DynamoStore,
    key: &ConnectionKey,
    expired: &BTreeMap<String, Timestamp>,
    (gate, deadline): (&str, Timestamp),
    parked: &[Reference],
) -> Result<Option<Connection>, Fault> {
    let mut conditions = vec!["attribute_exists(#id)".to_owned()];
    let mut removed = Vec::new();
    for (index, name) in expired.keys().enumerate() {
        conditions.push(format!("#id.#e{index} = :e{index}"));
        // One update cannot both set and remove an attribute, and `gate` may have the name of an expired gate.
        if name != gate {
            removed.push(format!("#id.#e{index}"));
        }
    }
    let mut expression = "SET #id.#gate = :deadline".to_owned();
    if !parked.is_empty() {
        expression = format!("{expression}, {APPENDED}");
    }
    if !removed.is_empty() {
        expression = format!("{expression} REMOVE {}", removed.join(", "));
    }
    let mut write = update(key, expression)
        .when(conditions.join(" AND "))
        .name("#gate", item::gate(gate))
        .value(":deadline", number(deadline.millis()));
    if !parked.is_empty() {
        write = appending(write, parked)?;
    }
    for (index, (name, until)) in expired.iter().enumerate() {
        write = write
            .name(format!("#e{index}"), item::gate(name))
            .value(format!(":e{index}"), number(until.millis()));
    }
    let written = store
        .write("take_gate", &write, ReturnValue::AllNew, Repeat::Never)
        .await?;
    match written {
        Written::Done(item) => after(item, &key.id).map(Some),
        Written::Stood(_) => Ok(None),
    }
}
