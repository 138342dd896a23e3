//! The entries of a log. They are written once and read singly or in slices.

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use protocol::{
    ConnectionId, Event, EventBody, LeaveReason, LogId, MessageId, SubscriberId, Timestamp,
    change::LogEntry, limits,
};
use serde::{Deserialize, Serialize};
use service::ports::{Fault, Slice};

use crate::{
    DynamoStore,
    client::Repeat,
    collections::{Query, Rest},
    items::{json, millis},
    keys::{Item, Key, Table},
    requests::{Written, decode},
    seconds_now,
    write::{Write, number, text},
};

const WHAT: &str = "an event";

#[derive(Serialize, Deserialize)]
struct EntryItem {
    sequence: u64,
    #[serde(with = "millis")]
    at: Timestamp,
    nonce: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<ConnectionId>,
    ttl: i64,
    #[serde(flatten)]
    body: BodyItem,
}

/// The body of an event, tagged by `kind`. JSON from clients is stored as the text that they sent.
#[derive(Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
enum BodyItem {
    Message {
        message_id: MessageId,
        from: SubscriberId,
        content: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attributes: Option<String>,
    },
    SubscriberJoined {
        subscriber: SubscriberId,
        administrator: bool,
    },
    SubscriberLeft {
        subscriber: SubscriberId,
        reason: LeaveReason,
    },
    AdministratorChanged {
        subscriber: SubscriberId,
        administrator: bool,
    },
    ChannelUpdated {
        name: String,
        attributes: String,
    },
    ChannelDeleted,
    Void,
}

/// Returns the write of an entry into its slot, conditional on the slot being empty.
pub(crate) fn put(log: &LogId, entry: &LogEntry) -> Result<Write, Fault> {
    let item = EntryItem::new(entry);
    Ok(Write::put(Key::event(log, entry.event.sequence), &item)?
        .when("attribute_not_exists(#channel) OR #ttl <= :now")
        .value(":now", number(seconds_now())))
}

pub(super) async fn put_unless_there(
    store: &DynamoStore,
    log: &LogId,
    entry: &LogEntry,
) -> Result<Result<(), LogEntry>, Fault> {
    let written = store
        .write(
            "put_entry",
            &put(log, entry)?,
            ReturnValue::None,
            Repeat::Safe,
        )
        .await?;
    match written {
        Written::Done(_) => Ok(Ok(())),
        Written::Stood(Some(item)) => Ok(Err(entry_of(item)?)),
        Written::Stood(None) => Err(Fault::Conflict),
    }
}

/// Removes the content of an entry. Its sequence, time and nonce stay.
pub(super) async fn void(
    store: &DynamoStore,
    log: &LogId,
    sequence: u64,
    nonce: &str,
) -> Result<(), Fault> {
    let write = Write::update(
        Key::event(log, sequence),
        "SET #kind = :void REMOVE #message_id, #from, #content, #attributes, #origin",
    )
    .when("#nonce = :nonce")
    .value(":void", text("void"))
    .value(":nonce", text(nonce));
    store
        .write("void_entry", &write, ReturnValue::None, Repeat::Safe)
        .await?;
    Ok(())
}

pub(super) async fn read(
    store: &DynamoStore,
    log: &LogId,
    sequence: u64,
) -> Result<Option<LogEntry>, Fault> {
    let item: Option<EntryItem> = store.get("entry", &Key::event(log, sequence), WHAT).await?;
    item.map(EntryItem::entry).transpose()
}

/// Reads the first entries after `after` and up to `until`.
///
/// Entries expire in the order of their sequences, apart from clock differences between functions. DynamoDB deletes them
/// only within days, so a busy log may have millions of expired entries. A binary search skips them instead of reading
/// them.
pub(super) async fn after(
    store: &DynamoStore,
    log: &LogId,
    after: u64,
    until: u64,
    limit: usize,
) -> Result<Slice, Fault> {
    let part = Part {
        store,
        log,
        pattern: "entries_after",
    };
    let (slice, rest) = part.between(after, until, limit).await?;
    match rest {
        Rest::Expired => match part.first_live(after, until).await? {
            Some(first) => Ok(part.between(first - 1, until, limit).await?.0),
            None => Ok(slice),
        },
        _ => Ok(slice),
    }
}

/// Reads the last entries before `before`. The read stops at the first page with an expired entry, because all earlier
/// entries have expired too.
pub(super) async fn before(
    store: &DynamoStore,
    log: &LogId,
    before: u64,
    limit: usize,
) -> Result<Slice, Fault> {
    let part = Part {
        store,
        log,
        pattern: "entries_before",
    };
    let range = vec![(":before", number(before))];
    let condition = "#channel = :log AND #sequence < :before";
    let (mut slice, _) = part.slice(condition, range, false, limit).await?;
    slice.entries.reverse();
    Ok(slice)
}

/// Reads ranges of one log.
struct Part<'a> {
    store: &'a DynamoStore,
    log: &'a LogId,
    pattern: &'static str,
}

