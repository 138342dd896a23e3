//! The receiver of a session: its lease, its doorbell, and the messages that it has written to the client.

use aws_sdk_dynamodb::types::ReturnValue;
use protocol::Timestamp;
use service::ports::{Attached, Doorbell, Fault, Hold, LINGER, Lease, Session, SessionKey};

use super::{attached, item::LeaseItem, session_of};
use crate::{
    DynamoStore,
    client::Repeat,
    keys::Key,
    requests::Written,
    write::{Write, map, number, text},
};

pub(super) async fn attach(
    store: &DynamoStore,
    key: &SessionKey,
    lease: &Lease,
    now: Timestamp,
) -> Result<Attached, Fault> {
    let write = Write::update(
        Key::session(key),
        "SET #lease = :lease, #alive_until = :alive REMOVE #doorbell",
    )
    .when(
        "#alive_until > :now AND \
         (attribute_not_exists(#lease) OR #lease.#until <= :now OR #lease.#holder = :holder)",
    )
    .value(":lease", map(&LeaseItem::new(lease))?)
    .value(":alive", number(lease.until.plus(LINGER).millis()))
    .value(":now", number(now.millis()))
    .value(":holder", text(lease.holder.as_str()));
    let written = store
        .write("attach", &write, ReturnValue::AllNew, Repeat::Safe)
        .await?;
    attached(store, written)
}

pub(super) async fn hold(
    store: &DynamoStore,
    key: &SessionKey,
    hold: &Hold,
) -> Result<Option<Session>, Fault> {
    let alive = hold.until.plus(LINGER);
    let write = written(key, hold, "#lease.#until = :until", "")
        .value(":until", number(hold.until.millis()))
        .value(":alive", number(alive.millis()));
    let done = store
        .write("hold_session", &write, ReturnValue::AllNew, Repeat::Safe)
        .await?;
    match done {
        Written::Done(item) => session_of(item).map(Some),
        // The condition may fail because the response of an earlier attempt was lost. That attempt removed the messages.
        Written::Stood(Some(item)) => Ok(Some(session_of(item)?)
            .filter(|it| is_held(it, hold) && it.is_alive(hold.now) && it.removed == after(hold))),
        Written::Stood(None) => Ok(None),
    }
}

pub(super) async fn release(
    store: &DynamoStore,
    key: &SessionKey,
    hold: &Hold,
) -> Result<bool, Fault> {
    let write =
        written(key, hold, "", "#lease, #doorbell").value(":alive", number(hold.until.millis()));
    let done = store
        .write("release_session", &write, ReturnValue::None, Repeat::Safe)
        .await?;
    match done {
        Written::Done(_) => Ok(true),
        Written::Stood(stood) => {
            let stood = stood.map(session_of).transpose()?;
            // An earlier `hold` noted the written messages, but its response was lost. Release without noting them again.
            let noted = Hold {
                seen: after(hold),
                written: 0,
                bytes: 0,
                ..hold.clone()
            };
            match stood {
                Some(it) if hold.written > 0 && is_held(&it, hold) && it.removed == noted.seen => {
                    Box::pin(release(store, key, &noted)).await
                }
                stood => Ok(stood.is_some_and(|it| is_released(&it, hold))),
            }
        }
    }
}

fn is_held(session: &Session, hold: &Hold) -> bool {
    let lease = session.lease.as_ref();
    lease.is_some_and(|it| it.holder == hold.holder)
}

/// Returns true if an earlier attempt, whose response was lost, released the lease.
fn is_released(session: &Session, hold: &Hold) -> bool {
    session.lease.is_none() && session.removed == after(hold) && session.alive_until == hold.until
}

pub(super) async fn set_doorbell(store: &DynamoStore, bell: &Doorbell) -> Result<bool, Fault> {
    let write = Write::update(Key::session(&bell.key), "SET #doorbell = :doorbell")
        .when("#lease.#holder = :holder AND #token = :token")
        .value(":doorbell", text(bell.connection.as_str()))
        .value(":holder", text(bell.holder.as_str()))
        .value(":token", text(bell.token.as_str()));
    let done = store
        .write("set_doorbell", &write, ReturnValue::None, Repeat::Safe)
        .await?;
    Ok(matches!(done, Written::Done(_)))
}

/// Returns the write by which a receiver removes the front of the outbox. The condition includes the count of removed
/// messages, so that they are removed only once.
fn written(key: &SessionKey, hold: &Hold, set: &str, remove: &str) -> Write {
    let mut sets = vec![
        "#alive_until = :alive",
        "#removed = :removed",
        "#outbox_bytes = #outbox_bytes - :bytes",
    ];
    sets.extend((!set.is_empty()).then_some(set));
    // Short names, because the removal of a whole outbox has to fit into the 4 KiB of an expression
    // (docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html, 2026-08).
    // From the back: DynamoDB takes the indexes as they were before the update. An implementation that removes one element
    // after the other then does the same.
    let front = (0..hold.written).rev().map(|index| format!("#o[{index}]"));
    let gone: Vec<String> = front
        .chain((!remove.is_empty()).then(|| remove.to_owned()))
        .collect();
    let mut expression = format!("SET {}", sets.join(", "));
    if !gone.is_empty() {
        expression = format!("{expression} REMOVE {}", gone.join(", "));
    }
    let write = Write::update(Key::session(key), expression)
        .when("#lease.#holder = :holder AND #removed = :seen AND #alive_until > :now")
        .value(":now", number(hold.now.millis()))
        .value(":holder", text(hold.holder.as_str()))
        .value(":seen", number(hold.seen))
        .value(":removed", number(after(hold)))
        .value(":bytes", number(hold.bytes));
    if hold.written > 0 {
        write.name("#o", "outbox")
    } else {
        write
    }
}

fn after(hold: &Hold) -> u64 {
    let written = u64::try_from(hold.written).unwrap_or(u64::MAX);
    hold.seen.saturating_add(written)
}
