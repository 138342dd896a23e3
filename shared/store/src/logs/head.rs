//! The head of a log. It is created once and then only updated.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::ReturnValue;
use protocol::{LogId, ReadCursors, Subscriber, SubscriberId, Timestamp, model::DeliveryStatus};
use serde::{Deserialize, Serialize};
use service::ports::{AllocateError, Allocation, Fault, Head, Lease};

use crate::{
    DynamoStore,
    client::Repeat,
    items::millis,
    keys::{self, Key},
    read_cursor::{self, READ_CURSORS},
    requests::{Written, decode},
    write::{Write, map, number},
};

pub(super) const WHAT: &str = "a head";

/// A head as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct HeadItem {
    state: State,
    sequence: u64,
    sent: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<LeaseItem>,
    #[serde(with = "millis")]
    allocated_at: Timestamp,
    /// The log's shard while it may have events that were not pushed. This is the key of the sparse index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    undrained: Option<u32>,
    /// In milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    removal_at: Option<i64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    horizons: BTreeMap<SubscriberId, ReadCursors>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Active,
    Deleted,
}

#[derive(Serialize, Deserialize)]
pub(super) struct LeaseItem {
    holder: String,
    #[serde(with = "millis")]
    until: Timestamp,
}

impl HeadItem {
    /// The head of a new log whose first `sequence` events are committed together with it and not pushed yet.
    pub(crate) fn new(log: &LogId, sequence: u64, at: Timestamp) -> Self {
        let horizons = match log {
            LogId::Channel(_) => BTreeMap::new(),
            LogId::Direct { low, high, .. } => [low, high]
                .map(|id| (id.clone(), ReadCursors::default()))
                .into(),
        };
        Self {
            state: State::Active,
            sequence,
            sent: 0,
            lease: None,
            allocated_at: at,
            undrained: (sequence > 0).then(|| keys::shard(log)),
            removal_at: None,
            horizons,
        }
    }
}

impl LeaseItem {
    pub(super) fn new(lease: &Lease) -> Self {
        Self {
            holder: lease.holder.clone(),
            until: lease.until,
        }
    }
}

impl From<HeadItem> for Head {
    fn from(item: HeadItem) -> Self {
        Self {
            active: item.state == State::Active,
            sequence: item.sequence,
            sent: item.sent,
            lease: item.lease.map(|it| Lease {
                holder: it.holder,
                until: it.until,
            }),
            allocated_at: item.allocated_at,
            read_cursors: item.horizons,
            removal_at: item.removal_at.map(Timestamp::from_millis),
        }
    }
}

pub(super) async fn allocate(
    store: &DynamoStore,
    log: &LogId,
    allocation: &Allocation,
) -> Result<Head, AllocateError> {
    let mut update = "SET #sequence = #sequence + :count, #allocated_at = :at, \
        #lease = if_not_exists(#lease, :lease), #undrained = if_not_exists(#undrained, :shard)"
        .to_owned();
    if allocation.close {
        update.push_str(", #state = :deleted");
    }
    if allocation.removal {
        update.push_str(", #removal_at = :at");
    }
    let mut write = Write::update(Key::head(log), update)
        .when("#state = :active")
        .value(":active", map(&State::Active)?)
        .value(":count", number(allocation.count))
        .value(":at", number(allocation.at.millis()))
        .value(":lease", map(&LeaseItem::new(&allocation.lease))?)
        .value(":shard", number(keys::shard(log)));
    if allocation.close {
        write = write.value(":deleted", map(&State::Deleted)?);
    }
    let written = store
        .write("allocate", &write, ReturnValue::AllNew, Repeat::Never)
        .await?;
    match written {
        Written::Done(item) => Ok(decode::<HeadItem>(item, WHAT)?.into()),
        Written::Stood(_) => Err(AllocateError::NotActive),
    }
}

/// Creates both subscribers' rows before the head, so that every reader who finds the head also finds the rows.
pub(super) async fn create_direct(
    store: &DynamoStore,
    log: &LogId,
    now: Timestamp,
) -> Result<(), Fault> {
    let LogId::Direct { domain, low, high } = log else {
        return Err(Fault::Corrupt("not a direct conversation".to_owned()));
    };
    let row = |id: &SubscriberId, peer: &SubscriberId| {
        let subscriber = Subscriber {
            domain: domain.clone(),
            id: id.clone(),
        };
        let nothing: BTreeMap<String, String> = BTreeMap::new();
        Write::put(Key::conversation(&subscriber, peer), &nothing)
    };
    let (one, other) = (row(low, high)?, row(high, low)?);
    futures::try_join!(
        store.write("create_direct", &one, ReturnValue::None, Repeat::Safe),
        store.write("create_direct", &other, ReturnValue::None, Repeat::Safe),
    )?;
    let head = Write::put(Key::head(log), &HeadItem::new(log, 0, now))?
        .when("attribute_not_exists(#channel)");
    store
        .write("create_direct", &head, ReturnValue::None, Repeat::Safe)
        .await?;
    Ok(())
}

pub(super) async fn raise_read_cursor(
    store: &DynamoStore,
    log: &LogId,
    subscriber: &SubscriberId,
    status: DeliveryStatus,
    sequence: u64,
) -> Result<bool, Fault> {
    let implied = match status {
        DeliveryStatus::Stored => return Ok(false),
        DeliveryStatus::Received => 1,
        DeliveryStatus::Displayed => 2,
        DeliveryStatus::Read => 3,
    };
    let cursors = READ_CURSORS.get(..implied).unwrap_or(&READ_CURSORS);
    read_cursor::raise(
        store,
        "raise_direct_read_cursor",
        cursors,
        "#horizons.#id.",
        sequence,
        |update, condition| {
            Write::update(Key::head(log), update)
                .when(condition)
                .name("#id", subscriber.as_str())
        },
        |item| {
            let head: HeadItem = decode(item, WHAT)?;
            Ok(head.horizons.get(subscriber).copied())
        },
    )
    .await
}
