//! Translates a change into the writes of one transaction.

use aws_sdk_dynamodb::types::AttributeValue;
use protocol::{
    ChannelKey, Subscriber, SubscriberId, Timestamp,
    change::{Change, Replace, RowChange},
};
use serde::Serialize;
use service::ports::Fault;

use super::items::{FormerItem, InvitationItem, JoinedItem, MemberItem, ProfileItem, RosterItem};
use crate::{
    keys::Key,
    logs::{HeadItem, put_entry},
    write::{Write, number},
};

/// How long the tombstone of a former member is kept: longer than any drain of the events that it still receives.
const TOMBSTONE_SECONDS: i64 = 24 * 60 * 60;

pub(super) fn writes(change: &Change) -> Result<Vec<Write>, Fault> {
    let channel = &change.channel;
    let log = channel.log();
    let mut writes = Vec::new();
    for entry in &change.entries {
        writes.push(put_entry(&log, entry)?);
    }
    if let Some(sequence) = change.head {
        let head = HeadItem::new(&log, sequence, change.at);
        let write = Write::put(Key::head(&log), &head)?;
        writes.push(write.when("attribute_not_exists(#channel)"));
    }
    if let Some(Replace { expect, to }) = &change.roster {
        let item = RosterItem::from(*to);
        writes.push(replace(Key::roster(channel), *expect, &item)?);
    }
    if let Some(Replace { expect, to }) = &change.profile {
        let item = ProfileItem::new(to);
        writes.push(replace(Key::profile(channel), *expect, &item)?);
    }
    for row in &change.rows {
        writes.extend(row_writes(channel, change.at, row)?);
    }
    Ok(writes)
}

/// Returns the write of a new version of an item, conditional on the version that was read. `None` means no item.
fn replace(key: Key, expect: Option<u64>, item: &impl Serialize) -> Result<Write, Fault> {
    let write = Write::put(key, item)?;
    Ok(match expect {
        None => write.when("attribute_not_exists(#channel)"),
        Some(version) => write
            .when("#version = :version")
            .value(":version", number(version)),
    })
}

fn row_writes(channel: &ChannelKey, at: Timestamp, row: &RowChange) -> Result<Vec<Write>, Fault> {
    let own = |id: &SubscriberId| Subscriber {
        domain: channel.domain.clone(),
        id: id.clone(),
    };
    Ok(match row {
        RowChange::Joined {
            subscriber,
            administrator,
            sequence,
        } => {
            let member = MemberItem::new(*administrator, *sequence);
            let joined = JoinedItem { joined: *sequence };
            vec![
                Write::put(Key::member(channel, subscriber), &member)?
                    .when("attribute_not_exists(#channel) OR attribute_exists(#left)"),
                Write::put(Key::seniority(channel, *sequence, subscriber), &joined)?,
                Write::put(Key::membership(&own(subscriber), &channel.id), &joined)?,
                Write::delete(Key::invitation(&own(subscriber), &channel.id)),
            ]
        }
        RowChange::Left {
            subscriber,
            administrator,
            joined,
            sequence,
        } => {
            let ttl = at.plus_seconds(TOMBSTONE_SECONDS).seconds_up();
            let tombstone = Write::update(
                Key::member(channel, subscriber),
                "SET #left = :left, #ttl = :ttl",
            )
            .value(":left", number(*sequence))
            .value(":ttl", number(ttl));
            vec![
                since(tombstone, *joined, *administrator),
                Write::delete(Key::seniority(channel, *joined, subscriber)),
                Write::delete(Key::membership(&own(subscriber), &channel.id)),
                Write::put(
                    Key::former_membership(&own(subscriber), &channel.id),
                    &FormerItem::new(at),
                )?,
            ]
        }
        RowChange::Administrator {
            subscriber,
            joined,
            administrator,
        } => {
            let right = Write::update(
                Key::member(channel, subscriber),
                "SET #administrator = :administrator",
            )
            .value(":administrator", AttributeValue::Bool(*administrator));
            vec![since(right, *joined, !administrator)]
        }
        RowChange::Administers { subscriber, joined } => {
            let check = Write::check(Key::member(channel, subscriber));
            vec![since(check, *joined, true)]
        }
        RowChange::Invited { subscriber, from } => {
            let item = InvitationItem::new(from.as_ref(), at);
            vec![
                // A subscriber that joined meanwhile must not keep an invitation: it could rejoin with it after a removal.
                Write::check(Key::member(channel, subscriber))
                    .when("attribute_not_exists(#channel) OR attribute_exists(#left)"),
                Write::put(Key::invitation(&own(subscriber), &channel.id), &item)?,
            ]
        }
        RowChange::Uninvited { subscriber } => {
            vec![Write::delete(Key::invitation(
                &own(subscriber),
                &channel.id,
            ))]
        }
    })
}

/// Makes a write conditional on a current member that joined at `joined` and has the given role.
fn since(write: Write, joined: u64, administrator: bool) -> Write {
    write
        .when("#joined = :joined AND #administrator = :was AND attribute_not_exists(#left)")
        .value(":joined", number(joined))
        .value(":was", AttributeValue::Bool(administrator))
}
