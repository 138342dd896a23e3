//! Checks of the stored data: logs, rosters, messages, read cursors.

use std::collections::BTreeMap;

use protocol::{EventBody, LeaveReason, LogId, SubscriberId, change::LogEntry};
use service::ports::Channels as _;

use super::{Broken, Log, Run, ensure};

impl Run<'_> {
    /// Checks everything that is stored.
    pub(super) fn check_stored(&self, logs: &BTreeMap<LogId, Log>) -> Result<(), Broken> {
        for (id, log) in logs {
            self.log_is_whole(id, log)?;
            if let LogId::Channel(_) = id {
                self.roster_agrees(id, log)?;
                removed_members_write_nothing(id, log)?;
            }
        }
        self.messages_are_one_event(logs)?;
        self.read_cursors_stay()
    }

    /// Invariant 5: sequences from 1 without a gap, all pushed. A holder that died after the last push may leave its
    /// lease, which ends by itself.
    fn log_is_whole(&self, id: &LogId, log: &Log) -> Result<(), Broken> {
        let sequences: Vec<u64> = log.entries.iter().map(|it| it.event.sequence).collect();
        let expected: Vec<u64> = (1..=log.end()).collect();
        ensure(sequences == expected, || {
            format!("(5) {id} has {sequences:?}")
        })?;
        let Some(head) = self.world.find_head(id) else {
            return ensure(log.entries.is_empty(), || format!("(5) {id} has no head"));
        };
        let reads = head
            .read_cursors
            .values()
            .map(|it| it.read.max(it.displayed));
        ensure(reads.max().unwrap_or(0) <= log.end(), || {
            format!("(7) a read cursor is beyond the end of {id}: {head:?}")
        })?;
        ensure(
            head.sequence == log.end() && head.sent == head.sequence,
            || format!("(5) {id} ends at {}, its head is {head:?}", log.end()),
        )
    }

    /// Invariant 14. The log must also agree with the rows.
    fn roster_agrees(&self, id: &LogId, log: &Log) -> Result<(), Broken> {
        let LogId::Channel(key) = id.clone() else {
            return Ok(());
        };
        let service = self.world.service.clone();
        let (rows, roster) = self.world.run(async move {
            let rows = service.store.members(&key, None, 1_000).await;
            (
                rows.unwrap().items,
                service.store.roster(&key).await.unwrap(),
            )
        });
        let rows: BTreeMap<SubscriberId, bool> = rows
            .into_iter()
            .filter(|it| it.is_current())
            .map(|it| (it.subscriber, it.administrator))
            .collect();
        let administrators = rows.values().filter(|it| **it).count();
        ensure(rows.is_empty() || administrators > 0, || {
            format!("(14) {id} has no administrator: {rows:?}")
        })?;
        let counted = roster.map_or((0, 0), |it| (it.members, it.administrators));
        let there = (
            u64::try_from(rows.len()).unwrap(),
            u64::try_from(administrators).unwrap(),
        );
        ensure(counted == there, || {
            format!("(14) {id} counts {counted:?}, has {there:?}")
        })?;
        // Its last slot may have been voided, but the channel has ended all the same.
        if !roster.is_some_and(|it| it.open) {
            return ensure(rows.is_empty(), || {
                format!("(14) {id} has ended with {rows:?}")
            });
        }
        let mut replayed = BTreeMap::new();
        for entry in &log.entries {
            match &entry.event.body {
                EventBody::SubscriberJoined {
                    subscriber_id,
                    administrator,
                }
                | EventBody::AdministratorChanged {
                    subscriber_id,
                    administrator,
                } => {
                    replayed.insert(subscriber_id.clone(), *administrator);
                }
                EventBody::SubscriberLeft { subscriber_id, .. } => {
                    replayed.remove(subscriber_id);
                }
                _ => {}
            }
        }
        ensure(replayed == rows, || {
            format!("(5) {id}'s log ends with {replayed:?}, its rows are {rows:?}")
        })
    }

    /// Invariants 7, 8, 11, 12: an acknowledged message is in its slot and nowhere else. A message sent too late is
    /// nowhere.
    fn messages_are_one_event(&self, logs: &BTreeMap<LogId, Log>) -> Result<(), Broken> {
        let mut slots: BTreeMap<&str, Vec<(&LogId, &LogEntry)>> = BTreeMap::new();
        for (id, log) in logs {
            for entry in &log.entries {
                let EventBody::Message { content, .. } = &entry.event.body else {
                    continue;
                };
                let said = content.as_str().trim_matches('"');
                slots.entry(said).or_default().push((id, entry));
                ensure(said.starts_with(&format!("{}/", id.domain())), || {
                    format!("(11) {id} has {content:?}")
                })?;
                ensure(!self.shared.forbidden.borrow().contains(said), || {
                    format!("(12) {said} was accepted although the token was invalid")
                })?;
            }
        }
        for (said, entries) in &slots {
            ensure(entries.len() == 1, || {
                format!("(8) {said} is more than one event: {entries:?}")
            })?;
        }
        for stored in self.shared.stored.borrow().iter() {
            if self.shared.erased.borrow().contains(&stored.from) {
                continue;
            }
            let said = stored.message["content"].as_str().unwrap();
            let (log, entry) = slots
                .get(said)
                .and_then(|it| it.first())
                .ok_or_else(|| format!("(7) {stored:?} is in no log"))?;
            ensure(
                **log == stored.log && entry.event.sequence == stored.sequence,
                || format!("(8) {stored:?} is stored as {entry:?} of {log}"),
            )?;
        }
        Ok(())
    }

    /// Messages that were acknowledged as read stay read.
    fn read_cursors_stay(&self) -> Result<(), Broken> {
        for ((log, who), read) in self.shared.read.borrow().iter() {
            let LogId::Direct { .. } = log else {
                continue;
            };
            let head = self.world.find_head(log);
            let stands = head.and_then(|head| head.read_cursors.get(who).map(|it| it.read));
            ensure(stands >= Some(*read), || {
                format!("(7) {who} has read {log} up to {read}, stored is {stands:?}")
            })?;
        }
        Ok(())
    }
}

/// Invariant 10: after the event of its removal, a member writes nothing until it joins again.
fn removed_members_write_nothing(id: &LogId, log: &Log) -> Result<(), Broken> {
    let mut removed = BTreeMap::new();
    for entry in &log.entries {
        let sequence = entry.event.sequence;
        match &entry.event.body {
            EventBody::SubscriberLeft {
                subscriber_id,
                reason: LeaveReason::Removed,
            } => {
                removed.insert(subscriber_id, sequence);
            }
            EventBody::SubscriberJoined { subscriber_id, .. } => {
                removed.remove(subscriber_id);
            }
            EventBody::Message { from, .. } => {
                let since = removed.get(from);
                ensure(since.is_none(), || {
                    format!("(10) {id} has {sequence} of {from}, removed at {since:?}")
                })?;
            }
            _ => {}
        }
    }
    Ok(())
}
