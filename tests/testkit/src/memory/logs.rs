//! Logs: heads, leases, entries and idempotency records.

use core::ops::Bound::{Excluded, Included, Unbounded};
use std::collections::BTreeMap;

use protocol::{
    LogId, MessageId, Subscriber, SubscriberId, Timestamp, change::LogEntry, limits::HISTORY_DAYS,
    model::DeliveryStatus,
};
use service::ports::{
    AllocateError, Allocation, Fault, Head, IdempotencyRecord, Lease, Logs, Page, Slice,
};

use super::{
    Condition, Memory, beyond, page,
    state::{DAY_SECONDS, Ttl},
};

impl Logs for Memory {
    async fn head(&self, log: &LogId) -> Result<Option<Head>, Fault> {
        self.read("head", |state, _| state.heads.get(log).cloned())
            .await
    }

    async fn heads(&self, logs: &[LogId]) -> Result<BTreeMap<LogId, Head>, Fault> {
        let found = self.batch("heads", logs, |state, _, log| state.heads.get(log).cloned());
        Ok(found.await?.into_iter().collect())
    }

    async fn allocate(&self, log: &LogId, allocation: &Allocation) -> Result<Head, AllocateError> {
        let careless = self.ignores(Condition::Lease);
        let notes_removals = !self.ignores(Condition::Removal);
        let allocated = self.write("allocate", |state, _| {
            let head = state.heads.get_mut(log).filter(|head| head.active)?;
            head.sequence += allocation.count;
            head.allocated_at = allocation.at;
            head.active = !allocation.close;
            if allocation.removal && notes_removals {
                head.removal_at = Some(allocation.at);
            }
            if careless || head.lease.is_none() {
                head.lease = Some(allocation.lease.clone());
            }
            let head = head.clone();
            state.set_undrained(log, true);
            Some(head)
        });
        allocated.await?.ok_or(AllocateError::NotActive)
    }

    async fn create_direct(&self, log: &LogId, now: Timestamp) -> Result<(), Fault> {
        let LogId::Direct { domain, low, high } = log else {
            return Err(Fault::Corrupt("not a direct conversation".to_owned()));
        };
        // The rows first, so that a reader that finds the head finds them too.
        for (id, peer) in [(low, high), (high, low)] {
            let subscriber = Subscriber {
                domain: domain.clone(),
                id: id.clone(),
            };
            self.write("create_direct", |state, _| {
                let conversations = &mut state.person_mut(&subscriber).conversations;
                conversations.insert(peer.clone());
            })
            .await?;
        }
        self.write("create_direct", |state, _| {
            if !state.heads.contains_key(log) {
                state.put_head(log, 0, now);
            }
        })
        .await
    }

    async fn set_idempotency_record(
        &self,
        log: &LogId,
        sender: &SubscriberId,
        message_id: &MessageId,
        record: &IdempotencyRecord,
    ) -> Result<Result<(), IdempotencyRecord>, Fault> {
        let key = (log.clone(), sender.clone(), message_id.clone());
        let careless = self.ignores(Condition::IdempotencyRecord);
        self.write("set_idempotency_record", |state, now| {
            match state
                .idempotency_records
                .get(&key)
                .filter(|(_, ttl)| ttl.holds(now))
            {
                Some((there, _)) if !careless => Err(there.clone()),
                _ => {
                    state.idempotency_records.insert(key, timed(record));
                    Ok(())
                }
            }
        })
        .await
    }

    async fn replace_idempotency_record(
        &self,
        log: &LogId,
        sender: &SubscriberId,
        message_id: &MessageId,
        old: &IdempotencyRecord,
        new: &IdempotencyRecord,
    ) -> Result<bool, Fault> {
        let key = (log.clone(), sender.clone(), message_id.clone());
        self.write("replace_idempotency_record", |state, now| {
            let there = state.idempotency_records.get_mut(&key);
            match there.filter(|(there, ttl)| there == old && ttl.holds(now)) {
                Some(there) => {
                    *there = timed(new);
                    true
                }
                None => false,
            }
        })
        .await
    }

    async fn idempotency_record(
        &self,
        log: &LogId,
        sender: &SubscriberId,
        message_id: &MessageId,
    ) -> Result<Option<IdempotencyRecord>, Fault> {
        let key = (log.clone(), sender.clone(), message_id.clone());
        self.read("idempotency_record", |state, now| {
            let (record, ttl) = state.idempotency_records.get(&key)?;
            ttl.holds(now).then(|| record.clone())
        })
        .await
    }

    async fn void_entry(&self, log: &LogId, sequence: u64, nonce: &str) -> Result<(), Fault> {
        self.write("void_entry", |state, _| {
            state.void_entry(log, sequence, nonce)
        })
        .await
    }

    async fn forget_idempotency_record(
        &self,
        log: &LogId,
        sender: &SubscriberId,
        message_id: &MessageId,
    ) -> Result<(), Fault> {
        let key = (log.clone(), sender.clone(), message_id.clone());
        self.write("forget_idempotency_record", |state, _| {
            state.idempotency_records.remove(&key);
        })
        .await
    }

