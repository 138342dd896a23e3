//! A change of a channel: first every condition is checked, then every write is applied.

use std::collections::BTreeSet;

use protocol::{
    ChannelKey, Subscriber, SubscriberId, Timestamp,
    change::{Change, Invitation, Member, Replace, RowChange},
};
use service::ports::Fault;

use super::state::{DAY_SECONDS, MemberRow, State, Ttl};

/// How many items one transaction takes (TransactWriteItems: 100 items,
/// docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html, 2026-08).
const TRANSACTION_ITEMS: usize = 100;

/// Fails with [`Fault::Conflict`] if a condition of `change` does not hold.
pub(super) fn check(state: &mut State, change: &Change, now: Timestamp) -> Result<(), Fault> {
    check_items(change)?;
    let log = change.channel.log();
    let taken = change
        .entries
        .iter()
        .any(|entry| state.entry(&log, entry.event.sequence, now).is_some());
    let head_there = change.head.is_some() && state.heads.contains_key(&log);
    let channel = state.channel_mut(&change.channel);
    let roster = channel.roster.map(|it| it.version);
    let profile = channel.profile.as_ref().map(|it| it.version);
    let rows_hold = change.rows.iter().all(|row| match row {
        RowChange::Joined { subscriber, .. } => channel.current(subscriber).is_none(),
        RowChange::Left {
            subscriber,
            administrator: was,
            joined,
            ..
        } => channel
            .current(subscriber)
            .is_some_and(|it| (it.joined, it.administrator) == (*joined, *was)),
        RowChange::Administrator {
            subscriber,
            joined,
            administrator,
        } => channel
            .current(subscriber)
            .is_some_and(|it| (it.joined, it.administrator) == (*joined, !administrator)),
        RowChange::Administers { subscriber, joined } => channel
            .current(subscriber)
            .is_some_and(|it| (it.joined, it.administrator) == (*joined, true)),
        RowChange::Invited { subscriber, .. } => channel.current(subscriber).is_none(),
        RowChange::Uninvited { .. } => true,
    });
    let holds = !taken
        && !head_there
        && rows_hold
        && stands(change.roster.as_ref(), roster)
        && stands(change.profile.as_ref(), profile);
    if holds { Ok(()) } else { Err(Fault::Conflict) }
}

fn stands<T>(replace: Option<&Replace<T>>, version: Option<u64>) -> bool {
    replace.is_none_or(|it| it.expect == version)
}

/// Fails if DynamoDB would reject the transaction, which is a defect of the caller.
fn check_items(change: &Change) -> Result<(), Fault> {
    let mut items: Vec<String> = change
        .entries
        .iter()
        .map(|entry| format!("event {}", entry.event.sequence))
        .collect();
    items.extend(change.head.map(|_| "head".to_owned()));
    items.extend(change.roster.as_ref().map(|_| "roster".to_owned()));
    items.extend(change.profile.as_ref().map(|_| "profile".to_owned()));
    for row in &change.rows {
        let (subscriber, sides): (_, &[&str]) = match row {
            RowChange::Joined { subscriber, .. } => (
                subscriber,
                &["member", "seniority", "channel", "invitation"],
            ),
            RowChange::Left { subscriber, .. } => {
                (subscriber, &["member", "seniority", "channel", "former"])
            }
            RowChange::Administrator { subscriber, .. }
            | RowChange::Administers { subscriber, .. } => (subscriber, &["member"]),
            RowChange::Invited { subscriber, .. } => (subscriber, &["member", "invitation"]),
            RowChange::Uninvited { subscriber } => (subscriber, &["invitation"]),
        };
        items.extend(sides.iter().map(|side| format!("{side} of {subscriber}")));
    }
    let distinct: BTreeSet<&String> = items.iter().collect();
    if distinct.len() < items.len() || items.len() > TRANSACTION_ITEMS {
        return Err(Fault::Refused(format!(
            "more than {TRANSACTION_ITEMS} items or a repeated item in one transaction: {items:?}"
        )));
    }
    Ok(())
}

/// Applies a change that was checked.
pub(super) fn apply(state: &mut State, change: &Change) {
    let log = change.channel.log();
    for entry in &change.entries {
        state.put_entry(&log, entry);
    }
    if let Some(sequence) = change.head {
        state.put_head(&log, sequence, change.at);
    }
    let channel = state.channel_mut(&change.channel);
    if let Some(Replace { to, .. }) = &change.roster {
        channel.roster = Some(*to);
    }
    if let Some(Replace { to, .. }) = &change.profile {
        channel.profile = Some(to.clone());
    }
    for row in &change.rows {
        apply_row(state, &change.channel, change.at, row);
    }
}

fn apply_row(state: &mut State, key: &ChannelKey, at: Timestamp, row: &RowChange) {
    let person = |id: &SubscriberId| Subscriber {
        domain: key.domain.clone(),
        id: id.clone(),
    };
    match row {
        RowChange::Joined {
            subscriber,
            administrator,
            sequence,
        } => {
            let channel = state.channel_mut(key);
            let member = Member {
                subscriber: subscriber.clone(),
                administrator: *administrator,
                joined: *sequence,
                left: None,
                displayed: 0,
                read: 0,
            };
            let row = MemberRow { member, ttl: None };
            channel.members.insert(subscriber.clone(), row);
            channel.joined.insert((*sequence, subscriber.clone()));
            let person = state.person_mut(&person(subscriber));
            person.channels.insert(key.id.clone());
            person.invitations.remove(&key.id);
        }
        RowChange::Left {
            subscriber,
            joined,
            sequence,
            ..
        } => {
            let channel = state.channel_mut(key);
            channel.joined.remove(&(*joined, subscriber.clone()));
            if let Some(row) = channel.members.get_mut(subscriber) {
                row.member.left = Some(*sequence);
                row.ttl = Some(Ttl::after(at, DAY_SECONDS));
            }
            let person = state.person_mut(&person(subscriber));
            person.channels.remove(&key.id);
            let days = protocol::limits::HISTORY_DAYS + 1;
            person
                .former
                .insert(key.id.clone(), Ttl::after(at, days * DAY_SECONDS));
        }
        RowChange::Administrator {
            subscriber,
            administrator,
            ..
        } => {
            if let Some(member) = state.channel_mut(key).current(subscriber) {
                member.administrator = *administrator;
            }
        }
        RowChange::Administers { .. } => {}
        RowChange::Invited { subscriber, from } => {
            let invitation = Invitation {
                channel: key.id.clone(),
                from: from.clone(),
                at,
            };
            let person = state.person_mut(&person(subscriber));
            person.invitations.insert(key.id.clone(), invitation);
        }
        RowChange::Uninvited { subscriber } => {
            let person = state.person_mut(&person(subscriber));
            person.invitations.remove(&key.id);
        }
    }
}
