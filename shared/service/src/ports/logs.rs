//! Logs: their slots, the events in the slots, and the lease to push them.

use std::collections::BTreeMap;

use protocol::{
    LogId, MessageId, ReadCursors, SubscriberId, Timestamp, change::LogEntry, model::DeliveryStatus,
};

use super::Fault;

/// The number of shards over which undrained logs are spread.
pub const SHARDS: u32 = 16;

/// The right to push a log's events, held by one function at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub holder: String,
    /// The lease ends then, unless it is renewed.
    pub until: Timestamp,
}

/// The head of a log. Only single-item updates touch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// False once the log has its last event.
    pub active: bool,
    /// The last allocated slot.
    pub sequence: u64,
    /// All events up to this sequence were pushed, so they are known to be stored.
    pub sent: u64,
    pub lease: Option<Lease>,
    /// When the last slot was allocated.
    pub allocated_at: Timestamp,
    /// The read cursors of the two subscribers of a direct conversation. Empty for a channel.
    pub read_cursors: BTreeMap<SubscriberId, ReadCursors>,
    /// When a slot was last allocated for the removal of a member by somebody else. `None` if that never happened.
    pub removal_at: Option<Timestamp>,
}

/// A request for slots at the end of a log.
#[derive(Clone, Debug)]
pub struct Allocation {
    /// The number of slots.
    pub count: u64,
    /// The current time.
    pub at: Timestamp,
    /// The lease to take if no function holds one.
    pub lease: Lease,
    /// True if these are the last slots. The same write then closes the log.
    pub close: bool,
    /// True if the slots are for the removal of a member. The same write notes the time in the head, so every function that
    /// takes a later slot learns of the removal.
    pub removal: bool,
}

/// Why no slot was allocated.
#[derive(Debug, thiserror::Error)]
pub enum AllocateError {
    /// There is no such log, or it has its last event.
    #[error("the log takes no more events")]
    NotActive,
    /// After [`Fault::Unknown`], slots may have been allocated that will stay empty: a gap.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The record that makes repeats of a message one event. It is kept as long as the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyRecord {
    /// The event's slot.
    pub sequence: u64,
    /// SHA-256 of the content's canonical text, in hexadecimal.
    pub content_hash: String,
    /// The event's nonce.
    pub nonce: String,
    /// When the record was set.
    pub at: Timestamp,
}

/// A page of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// In ascending order. There may be gaps between them.
    pub entries: Vec<LogEntry>,
    /// True if the range has more entries: after the last one, or before the first one if it was read backwards.
    pub more: bool,
}

/// The logs.
pub trait Logs {
    /// Returns the head, or `None` if there is no such log.
    async fn head(&self, log: &LogId) -> Result<Option<Head>, Fault>;

    /// Returns the heads of several logs. Reads them in batches. A log that does not exist is absent.
    async fn heads(&self, logs: &[LogId]) -> Result<BTreeMap<LogId, Head>, Fault>;

    /// Takes `count` slots at the end, and the lease if no function holds one, in one write. The condition is that the
    /// log is active. Returns the head as the write left it: the slots are the last `count` up to `Head::sequence`. The
    /// port never repeats this write by itself.
    async fn allocate(&self, log: &LogId, allocation: &Allocation) -> Result<Head, AllocateError>;

    /// Creates the head of a direct conversation and both subscribers' rows of it, unless they exist.
    async fn create_direct(&self, log: &LogId, now: Timestamp) -> Result<(), Fault>;

    /// Sets a message's idempotency record, unless there is one. In that case the inner error is the existing record.
    async fn set_idempotency_record(
        &self,
        log: &LogId,
        sender: &SubscriberId,
        message_id: &MessageId,
        marker: &IdempotencyRecord,
    ) -> Result<Result<(), IdempotencyRecord>, Fault>;

    /// Replaces the idempotency record of a message whose event was never stored, on condition that the record is
    /// `old`. Returns true if it was replaced.
    async fn replace_idempotency_record(
        &self,
        log: &LogId,
        sender: &SubscriberId,
        message_id: &MessageId,
        old: &IdempotencyRecord,
        new: &IdempotencyRecord,
    ) -> Result<bool, Fault>;

