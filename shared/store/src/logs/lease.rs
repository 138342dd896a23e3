//! The lease of a log, how far the log was pushed, and the index of logs that are not fully pushed.

use aws_sdk_dynamodb::types::ReturnValue;
use protocol::{LogId, Timestamp};
use service::ports::{Fault, Head, Lease, Page};

use super::head::{HeadItem, LeaseItem, WHAT};
use crate::{
    DynamoStore,
    client::Repeat,
    collections::Query,
    keys::{self, Key, Table},
    requests::{Written, decode},
    write::{Write, map, number, text},
};

pub(super) async fn renew(
    store: &DynamoStore,
    log: &LogId,
    holder: &str,
    until: Timestamp,
    sent: u64,
) -> Result<Option<Head>, Fault> {
    let write = Write::update(Key::head(log), "SET #lease.#until = :until, #sent = :sent")
        .when("#lease.#holder = :holder")
        .value(":holder", text(holder))
        .value(":until", number(until.millis()))
        .value(":sent", number(sent));
    let written = store
        .write("renew", &write, ReturnValue::AllNew, Repeat::Safe)
        .await?;
    match written {
        Written::Done(item) => Ok(Some(decode::<HeadItem>(item, WHAT)?.into())),
        Written::Stood(_) => Ok(None),
    }
}

pub(super) async fn release(
    store: &DynamoStore,
    log: &LogId,
    holder: &str,
    sent: u64,
) -> Result<bool, Fault> {
    let write = Write::update(Key::head(log), "SET #sent = :sent REMOVE #lease")
        .when("#lease.#holder = :holder AND #sequence <= :sent")
        .value(":holder", text(holder))
        .value(":sent", number(sent));
    let written = store
        .write("release", &write, ReturnValue::None, Repeat::Never)
        .await?;
    Ok(matches!(written, Written::Done(_)))
}

pub(super) async fn take(
    store: &DynamoStore,
    log: &LogId,
    old: Option<&Lease>,
    new: &Lease,
) -> Result<Option<Head>, Fault> {
    let write = Write::update(Key::head(log), "SET #lease = :lease")
        .value(":lease", map(&LeaseItem::new(new))?);
    let write = match old {
        Some(old) => write
            .when("#lease.#holder = :holder AND #lease.#until = :until")
            .value(":holder", text(old.holder.as_str()))
            .value(":until", number(old.until.millis())),
        None => write.when("attribute_exists(#channel) AND attribute_not_exists(#lease)"),
    };
    let written = store
        .write("take_lease", &write, ReturnValue::AllNew, Repeat::Never)
        .await?;
    match written {
        Written::Done(item) => Ok(Some(decode::<HeadItem>(item, WHAT)?.into())),
        Written::Stood(_) => Ok(None),
    }
}

pub(super) async fn undrained(
    store: &DynamoStore,
    shard: u32,
    after: Option<&LogId>,
    limit: usize,
) -> Result<Page<LogId>, Fault> {
    let mut values = vec![(":shard", number(shard))];
    let mut condition = "#undrained = :shard";
    if let Some(after) = after {
        condition = "#undrained = :shard AND #channel > :after";
        values.push((":after", text(after.to_string())));
    }
    let query = Query {
        table: Table::Channels,
        index: Some("undrained"),
        condition,
        projection: None,
        values,
        after: None,
        ascending: true,
    };
    let (found, more) = store.query("undrained", query, limit).await?;
    let items = found
        .iter()
        .map(|item| {
            item.get(Table::Channels.attributes().0)
                .and_then(|partition| partition.as_s().ok())
                .and_then(|partition| keys::log(partition))
                .ok_or_else(|| Fault::Corrupt("key without a valid log id".to_owned()))
        })
        .collect::<Result<_, _>>()?;
    Ok(Page { items, more })
}

pub(super) async fn settle(store: &DynamoStore, log: &LogId) -> Result<bool, Fault> {
    let write = Write::update(Key::head(log), "REMOVE #undrained").when("#sent >= #sequence");
    let written = store
        .write("settle", &write, ReturnValue::None, Repeat::Safe)
        .await?;
    Ok(matches!(written, Written::Done(_)))
}
