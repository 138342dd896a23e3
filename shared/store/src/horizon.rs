//! Moving horizons forward. DynamoDB has no maximum, so the common case is one conditional update, and what stood where
//! its condition failed tells how the next one has to look.

use aws_sdk_dynamodb::types::ReturnValue;
use protocol::Horizons;
use service::ports::Fault;

use crate::{
    DynamoStore,
    keys::Item,
    requests::{Repeat, Written},
    write::{Write, number},
};

/// One horizon: its attribute, and its value among all of them.
pub(crate) type Horizon = (&'static str, fn(&Horizons) -> u64);

/// How far it was handed over, displayed and read: each implies the ones before it.
pub(crate) const HORIZONS: [Horizon; 3] = [
    ("#received", |it| it.received),
    ("#displayed", |it| it.displayed),
    ("#read", |it| it.read),
];

/// Moves the last of `horizons` to `sequence`, and those before it at least as far; whether it moved.
///
/// `update` makes the write of an expression and a condition in which `{at}` was put before each horizon; `stood` reads
/// the horizons of what stood there, none if they must not move at all.
pub(crate) async fn raise(
    store: &DynamoStore,
    pattern: &'static str,
    horizons: &[Horizon],
    at: &str,
    sequence: u64,
    update: impl Fn(String, String) -> Write,
    stood: impl Fn(Item) -> Result<Option<Horizons>, Fault>,
) -> Result<bool, Fault> {
    let Some((last, implied)) = horizons.split_last() else {
        return Ok(false);
    };
    // Usually the statuses come in their order, so those before it are there already.
    let mut behind: Vec<&Horizon> = vec![last];
    // A horizon only grows: each failure moves at least one from `behind` to the others, or ends it.
    for _ in 0..=implied.len() + 1 {
        let set: Vec<String> = behind
            .iter()
            .map(|(name, _)| format!("{at}{name} = :sequence"))
            .collect();
        let conditions: Vec<String> = horizons
            .iter()
            .map(|(name, _)| {
                let is_behind = behind.iter().any(|(other, _)| other == name);
                let relation = if is_behind { "<" } else { ">=" };
                format!("{at}{name} {relation} :sequence")
            })
            .collect();
        let write = update(format!("SET {}", set.join(", ")), conditions.join(" AND "))
            .value(":sequence", number(sequence));
        // Repeated after a lost answer it would say that nothing moved.
        let written = store
            .write(pattern, &write, ReturnValue::None, Repeat::Never)
            .await?;
        let item = match written {
            Written::Done(_) => return Ok(true),
            Written::Stood(None) => return Ok(false),
            Written::Stood(Some(item)) => item,
        };
        let Some(now) = stood(item)? else {
            return Ok(false);
        };
        if (last.1)(&now) >= sequence {
            return Ok(false);
        }
        behind = horizons
            .iter()
            .filter(|(_, value)| value(&now) < sequence)
            .collect();
    }
    Err(Fault::Conflict)
}