    /// Returns a message's idempotency record, or `None` if there is none.
    async fn idempotency_record(
        &self,
        log: &LogId,
        sender: &SubscriberId,
        message_id: &MessageId,
    ) -> Result<Option<IdempotencyRecord>, Fault>;

    /// Puts an entry into its slot, if the slot is empty. Otherwise the inner error is the entry in the slot.
    async fn put_entry(&self, log: &LogId, entry: &LogEntry)
    -> Result<Result<(), LogEntry>, Fault>;

    /// Replaces an entry by a void entry in the same slot, on condition that the entry still has this nonce.
    /// Idempotent.
    async fn void_entry(&self, log: &LogId, sequence: u64, nonce: &str) -> Result<(), Fault>;

    /// Removes a message's idempotency record. Idempotent.
    async fn forget_idempotency_record(
        &self,
        log: &LogId,
        sender: &SubscriberId,
        message_id: &MessageId,
    ) -> Result<(), Fault>;

    /// Returns the entry in a slot, or `None` if the slot is empty.
    async fn entry(&self, log: &LogId, sequence: u64) -> Result<Option<LogEntry>, Fault>;

    /// Returns the first entries with `after < sequence <= until`, at most `limit`.
    async fn entries_after(
        &self,
        log: &LogId,
        after: u64,
        until: u64,
        limit: usize,
    ) -> Result<Slice, Fault>;

    /// Returns the last entries with `sequence < before`, at most `limit`, in ascending order.
    async fn entries_before(&self, log: &LogId, before: u64, limit: usize) -> Result<Slice, Fault>;

    /// Renews `holder`'s lease and stores `sent`, in one write, on condition that `holder` holds the lease. Returns the
    /// head as the write left it, or `None` if `holder` does not hold the lease.
    async fn renew(
        &self,
        log: &LogId,
        holder: &str,
        until: Timestamp,
        sent: u64,
    ) -> Result<Option<Head>, Fault>;

    /// Gives the lease back and stores `sent`, in one write. The condition is that `holder` holds the lease and that no
    /// slot after `sent` was allocated. Returns true if the lease was given back. After false, `holder` may still hold
    /// the lease, so the caller reads the head.
    async fn release(&self, log: &LogId, holder: &str, sent: u64) -> Result<bool, Fault>;

    /// Replaces the lease by `new`, on condition that the lease is exactly `old`, or that the log has no lease if `old`
    /// is `None`. Returns the head as the write left it, or `None` if the condition did not hold. This is how an ended
    /// lease is taken over, and how a holder hands its lease on.
    ///
    /// With `old` as `None`, another function may have taken the lease since the head was read, pushed events, and
    /// given it back. So the caller uses `Head::sent` of the returned head.
    async fn take_lease(
        &self,
        log: &LogId,
        old: Option<&Lease>,
        new: &Lease,
    ) -> Result<Option<Head>, Fault>;

    /// Moves a subscriber's read cursor of a direct conversation forward to `sequence`, for `status` and every status
    /// that it implies. Returns true if the cursor of `status` moved.
    async fn raise_direct_read_cursor(
        &self,
        log: &LogId,
        subscriber: &SubscriberId,
        status: DeliveryStatus,
        sequence: u64,
    ) -> Result<bool, Fault>;

    /// Returns logs that may hold events that were not pushed, a page of one of the [`SHARDS`] at a time (eventually
    /// consistent).
    async fn undrained(
        &self,
        shard: u32,
        after: Option<&LogId>,
        limit: usize,
    ) -> Result<super::Page<LogId>, Fault>;

    /// Notes that the whole log was pushed, so that [`Self::undrained`] no longer returns it. The condition is that
    /// every allocated slot was pushed. Returns true if the condition held.
    async fn settle(&self, log: &LogId) -> Result<bool, Fault>;
}
