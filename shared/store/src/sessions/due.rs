//! The sparse index of the minutes in which sessions are to be checked, and the removal of dead sessions.

use aws_sdk_dynamodb::types::ReturnValue;
use protocol::Timestamp;
use service::ports::{Fault, Minute, Page, SessionId, SessionKey};

use crate::{
    DynamoStore,
    client::Repeat,
    collections::Query,
    keys::{Key, Table},
    write::{Write, number, text},
};

pub(super) async fn due(
    store: &DynamoStore,
    minute: Minute,
    after: Option<&SessionKey>,
    limit: usize,
) -> Result<Page<SessionKey>, Fault> {
    let mut values = vec![(":minute", number(minute.number()))];
    let mut condition = "#due_minute = :minute";
    if let Some(after) = after {
        condition = "#due_minute = :minute AND #session > :after";
        values.push((":after", text(after.as_str())));
    }
    let query = Query {
        table: Table::Sessions,
        index: Some("due-minute"),
        condition,
        projection: None,
        values,
        after: None,
        ascending: true,
    };
    let (found, more) = store.query("due_sessions", query, limit).await?;
    let (partition, _) = Table::Sessions.attributes();
    let items = found
        .iter()
        .map(|item| {
            let key = item.get(partition).and_then(|key| key.as_s().ok());
            key.map(|key| SessionKey::from_stored(key.clone()))
                .ok_or_else(|| Fault::Corrupt("key without a valid session".to_owned()))
        })
        .collect::<Result<_, _>>()?;
    Ok(Page { items, more })
}

pub(super) async fn postpone(
    store: &DynamoStore,
    id: &SessionId,
    minute: Minute,
) -> Result<(), Fault> {
    let write = Write::update(Key::session(&id.key), "SET #due_minute = :minute")
        .when("#incarnation = :incarnation")
        .value(":minute", number(minute.number()))
        .value(":incarnation", text(id.incarnation.as_str()));
    store
        .write("postpone_session", &write, ReturnValue::None, Repeat::Safe)
        .await?;
    Ok(())
}

pub(super) async fn forget(
    store: &DynamoStore,
    id: &SessionId,
    now: Timestamp,
) -> Result<(), Fault> {
    let write = Write::delete(Key::session(&id.key))
        .when("#incarnation = :incarnation AND #alive_until <= :now")
        .value(":incarnation", text(id.incarnation.as_str()))
        .value(":now", number(now.millis()));
    store
        .write("forget_session", &write, ReturnValue::None, Repeat::Safe)
        .await?;
    Ok(())
}