    async fn put_entry(
        &self,
        log: &LogId,
        entry: &LogEntry,
    ) -> Result<Result<(), LogEntry>, Fault> {
        let careless = self.ignores(Condition::Entry);
        let there = self.write("put_entry", |state, now| {
            let there = state
                .entry(log, entry.event.sequence, now)
                .filter(|_| !careless)
                .cloned();
            if there.is_none() {
                state.put_entry(log, entry);
            }
            there
        });
        Ok(there.await?.map_or(Ok(()), Err))
    }

    async fn entry(&self, log: &LogId, sequence: u64) -> Result<Option<LogEntry>, Fault> {
        self.read("entry", |state, now| {
            state.entry(log, sequence, now).cloned()
        })
        .await
    }

    async fn entries_after(
        &self,
        log: &LogId,
        after: u64,
        until: u64,
        limit: usize,
    ) -> Result<Slice, Fault> {
        let limit = self.cap(limit);
        self.read("entries_after", |state, now| {
            let found = (after < until)
                .then(|| state.entries(log, (Excluded(after), Included(until)), now))
                .into_iter()
                .flatten();
            let page = page(found.cloned(), limit);
            Slice {
                entries: page.items,
                more: page.more,
            }
        })
        .await
    }

    async fn entries_before(&self, log: &LogId, before: u64, limit: usize) -> Result<Slice, Fault> {
        let limit = self.cap(limit);
        self.read("entries_before", |state, now| {
            let found = state.entries(log, (Unbounded, Excluded(before)), now);
            let page = page(found.rev().cloned(), limit);
            Slice {
                entries: page.items.into_iter().rev().collect(),
                more: page.more,
            }
        })
        .await
    }

    async fn renew(
        &self,
        log: &LogId,
        holder: &str,
        until: Timestamp,
        sent: u64,
    ) -> Result<Option<Head>, Fault> {
        self.write("renew", |state, _| {
            let head = state.heads.get_mut(log)?;
            let lease = head.lease.as_mut().filter(|it| it.holder == holder)?;
            lease.until = until;
            head.sent = sent;
            Some(head.clone())
        })
        .await
    }

    async fn release(&self, log: &LogId, holder: &str, sent: u64) -> Result<bool, Fault> {
        let careless = self.ignores(Condition::Release);
        self.write("release", |state, _| {
            let Some(head) = state.heads.get_mut(log) else {
                return false;
            };
            let own = head.lease.as_ref().is_some_and(|it| it.holder == holder);
            if !own || (head.sequence > sent && !careless) {
                return false;
            }
            head.lease = None;
            head.sent = sent;
            true
        })
        .await
    }

    async fn take_lease(
        &self,
        log: &LogId,
        old: Option<&Lease>,
        new: &Lease,
    ) -> Result<Option<Head>, Fault> {
        self.write("take_lease", |state, _| {
            let head = state.heads.get_mut(log)?;
            if head.lease.as_ref() != old {
                return None;
            }
            head.lease = Some(new.clone());
            Some(head.clone())
        })
        .await
    }

    async fn raise_direct_read_cursor(
        &self,
        log: &LogId,
        subscriber: &SubscriberId,
        status: DeliveryStatus,
        sequence: u64,
    ) -> Result<bool, Fault> {
        self.write("raise_direct_read_cursor", |state, _| {
            let head = state.heads.get_mut(log);
            let Some(read_cursors) = head.and_then(|it| it.read_cursors.get_mut(subscriber)) else {
                return false;
            };
            let before = *read_cursors;
            // In the order of statuses, because each implies the ones before it.
            for (implied, read_cursor) in [
                (DeliveryStatus::Received, &mut read_cursors.received),
                (DeliveryStatus::Displayed, &mut read_cursors.displayed),
                (DeliveryStatus::Read, &mut read_cursors.read),
            ] {
                if implied <= status {
                    *read_cursor = sequence.max(*read_cursor);
                }
            }
            match status {
                DeliveryStatus::Stored => false,
                DeliveryStatus::Received => before.received < sequence,
                DeliveryStatus::Displayed => before.displayed < sequence,
                DeliveryStatus::Read => before.read < sequence,
            }
        })
        .await
    }

    async fn undrained(
        &self,
        shard: u32,
        after: Option<&LogId>,
        limit: usize,
    ) -> Result<Page<LogId>, Fault> {
        let limit = self.cap(limit);
        let after = after.map(|log| (log.to_string(), log.clone()));
        self.read("undrained", |state, _| {
            let logs = state.undrained(shard).into_iter();
            let logs = logs.flat_map(|it| it.range(beyond(after.as_ref())));
            page(logs.map(|(_, log)| log.clone()), limit)
        })
        .await
    }

    async fn settle(&self, log: &LogId) -> Result<bool, Fault> {
        self.write("settle", |state, _| {
            let pushed = state
                .heads
                .get(log)
                .is_some_and(|head| head.sent >= head.sequence);
            if pushed {
                state.set_undrained(log, false);
            }
            pushed
        })
        .await
    }
}

fn timed(record: &IdempotencyRecord) -> (IdempotencyRecord, Ttl) {
    let ttl = Ttl::after(record.at, HISTORY_DAYS * DAY_SECONDS);
    (record.clone(), ttl)
}
