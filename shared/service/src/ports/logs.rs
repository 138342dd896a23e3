//! The logs of destinations: places in their sequence, events at these places, and who pushes them.

use std::collections::BTreeMap;

use protocol::{
    LogId, MessageId, ReadCursors, SubscriberId, Timestamp, change::LogEntry, model::DeliveryStatus,
};

use super::Fault;

/// How many shards the undrained logs are spread over.
pub const SHARDS: u32 = 16;

/// The right to push a log's events, held by one function at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who.
    pub holder: String,
    /// Until when, unless it is renewed.
    pub until: Timestamp,
}

/// The head of a log. Only single-item updates touch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// False once the log has its last event.
    pub active: bool,
    /// The last place that was allocated.
    pub sequence: u64,
    /// Everything up to here was pushed, and so is known to be stored.
    pub sent: u64,
    /// Who pushes.
    pub lease: Option<Lease>,
    /// When the last place was allocated.
    pub allocated_at: Timestamp,
    /// How far the two of a direct conversation got; empty for a channel.
    pub read_cursors: BTreeMap<SubscriberId, ReadCursors>,
}

/// A request for places at the end of a log.
#[derive(Clone, Debug)]
pub struct Allocation {
    /// How many.
    pub count: u64,
    /// Now.
    pub at: Timestamp,
    /// The lease to take if nobody holds one.
    pub lease: Lease,
    /// Whether these are the last places: the log is closed by the same write.
    pub close: bool,
}

/// Why no place was allocated.
#[derive(Debug, thiserror::Error)]
pub enum AllocateError {
    /// There is no such log, or it has its last event.
    #[error("the log takes no more events")]
    NotActive,
    /// Another fault. After [`Fault::Unknown`] a place may have been taken that nobody will fill: a hole.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What makes a repeated message one event: kept as long as the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyRecord {
    /// The event's place.
    pub sequence: u64,
    /// SHA-256 of the content's canonical text, in hexadecimal.
    pub content_hash: String,
    /// The event's nonce.
    pub nonce: String,
    /// When it was set.
    pub at: Timestamp,
}

/// A page of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// In ascending order; there may be holes between them.
    pub entries: Vec<LogEntry>,
    /// Whether the range had more than fit: after the last entry, or before the first if it was read backwards.
    pub more: bool,
}

/// The logs.
pub trait Logs {
    /// The head, if there is such a log.
    async fn head(&self, log: &LogId) -> Result<Option<Head>, Fault>;

    /// The heads of many, in batches; those that do not exist are absent.
    async fn heads(&self, logs: &[LogId]) -> Result<BTreeMap<LogId, Head>, Fault>;

    /// Takes `count` places at the end, and the lease if nobody holds one, in one write on condition that the log is
    /// active; the head then. The places are the last `count` up to `Head::sequence`. Never repeated by itself.
    async fn allocate(&self, log: &LogId, allocation: &Allocation) -> Result<Head, AllocateError>;

    /// Makes the head of a direct conversation and both subscribers' rows of it, unless they are there.
    async fn create_direct(&self, log: &LogId, now: Timestamp) -> Result<(), Fault>;

    /// Sets a message's marker unless there is one; the one that was there.
    async fn set_idempotency_record(
        &self,
        log: &LogId,
        sender: &SubscriberId,
        message_id: &MessageId,
        marker: &IdempotencyRecord,
    ) -> Result<Result<(), IdempotencyRecord>, Fault>;

    /// Replaces a marker whose event never came to be, on condition that it is `old`; whether it did.
    async fn replace_idempotency_record(
        &self,
        log: &LogId,
        sender: &SubscriberId,
        message_id: &MessageId,
        old: &IdempotencyRecord,
        new: &IdempotencyRecord,
    ) -> Result<bool, Fault>;

    /// A message's marker.
    async fn idempotency_record(
        &self,
        log: &LogId,
        sender: &SubscriberId,
        message_id: &MessageId,
    ) -> Result<Option<IdempotencyRecord>, Fault>;

    /// Puts an entry at its place unless there is one; the one that was there.
    async fn put_entry(&self, log: &LogId, entry: &LogEntry)
    -> Result<Result<(), LogEntry>, Fault>;

    /// Replaces an entry by a void one at the same place, on condition that it is still the one with this nonce. Idempotent.
    async fn void_entry(&self, log: &LogId, sequence: u64, nonce: &str) -> Result<(), Fault>;

    /// Forgets a message's marker. Idempotent.
    async fn forget_idempotency_record(
        &self,
        log: &LogId,
        sender: &SubscriberId,
        message_id: &MessageId,
    ) -> Result<(), Fault>;

    /// The entry at a place.
    async fn entry(&self, log: &LogId, sequence: u64) -> Result<Option<LogEntry>, Fault>;

    /// The first entries with `after < sequence <= until`, at most `limit`.
    async fn entries_after(
        &self,
        log: &LogId,
        after: u64,
        until: u64,
        limit: usize,
    ) -> Result<Slice, Fault>;

    /// The last entries with `sequence < before`, at most `limit`, in ascending order.
    async fn entries_before(&self, log: &LogId, before: u64, limit: usize) -> Result<Slice, Fault>;

    /// Renews `holder`'s lease and notes that everything up to `sent` was pushed, in one write on condition that the
    /// lease is `holder`'s; the head then, or none if it is not.
    async fn renew(
        &self,
        log: &LogId,
        holder: &str,
        until: Timestamp,
        sent: u64,
    ) -> Result<Option<Head>, Fault>;

    /// Gives the lease back and notes `sent`, on condition that it is `holder`'s and that nothing beyond `sent` was
    /// allocated; whether it did. On false the lease may be `holder`'s still: read the head.
    async fn release(&self, log: &LogId, holder: &str, sent: u64) -> Result<bool, Fault>;

    /// Takes the lease on condition that it is exactly `old`; the head as it is then, or none if the lease is another. This is
    /// how an expired lease is taken over and how a holder hands its own on.
    ///
    /// Where nobody held it, somebody may have had it since the head was read, pushed, and given it back: how far the log was
    /// pushed is to be taken from the answer.
    async fn take_lease(
        &self,
        log: &LogId,
        old: Option<&Lease>,
        new: &Lease,
    ) -> Result<Option<Head>, Fault>;

    /// Moves a participant's read_cursor of a direct conversation forward: `status` and all that it implies; whether it moved.
    async fn raise_direct_read_cursor(
        &self,
        log: &LogId,
        subscriber: &SubscriberId,
        status: DeliveryStatus,
        sequence: u64,
    ) -> Result<bool, Fault>;

    /// Logs that may hold events nobody has pushed, a page of one of the [`SHARDS`] at a time (eventually consistent).
    async fn undrained(
        &self,
        shard: u32,
        after: Option<&LogId>,
        limit: usize,
    ) -> Result<super::Page<LogId>, Fault>;

    /// Notes that everything of the log was pushed, on condition that this is so; whether it is.
    async fn settle(&self, log: &LogId) -> Result<bool, Fault>;
}
