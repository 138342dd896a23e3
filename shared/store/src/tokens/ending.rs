//! The sparse index of the minutes in which tokens and connections end, and the checkpoint of the expiry run.

use aws_sdk_dynamodb::types::ReturnValue;
use protocol::Timestamp;
use serde::{Deserialize, Serialize};
use service::ports::{Ending, ExpiryCheckpoint, Fault, Minute, Page, TokenHash, TokenState};

use crate::{
    DynamoStore,
    client::Repeat,
    collections::Query,
    items::millis,
    keys::{self, Key, Table},
    write::{Write, map, number},
};

/// The name of the index, and of its key attribute.
const INDEX: &str = "ends-minute";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct CheckpointItem {
    minute: i64,
    #[serde(with = "millis")]
    warned: Timestamp,
}

pub(super) async fn settle(store: &DynamoStore, hash: &TokenHash) -> Result<(), Fault> {
    let write = Write::update(Key::token(hash), "REMOVE #ends_minute")
        .when("#state = :invalidated")
        .value(":invalidated", map(&TokenState::Invalidated)?);
    store
        .write("settle_token", &write, ReturnValue::None, Repeat::Safe)
        .await?;
    Ok(())
}

pub(super) async fn ending(
    store: &DynamoStore,
    minute: Minute,
    after: Option<&Ending>,
    limit: usize,
) -> Result<Page<Ending>, Fault> {
    let minute = number(minute.number());
    // Several items have the same index key, so the start key also needs the table's key.
    let after = after.map(|ending| {
        let mut key = Key::ending(ending).attributes();
        key.insert(INDEX.to_owned(), minute.clone());
        key
    });
    let query = Query {
        table: Table::Tokens,
        index: Some(INDEX),
        condition: "#ends_minute = :minute",
        projection: None,
        values: vec![(":minute", minute)],
        after,
        ascending: true,
    };
    let (found, more) = store.query("ending", query, limit).await?;
    let items = found
        .iter()
        .map(|item| {
            keys::ending(item)
                .ok_or_else(|| Fault::Corrupt("key without a token or connection".to_owned()))
        })
        .collect::<Result<_, _>>()?;
    Ok(Page { items, more })
}

pub(super) async fn checkpoint(store: &DynamoStore) -> Result<Option<ExpiryCheckpoint>, Fault> {
    let key = Key::expiry_checkpoint();
    let item: Option<CheckpointItem> = store.get("expiry_checkpoint", &key, "a checkpoint").await?;
    Ok(item.map(|item| ExpiryCheckpoint {
        minute: Minute::from_stored(item.minute),
        warned: item.warned,
    }))
}

pub(super) async fn set_checkpoint(
    store: &DynamoStore,
    checkpoint: &ExpiryCheckpoint,
) -> Result<(), Fault> {
    let item = CheckpointItem {
        minute: checkpoint.minute.number(),
        warned: checkpoint.warned,
    };
    let write = Write::put(Key::expiry_checkpoint(), &item)?;
    store
        .write(
            "set_expiry_checkpoint",
            &write,
            ReturnValue::None,
            Repeat::Safe,
        )
        .await?;
    Ok(())
}
