//! Logs: the head of each, its entries, and the idempotency records of messages.
//!
//! # Cost
//!
//! A head is below 1 KiB. The index contains only `undrained`. Its entry changes when a log goes from drained to undrained
//! or back, not with each allocated slot.
//!
//! | pattern | requests | units |
//! |---|---|---|
//! | `head` | GetItem | 1 read |
//! | `heads` | BatchGetItem, 100 a request | 1 read each |
//! | `allocate` | UpdateItem, never repeated | 1 write, and 1 for the index if it was drained |
//! | `create_direct` | 3 PutItem | 3 write |
//! | `renew`, `release`, `take_lease` | UpdateItem | 1 write, also if the condition fails |
//! | `raise_direct_read_cursor` | UpdateItem, a second if an earlier status is behind | 1 write each, also if the condition fails |
//! | `settle` | UpdateItem | 1 write, and 1 for the index |
//! | `undrained` | Query of the index, eventually consistent | 1 read per 8 KiB, about 60 logs |
//! | `set_idempotency_record`, `replace_idempotency_record` | PutItem | 1 write, also if the condition fails |
//! | `idempotency_record` | GetItem | 1 read |
//! | `put_entry` | PutItem | 1 write per KiB, also if the condition fails |
//! | `entry` | GetItem | 1 read per 4 KiB |
//! | `entries_after`, `entries_before` | Query | 1 read per 4 KiB of the whole page |

mod entry;
mod head;
mod idempotency;
mod lease;

use std::collections::BTreeMap;

use protocol::{
    LogId, MessageId, SubscriberId, Timestamp, change::LogEntry, model::DeliveryStatus,
};
use service::ports::{
    AllocateError, Allocation, Fault, Head, IdempotencyRecord, Lease, Logs, Page, Slice,
};

use crate::{DynamoStore, keys::Key, requests::decode};

pub(crate) use entry::put as put_entry;
pub(crate) use head::HeadItem;

impl Logs for DynamoStore {
    async fn head(&self, log: &LogId) -> Result<Option<Head>, Fault> {
        let item: Option<HeadItem> = self.get("head", &Key::head(log), head::WHAT).await?;
        Ok(item.map(Head::from))
    }

    async fn heads(&self, logs: &[LogId]) -> Result<BTreeMap<LogId, Head>, Fault> {
        let wanted = logs.iter().map(|log| (log.clone(), Key::head(log)));
        let items = self.batch("heads", wanted).await?;
        items
            .into_iter()
            .map(|(log, item)| Ok((log, decode::<HeadItem>(item, head::WHAT)?.into())))
            .collect()
    }

    async fn allocate(&self, log: &LogId, allocation: &Allocation) -> Result<Head, AllocateError> {
        head::allocate(self, log, allocation).await
    }

    async fn create_direct(&self, log: &LogId, now: Timestamp) -> Result<(), Fault> {
        head::create_direct(self, log, now).await
    }

    async fn set_idempotency_record(
        &self,
        log: &LogId,
        sender: &SubscriberId,
        message_id: &MessageId,
        record: &IdempotencyRecord,
    ) -> Result<Result<(), IdempotencyRecord>, Fault> {
        let key = Key::idempotency_record(log, sender, message_id);
        idempotency::set(self, key, record).await
    }

    async fn replace_idempotency_record(
        &self,
        log: &LogId,
        sender: &SubscriberId,
        message_id: &MessageId,
        old: &IdempotencyRecord,
        new: &IdempotencyRecord,
    ) -> Result<bool, Fault> {
        let key = Key::idempotency_record(log, sender, message_id);
        idempotency::replace(self, key, old, new).await
    }

    async fn idempotency_record(
        &self,
        log: &LogId,
        sender: &SubscriberId,
        message_id: &MessageId,
    ) -> Result<Option<IdempotencyRecord>, Fault> {
        let key = Key::idempotency_record(log, sender, message_id);
        idempotency::read(self, &key).await
    }

    async fn void_entry(&self, log: &LogId, sequence: u64, nonce: &str) -> Result<(), Fault> {
        entry::void(self, log, sequence, nonce).await
    }

    async fn forget_idempotency_record(
        &self,
        log: &LogId,
        sender: &SubscriberId,
        message_id: &MessageId,
    ) -> Result<(), Fault> {
        idempotency::forget(self, Key::idempotency_record(log, sender, message_id)).await
    }

    async fn put_entry(
        &self,
        log: &LogId,
        entry: &LogEntry,
    ) -> Result<Result<(), LogEntry>, Fault> {
        entry::put_unless_there(self, log, entry).await
    }

    async fn entry(&self, log: &LogId, sequence: u64) -> Result<Option<LogEntry>, Fault> {
        entry::read(self, log, sequence).await
    }

    async fn entries_after(
        &self,
        log: &LogId,
        after: u64,
        until: u64,
        limit: usize,
    ) -> Result<Slice, Fault> {
        entry::after(self, log, after, until, limit).await
    }

    async fn entries_before(&self, log: &LogId, before: u64, limit: usize) -> Result<Slice, Fault> {
        entry::before(self, log, before, limit).await
    }

    async fn renew(
        &self,
        log: &LogId,
        holder: &str,
        until: Timestamp,
        sent: u64,
    ) -> Result<Option<Head>, Fault> {
        lease::renew(self, log, holder, until, sent).await
    }

    async fn release(&self, log: &LogId, holder: &str, sent: u64) -> Result<bool, Fault> {
        lease::release(self, log, holder, sent).await
    }

    async fn take_lease(
        &self,
        log: &LogId,
        old: Option<&Lease>,
        new: &Lease,
    ) -> Result<Option<Head>, Fault> {
        lease::take(self, log, old, new).await
    }

    async fn raise_direct_read_cursor(
        &self,
        log: &LogId,
        subscriber: &SubscriberId,
        status: DeliveryStatus,
        sequence: u64,
    ) -> Result<bool, Fault> {
        head::raise_read_cursor(self, log, subscriber, status, sequence).await
    }

    async fn undrained(
        &self,
        shard: u32,
        after: Option<&LogId>,
        limit: usize,
    ) -> Result<Page<LogId>, Fault> {
        lease::undrained(self, shard, after, limit).await
    }

    async fn settle(&self, log: &LogId) -> Result<bool, Fault> {
        lease::settle(self, log).await
    }
}
