//! What the service needs from outside, one trait per capability, so that bounds match what a function may do.
//!
//! Every read that a port does not mark otherwise is strongly consistent: it sees all writes that were answered before
//! it began. What is past its time to live counts as absent. A write whose answer is lost may have taken place: that is
//! [`Fault::Unknown`], and callers read back or rely on the write's own condition.
//!
//! # Errors
//! A read fails with anything but [`Fault::Conflict`], a write with all four. Where a result is within a result, the outer
//! error is such a fault, and the inner one says what stood there instead.
//!
//! # Cost
//! Stands with the adapter, by the names of the methods. A `limit` is 1,000 at most.
#![expect(
    async_fn_in_trait,
    reason = "every implementation is ours and is awaited in place, never spawned"
)]

mod channels;
mod connections;
mod logs;
mod outside;
mod presence;
mod sessions;
mod signed;
mod tokens;

pub use channels::{Channels, Page, Receiver};
pub use connections::{
    Connection, Connections, FIRST_GATE, Framing, Gone, Parked, ParkedOutcome, Reauthorization,
    ReauthorizeError, Reference, RegisterError, Registration, UNPARKED, is_first_gate, opener_gate,
};
pub use logs::{AllocateError, Allocation, Head, IdempotencyRecord, Lease, Logs, SHARDS, Slice};
pub use outside::{Environment, Job, Measure, Midway, Outcome, Posted, Probe, Pushes, Workers};
pub use presence::{PresenceState, Presences, PublishedPresence};
pub use sessions::{
    Attached, Closing, Doorbell, Hold, LINGER, OUTBOX_BYTES, OUTBOX_MESSAGES, Pushed, Session,
    SessionId, SessionKey, Sessions,
};
pub use signed::{Credential, Jti, SignedToken, SignedTokens, SignedUse};
pub use tokens::{Ending, ExpiryCheckpoint, Minute, TokenHash, TokenRecord, TokenState, Tokens};

/// Why a port could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A condition did not hold because another writer was first: read and decide again.
    #[error("another writer was first")]
    Conflict,
    /// It certainly did not take place and may be tried again: throttled, refused, not reached.
    #[error("not done: {0}")]
    Refused(String),
    /// Nobody knows whether it took place: the answer was lost.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// What was found cannot be read, or not be added to: no passing fault.
    #[error("unusable item: {0}")]
    Corrupt(String),
}