impl Part<'_> {
    /// Reads the first entries after `after` and up to `until`.
    async fn between(&self, after: u64, until: u64, limit: usize) -> Result<(Slice, Rest), Fault> {
        // DynamoDB refuses a range that ends before it begins.
        if until <= after {
            let nothing = Slice {
                entries: Vec::new(),
                more: false,
            };
            return Ok((nothing, Rest::Nothing));
        }
        let range = vec![
            (":first", number(after.saturating_add(1))),
            (":last", number(until)),
        ];
        let condition = "#channel = :log AND #sequence BETWEEN :first AND :last";
        self.slice(condition, range, true, limit).await
    }

    /// Returns the first sequence after `after` and up to `until` whose entry has not expired. The binary search takes
    /// about twenty reads of one or two entries.
    async fn first_live(&self, mut after: u64, mut until: u64) -> Result<Option<u64>, Fault> {
        let mut first = None;
        while after < until {
            let middle = after + (until - after) / 2;
            let (slice, rest) = self.between(middle, until, 1).await?;
            match (slice.entries.first(), rest) {
                (Some(entry), _) => {
                    first = Some(entry.event.sequence);
                    until = middle;
                }
                // The entry has expired, and so have all before it.
                (None, Rest::Expired) => after = middle + 1,
                (None, _) => until = middle,
            }
        }
        Ok(first)
    }

    async fn slice(
        &self,
        condition: &str,
        mut values: Vec<(&'static str, AttributeValue)>,
        ascending: bool,
        limit: usize,
    ) -> Result<(Slice, Rest), Fault> {
        values.push((":log", text(self.log.to_string())));
        let query = Query {
            table: Table::Events,
            index: None,
            condition,
            projection: None,
            values,
            after: None,
            ascending,
        };
        let read = self.store.query_until(self.pattern, query, limit, true);
        let (found, rest) = read.await?;
        let entries = found.into_iter().map(entry_of).collect::<Result<_, _>>()?;
        let more = rest == Rest::More;
        Ok((Slice { entries, more }, rest))
    }
}

fn entry_of(item: Item) -> Result<LogEntry, Fault> {
    decode::<EntryItem>(item, WHAT)?.entry()
}

/// Returns the time to live of an item created at `at` and kept for `days`.
pub(super) fn ttl(at: Timestamp, days: i64) -> i64 {
    at.plus_seconds(days.saturating_mul(24 * 60 * 60))
        .seconds_up()
}

impl EntryItem {
    fn new(entry: &LogEntry) -> Self {
        let body = match &entry.event.body {
            EventBody::Message {
                message_id,
                from,
                content,
                attributes,
            } => BodyItem::Message {
                message_id: message_id.clone(),
                from: from.clone(),
                content: content.as_str().to_owned(),
                attributes: attributes.as_ref().map(|it| it.as_str().to_owned()),
            },
            EventBody::SubscriberJoined {
                subscriber_id,
                administrator,
            } => BodyItem::SubscriberJoined {
                subscriber: subscriber_id.clone(),
                administrator: *administrator,
            },
            EventBody::SubscriberLeft {
                subscriber_id,
                reason,
            } => BodyItem::SubscriberLeft {
                subscriber: subscriber_id.clone(),
                reason: *reason,
            },
            EventBody::AdministratorChanged {
                subscriber_id,
                administrator,
            } => BodyItem::AdministratorChanged {
                subscriber: subscriber_id.clone(),
                administrator: *administrator,
            },
            EventBody::ChannelUpdated { name, attributes } => BodyItem::ChannelUpdated {
                name: name.clone(),
                attributes: attributes.as_str().to_owned(),
            },
            EventBody::ChannelDeleted => BodyItem::ChannelDeleted,
            EventBody::Void => BodyItem::Void,
        };
        Self {
            sequence: entry.event.sequence,
            at: entry.event.timestamp,
            nonce: entry.nonce.clone(),
            origin: entry.origin.clone(),
            ttl: ttl(entry.event.timestamp, limits::HISTORY_DAYS),
            body,
        }
    }

    fn entry(self) -> Result<LogEntry, Fault> {
        let body = match self.body {
            BodyItem::Message {
                message_id,
                from,
                content,
                attributes,
            } => EventBody::Message {
                message_id,
                from,
                content: json(&content, WHAT)?,
                attributes: attributes.map(|it| json(&it, WHAT)).transpose()?,
            },
            BodyItem::SubscriberJoined {
                subscriber,
                administrator,
            } => EventBody::SubscriberJoined {
                subscriber_id: subscriber,
                administrator,
            },
            BodyItem::SubscriberLeft { subscriber, reason } => EventBody::SubscriberLeft {
                subscriber_id: subscriber,
                reason,
            },
            BodyItem::AdministratorChanged {
                subscriber,
                administrator,
            } => EventBody::AdministratorChanged {
                subscriber_id: subscriber,
                administrator,
            },
            BodyItem::ChannelUpdated { name, attributes } => EventBody::ChannelUpdated {
                name,
                attributes: json(&attributes, WHAT)?,
            },
            BodyItem::ChannelDeleted => EventBody::ChannelDeleted,
            BodyItem::Void => EventBody::Void,
        };
        Ok(LogEntry {
            event: Event {
                sequence: self.sequence,
                timestamp: self.at,
                body,
            },
            nonce: self.nonce,
            origin: self.origin,
        })
    }
}
