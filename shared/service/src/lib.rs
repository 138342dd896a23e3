//! The service: ports to the outside, and the one loop that reads, decides, commits and sends.
//!
//! Each file owns one flow. Bounds on each say which ports it uses, so that a function that has no gateway cannot post.
//!
//! A flow may die at every `await`. What then lies half done is said beside the write it follows, with who finishes it.

pub mod ports;

mod admit;
mod append;
mod authorize;
mod backend;
mod change;
mod connect;
mod dismantle;
mod drain;
mod erase;
mod expire;
mod fan_out;
mod gate;
mod history;
mod jobs;
mod load;
mod message;
mod mint;
mod open;
mod presence;
mod push;
mod received;
mod release;
mod resume;
mod revoke;
mod sessions;
mod signed;
mod tell;

use core::time::Duration;

use protocol::{Subscriber, Timestamp};

pub use backend::{ChannelView, Refused, Stored, SubscriberView};
pub use connect::{ConnectError, Incoming as IncomingConnection};
pub use message::Incoming as IncomingMessage;
pub use mint::Minted;
pub use sessions::DoorbellOf;

use ports::{
    Channels, Connections, Framing, Jti, Logs, Presences, Sessions, SignedTokens, TokenHash, Tokens,
};

/// Everything that is stored.
pub trait Store:
    Tokens + SignedTokens + Connections + Presences + Logs + Channels + Sessions
{
}

impl<T: Tokens + SignedTokens + Connections + Presences + Logs + Channels + Sessions> Store for T {}

/// Who a connection speaks for, as the authorizer found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The subscriber.
    pub subscriber: Subscriber,
    /// The token that the connection began with.
    pub token: TokenHash,
    /// When that token ends.
    pub token_expires: Timestamp,
    /// The id that its issuer gave that token, if it is a signed one with an id.
    pub jti: Option<Jti>,
    /// How frames are written.
    pub framing: Framing,
}

/// The service over its ports.
#[derive(Clone, Debug)]
pub struct Service<S, G, W, E> {
    /// What is stored.
    pub store: S,
    /// The way to clients; `()` where a function cannot post.
    pub gateway: G,
    /// The way to the worker.
    pub workers: W,
    /// Time and randomness.
    pub environment: E,
}

/// How long a post may take (`Pushes`), and so how much of a lease or a gate must be left to begin one.
pub(crate) const POST: Duration = Duration::from_secs(2);
/// How long a gate holds.
pub(crate) const GATE: Duration = Duration::from_secs(5);
/// How long a connection that was registered may take to come up; pushes to it are parked that long.
pub(crate) const COMING_UP: Duration = Duration::from_secs(35);
/// How long a lease holds.
pub(crate) const LEASE: Duration = Duration::from_secs(10);
/// How much of a lease must be left to begin a post.
pub(crate) const LEASE_LEFT: Duration = Duration::from_secs(3);
/// How long after its end a lease is taken over: what the clocks of two functions may differ.
pub(crate) const LEASE_GRACE: Duration = Duration::from_secs(1);
/// How long a place without an event is waited for.
pub(crate) const HOLE: Duration = Duration::from_secs(1);
/// How often what failed is tried again.
pub(crate) const ATTEMPTS: u32 = 8;
/// How often a change is decided anew because another writer was first.
pub(crate) const DECISIONS: u32 = 16;

impl<S, G, W, E: ports::Environment> Service<S, G, W, E> {
    /// How long ago a moment was; nothing if the clock that told it is ahead.
    pub(crate) fn since(&self, moment: Timestamp) -> Duration {
        let millis = self.environment.now().millis() - moment.millis();
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

/// The pause before a change is decided anew: never so long that those who come meanwhile are always first.
pub(crate) fn beaten(attempt: u32, salt: &str) -> Duration {
    backoff(attempt.min(3), salt)
}

/// The pause before attempt `attempt`, from 5 ms up; `salt` keeps two that collided from doing so again.
pub(crate) fn backoff(attempt: u32, salt: &str) -> Duration {
    let spread = salt
        .bytes()
        .fold(0_u64, |sum, byte| (sum * 31 + u64::from(byte)) % 1_000);
    let base = 5_u64 << attempt.min(6);
    Duration::from_millis(base + base * spread / 1_000)
}
