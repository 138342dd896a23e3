//! The ports: what the service needs from the outside. Each capability is one trait, so the bounds of a function show
//! what it may do.
//!
//! A read is strongly consistent unless its port says otherwise: it sees every write that was answered before the read
//! began. An item past its time to live counts as absent. If the answer to a write is lost, the write may have taken
//! place. The port then returns [`Fault::Unknown`], and the caller reads back or relies on the write's own condition.
//!
//! # Errors
//! A read fails with any fault but [`Fault::Conflict`], a write with any of the four. If a method returns a result
//! within a result, the outer error is such a fault. The inner error says what was found instead.
//!
//! # Cost
//! The adapter lists it by the names of the methods. A `limit` is at most 1,000.
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
pub use outside::{
    Clock, Environment, Job, Measure, Metrics, Midway, Outcome, Posted, Probe, Pushes, Random,
    TokenVerifier, Workers,
};
pub use presence::{PresenceState, Presences, PublishedPresence};
pub use sessions::{
    Attached, Closing, Doorbell, Hold, LINGER, OUTBOX_BYTES, OUTBOX_MESSAGES, Pushed, Session,
    SessionId, SessionKey, Sessions,
};
pub use signed::{Credential, Jti, SignedToken, SignedTokens, SignedUse};
pub use tokens::{Ending, ExpiryCheckpoint, Minute, TokenHash, TokenRecord, TokenState, Tokens};

/// Why a port failed.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Another write came first, so a condition did not hold. The caller reads and decides again.
    #[error("another writer was first")]
    Conflict,
    /// The request was throttled, refused, or not delivered. It certainly had no effect and may be retried.
    #[error("not done: {0}")]
    Refused(String),
    /// The answer was lost, so the request may have taken effect.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The stored item cannot be read, or cannot be added to. A retry does not help.
    #[error("unusable item: {0}")]
    Corrupt(String),
}
