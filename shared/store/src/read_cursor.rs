//! Moves read cursors forward. DynamoDB updates cannot compute a maximum. The common case is therefore one conditional
//! update. If its condition fails, the item returned with the failure determines the next update.

use aws_sdk_dynamodb::types::ReturnValue;
use protocol::ReadCursors;
use service::ports::Fault;

use crate::{
    DynamoStore,
    client::Repeat,
    keys::Item,
    requests::Written,
    write::{Write, number},
};

/// One read cursor: its attribute, and the function that gets its value.
pub(crate) type ReadCursor = (&'static str, fn(&ReadCursors) -> u64);

/// The cursors for received, displayed and read messages. Each implies the ones before it.
pub(crate) const READ_CURSORS: [ReadCursor; 3] = [
    ("#received", |it| it.received),
    ("#displayed", |it| it.displayed),
    ("#read", |it| it.read),
];

/// Moves the last of `read_cursors` to `sequence`, and those before it at least as far. Returns true if the last one
/// moved.
///
/// `update` makes a write from an expression and a condition, in which each cursor's attribute has the prefix `at`.
/// `stood` reads the cursors from the existing item. It returns `None` if they must not move at all.
pub(crate) async fn raise(
    store: &DynamoStore,
    pattern: &'static str,
    read_cursors: &[ReadCursor],
    at: &str,
    sequence: u64,
    update: impl Fn(String, String) -> Write,
    stood: impl Fn(Item) -> Result<Option<ReadCursors>, Fault>,
) -> Result<bool, Fault> {
    let Some((last, implied)) = read_cursors.split_last() else {
        return Ok(false);
    };
    // Statuses usually arrive in order, so the implied cursors are there already.
    let mut behind: Vec<&ReadCursor> = vec![last];
    // Cursors only grow. Each failed condition therefore moves at least one cursor out of `behind` or ends the loop.
    for _ in 0..=implied.len() + 1 {
        let set: Vec<String> = behind
            .iter()
            .map(|(name, _)| format!("{at}{name} = :sequence"))
            .collect();
        let conditions: Vec<String> = read_cursors
            .iter()
            .map(|(name, _)| {
                let is_behind = behind.iter().any(|(other, _)| other == name);
                let relation = if is_behind { "<" } else { ">=" };
                format!("{at}{name} {relation} :sequence")
            })
            .collect();
        let write = update(format!("SET {}", set.join(", ")), conditions.join(" AND "))
            .value(":sequence", number(sequence));
        // Never repeated: after a lost response the second attempt would report that nothing moved.
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
        behind = read_cursors
            .iter()
            .filter(|(_, value)| value(&now) < sequence)
            .collect();
    }
    Err(Fault::Conflict)
}
