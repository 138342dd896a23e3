//! The outbox of a session, and closing the session.

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use protocol::{ConnectionId, Timestamp};
use service::ports::{Closing, Fault, OUTBOX_BYTES, OUTBOX_MESSAGES, Pushed, Session, SessionId};

use super::{item::ClosingItem, session_of};
use crate::{
    DynamoStore,
    client::Repeat,
    keys::{Item, Key},
    requests::Written,
    write::{Write, map, number, text},
};

pub(super) async fn push(
    store: &DynamoStore,
    id: &SessionId,
    messages: &[&str],
    now: Timestamp,
) -> Result<Pushed, Fault> {
    let bytes: usize = messages.iter().map(|it| it.len()).sum();
    let (Some(room), Some(slots)) = (
        OUTBOX_BYTES.checked_sub(bytes),
        OUTBOX_MESSAGES.checked_sub(messages.len()),
    ) else {
        return Ok(Pushed::Full);
    };
    let list = messages.iter().map(|it| text(*it)).collect();
    let write = Write::update(
        Key::session(&id.key),
        "SET #outbox = list_append(#outbox, :messages), #outbox_bytes = #outbox_bytes + :bytes",
    )
    .when(
        "#incarnation = :incarnation AND #alive_until > :now AND attribute_not_exists(#closing) AND \
         #outbox_bytes <= :room AND size(#outbox) <= :slots",
    )
    .value(":messages", AttributeValue::L(list))
    .value(":bytes", number(bytes))
    .value(":incarnation", text(id.incarnation.as_str()))
    .value(":now", number(now.millis()))
    .value(":room", number(room))
    .value(":slots", number(slots));
    // Never repeated: a second execution would append the messages twice.
    let written = store
        .write(
            "push_to_session",
            &write,
            ReturnValue::AllOld,
            Repeat::Never,
        )
        .await?;
    match written {
        Written::Done(item) => session_of(item).map(|it| Pushed::Waiting(it.doorbell)),
        Written::Stood(stood) => {
            let open = this(stood, id)?.is_some_and(|it| it.is_open(now));
            Ok(if open { Pushed::Full } else { Pushed::Gone })
        }
    }
}

pub(super) async fn close(
    store: &DynamoStore,
    id: &SessionId,
    closing: &Closing,
    now: Timestamp,
) -> Result<Option<ConnectionId>, Fault> {
    let write = Write::update(Key::session(&id.key), "SET #closing = :closing")
        .when(
            "#incarnation = :incarnation AND #alive_until > :now AND attribute_not_exists(#closing)",
        )
        .value(":closing", map(&ClosingItem::new(closing))?)
        .value(":incarnation", text(id.incarnation.as_str()))
        .value(":now", number(now.millis()));
    let written = store
        .write("close_session", &write, ReturnValue::AllOld, Repeat::Safe)
        .await?;
    let session = match written {
        Written::Done(item) => Some(session_of(item)?),
        Written::Stood(stood) => this(stood, id)?,
    };
    Ok(session.and_then(|it| it.doorbell))
}

/// Returns the existing session if it is the same incarnation.
fn this(stood: Option<Item>, id: &SessionId) -> Result<Option<Session>, Fault> {
    let stood = stood.map(session_of).transpose()?;
    Ok(stood.filter(|it| it.incarnation == id.incarnation))
}
