//! The service: every flow between clients, back ends and what is stored, over ports to the outside.
//!
//! The modules form layers. Each uses only those below it:
//!
//! | module | owns |
//! |---|---|
//! | `messages` | one client message, from the frame to the `ack` |
//! | `backend` | what back ends may do |
//! | `worker` | what runs later: jobs and the expiry run |
//! | `connections` | a connection's beginning, activation and SockJS session |
//! | `presence` | publishing how a subscriber looks to others |
//! | `tokens` | issuing, authenticating and revoking tokens |
//! | `delivery` | a log's events to connections, in order |
//! | `decision` | the loop: load, decide, commit, retry after a conflict |
//! | `closer` | how a connection ends |
//! | `log` | slots, entries, gaps |
//! | `ports` | what is needed from the outside |
//!
//! [`Service`] has the public flows. The work is done by parts such as `LogPusher` or `Closer`, which borrow the ports. Bounds on
//! each part say which ports it uses, so a function that has no gateway cannot post.
//!
//! A flow may die at every `await`. The comment beside a write says what is left half done then, and who repairs it.

pub mod ports;

mod backend;
mod closer;
mod connections;
mod decision;
mod delivery;
mod log;
mod messages;
mod pages;
mod parts;
mod presence;
mod retry;
mod timing;
mod tokens;
mod worker;

use protocol::{Subscriber, Timestamp};

pub use backend::{ChannelView, Refused, Stored, SubscriberView};
pub use connections::{
    connect::{ConnectError, Incoming as IncomingConnection},
    sessions::DoorbellOf,
};
pub use messages::admit::Incoming as IncomingMessage;
pub use tokens::issue::IssuedToken;

use parts::Ports;
use ports::{
    Channels, Connections, Framing, Jti, Logs, Presences, Sessions, SignedTokens, TokenHash, Tokens,
};

/// Everything that is stored.
pub trait Store:
    Tokens + SignedTokens + Connections + Presences + Logs + Channels + Sessions
{
}

impl<T: Tokens + SignedTokens + Connections + Presences + Logs + Channels + Sessions> Store for T {}

/// The subscriber of a connection, as the authorizer found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub subscriber: Subscriber,
    /// The token that the connection began with.
    pub token: TokenHash,
    pub token_expires: Timestamp,
    /// The id that the issuer gave the token, if it is a signed one with an id.
    pub jti: Option<Jti>,
    pub framing: Framing,
}

/// The service over its ports.
#[derive(Clone, Debug)]
pub struct Service<S, G, W, E> {
    pub store: S,
    /// The way to clients. `()` in a function that cannot post.
    pub gateway: G,
    pub workers: W,
    pub environment: E,
}

impl<S, G, W, E> Service<S, G, W, E> {
    /// Lends the ports to the parts.
    pub(crate) const fn ports(&self) -> Ports<'_, S, G, W, E> {
        Ports {
            store: &self.store,
            gateway: &self.gateway,
            workers: &self.workers,
            environment: &self.environment,
        }
    }
}
