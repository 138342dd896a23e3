//! The open connections of subscribers, their gates, and what is parked behind the gates.

use std::collections::BTreeMap;

use protocol::{
    ConnectionId, ConnectionKey, DeliveryStatus, LogId, MessageId, Subscriber, Timestamp, limits,
};
use serde::{Deserialize, Serialize};

use super::{Fault, TokenHash};

/// How messages to a connection are framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Framing {
    /// Each message is one frame.
    #[default]
    Raw,
    /// Messages are sent in SockJS frames.
    Sockjs,
    /// Messages go unframed into the outbox of an HTTP session. The receiver of the session frames them.
    Session,
}

/// API Gateway's limit for a message to a client, in bytes
/// (docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html,
/// 2026-08).
const FRAME_BYTES: usize = 128 * 1024;

impl Framing {
    /// Returns one frame with as many of the first messages as fit, and their number. The frame holds at least one
    /// message, if there is one.
    #[must_use]
    pub fn frame(self, messages: &[&str]) -> (String, usize) {
        match (self, messages) {
            (_, []) => (String::new(), 0),
            (Self::Raw, [first, ..]) => ((*first).to_owned(), 1),
            (Self::Sockjs | Self::Session, messages) => sockjs::frame::batch(messages, FRAME_BYTES),
        }
    }
}

/// One open connection.
///
/// While a *gate* stands, pushes are parked instead of posted. So a response comes before the events that its request
/// caused. And a connection that is not active yet loses nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The token that authorises the connection now.
    pub token: TokenHash,
    pub framing: Framing,
    /// When the connection began.
    pub since: Timestamp,
    /// From then on nothing is accepted from the connection. This is its token's end or its maximum age, whichever is
    /// earlier.
    pub ends_at: Timestamp,
    /// The gates by the request that raised each, with their deadlines. A gate does not hold from its deadline on.
    pub gates: BTreeMap<String, Timestamp>,
    /// References to what has to be pushed once no gate stands, in order.
    pub parked: Vec<Reference>,
    /// True if the connection has an announcement of its presence.
    pub announced: bool,
}

/// The gate behind which every connection begins. It holds pushes back until the connection is active, which is not
/// before `$connect` has returned. So a young connection loses nothing, and a 410 from it is not taken for its end.
pub const FIRST_GATE: &str = "connect";
/// References that one update removes at most. The update's expression names each of them, and may have 4 KiB
/// (docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html, 2026-08).
pub const UNPARKED: usize = 200;

/// Returns the gate of a function that posts `o` to a SockJS client. This gate replaces the first gate.
#[must_use]
pub fn opener_gate(name: &str) -> String {
    format!("{FIRST_GATE}-{name}")
}

/// Returns true if a gate is the first gate or an opener's gate.
#[must_use]
pub fn is_first_gate(gate: &str) -> bool {
    gate.strip_prefix(FIRST_GATE)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

impl Connection {
    /// Returns a gate other than `own` that holds at `now`, or `None` if there is none.
    #[must_use]
    pub fn standing_gate(&self, now: Timestamp, own: Option<&str>) -> Option<&str> {
        self.gates
            .iter()
            .find(|(gate, deadline)| now < **deadline && Some(gate.as_str()) != own)
            .map(|(gate, _)| gate.as_str())
    }

    /// Returns true if a gate other than `own` has ended at `now` and was never lowered, which means that its owner
    /// died.
    #[must_use]
    pub fn has_dead_gate(&self, now: Timestamp, own: &str) -> bool {
        let mut gates = self.gates.iter();
        gates.any(|(gate, deadline)| *deadline <= now && gate != own)
    }

    /// Returns true if the connection ends because its token expires, false if it reaches its maximum age.
    #[must_use]
    pub fn ends_with_token(&self) -> bool {
        self.ends_at < self.since.plus_seconds(limits::CONNECTION_SECONDS)
    }

    /// Returns true if pushes have to be parked at `now`.
    #[must_use]
    pub fn is_gated(&self, now: Timestamp) -> bool {
        !self.parked.is_empty()
            || self.standing_gate(now, None).is_some()
            || self.opening_gate().is_some()
    }

    /// Returns true if the connection may not be active yet, so a 410 need not mean its end. An HTTP session is active
    /// from its beginning.
    #[must_use]
    pub fn is_activating(&self, now: Timestamp) -> bool {
        let mut gates = self.gates.iter();
        self.framing != Framing::Session
            && gates.any(|(gate, deadline)| is_first_gate(gate) && now < *deadline)
    }

    /// Returns the gate behind which `o` has yet to be posted to a SockJS client, or `None` if there is no such gate.
    /// After this gate has ended, it is unknown if `o` was posted. It must not be posted twice, so the connection is
    /// closed.
    #[must_use]
    pub fn opening_gate(&self) -> Option<&str> {
        let mut gates = self.gates.keys().map(String::as_str);
        match self.framing {
            Framing::Raw | Framing::Session => None,
            Framing::Sockjs => gates.find(|it| is_first_gate(it)),
        }
    }
}

/// What to push later. It names the content and never holds the frame itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reference {
    Event {
        log: LogId,
        sequence: u64,
        /// The event must not be posted from then on. The function that parked it may have lost the log's lease by
        /// then, and later events of the next holder may be parked before it.
        until: Timestamp,
    },
    /// A `resync`: events of the log may be missing.
    Resync { log: LogId },
    /// A `delivery`: a read cursor moved.
    Delivery {
        log: LogId,
        /// The message at `sequence`, or the last message before it.
        message_id: MessageId,
        /// The status applies to all messages up to this sequence.
        sequence: u64,
        status: DeliveryStatus,
        timestamp: Timestamp,
    },
    /// The presence of a subscriber, as it is when it is pushed.
    Presence { subscriber: Subscriber },
    /// An invitation to a channel, if it is still pending when it is pushed.
    Invitation {
        /// The channel's log.
        log: LogId,
    },
    /// A warning that the connection ends with its token, if that is still so when it is pushed.
    TokenExpiring {
        /// When the connection ends.
        at: Timestamp,
    },
}

impl Reference {
    /// Returns true if this is an event that must not be posted any more.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        matches!(self, Self::Event { until, .. } if *until <= now)
    }
}

/// The result of [`Connections::park`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParkedOutcome {
    Parked(Parked),
    /// The gate that was read is gone and nothing is parked. The caller reads the connection again.
    Changed,
    NotRegistered,
}

/// Tells if references were parked before these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked {
    /// These are the first ones. Their sender schedules a release, because the owner of the gate may die.
    First,
    /// Others are parked before these.
    Further,
}

/// A connection to register.
#[derive(Clone, Debug)]
pub struct Registration {
    pub subscriber: Subscriber,
    pub id: ConnectionId,
    /// The initial entry of the connection.
    pub connection: Connection,
}

/// Why a connection was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The token is unknown, expired or invalidated.
    #[error("the token authorises nothing")]
    Token,
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A connection to move from one token to another.
#[derive(Clone, Debug)]
pub struct Reauthorization {
    pub subscriber: Subscriber,
    pub id: ConnectionId,
    /// The token that authorises the connection now.
    pub old: TokenHash,
    /// The token that authorises it afterwards.
    pub new: TokenHash,
    /// The current time.
    pub at: Timestamp,
    /// The new [`Connection::ends_at`].
    pub ends_at: Timestamp,
}

/// Why a connection was not moved to another token.
#[derive(Debug, thiserror::Error)]
pub enum ReauthorizeError {
    /// The new token is unknown, expired or invalidated.
    #[error("the token authorises nothing")]
    Token,
    /// [`Fault::Conflict`] if the connection is gone or its token is not `old`.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The connection is not registered: it was closed, or never became active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// The connections of subscribers.
pub trait Connections {
    /// Returns the connections of one subscriber.
    async fn connections(
        &self,
        subscriber: &Subscriber,
    ) -> Result<BTreeMap<ConnectionId, Connection>, Fault>;

    /// Returns the connections of several subscribers. Reads them in batches. A subscriber without a connection may be
    /// absent.
    async fn connections_of(
        &self,
        subscribers: &[Subscriber],
    ) -> Result<BTreeMap<Subscriber, BTreeMap<ConnectionId, Connection>>, Fault>;

    /// Registers a connection under its subscriber and under its token, in one transaction. The condition is that the
    /// token is active and not expired at `connection.since`. Idempotent.
    async fn register(&self, registration: &Registration) -> Result<(), RegisterError>;

    /// Moves a connection from the token `old` to the token `new`, in one transaction. The conditions are that `new` is
    /// active and not expired at `at`, and that the connection is registered under `old`.
    async fn reauthorize(&self, reauthorization: &Reauthorization) -> Result<(), ReauthorizeError>;

    /// Forgets a connection: removes its entry and its announcement in one step. Returns the entry as it was, or `None`
    /// if there was none. Idempotent.
    ///
    /// The row under its token is left to [`Tokens::forget_token_connection`](super::Tokens::forget_token_connection).
    /// As long as this row exists, the connection may still be open.
    async fn forget(&self, key: &ConnectionKey) -> Result<Option<Connection>, Fault>;

    /// Raises a gate that holds until `deadline`, on condition that the connection is registered. Returns the
    /// connection as the write left it, or [`Gone`] if it is not registered.
    async fn raise_gate(
        &self,
        key: &ConnectionKey,
        gate: &str,
        deadline: Timestamp,
    ) -> Result<Result<Connection, Gone>, Fault>;

    /// Parks references at the end, on condition that the gate `saw` is still there or that something is parked. `saw`
    /// is a gate that the caller has read. Without it, something must be parked.
    async fn park(
        &self,
        key: &ConnectionKey,
        saw: Option<&str>,
        references: &[Reference],
    ) -> Result<ParkedOutcome, Fault>;

    /// Removes the first `count` parked references, at most [`UNPARKED`], and moves the deadline of `gate` to
    /// `deadline`. The condition is that `gate` is still there. Returns the connection as the write left it, or
    /// [`Gone`] if the gate or the connection is gone.
    async fn unpark(
        &self,
        key: &ConnectionKey,
        gate: &str,
        count: usize,
        deadline: Timestamp,
    ) -> Result<Result<Connection, Gone>, Fault>;

    /// Removes `gate`, on condition that nothing is parked or that the gate `other` is still there. Returns true if
    /// `gate` was removed, or if the gate or the connection was gone already.
    async fn lower_gate(
        &self,
        key: &ConnectionKey,
        gate: &str,
        other: Option<&str>,
    ) -> Result<bool, Fault>;

    /// Removes the first gate of a connection, on condition that this gate is still there and nothing is parked.
    /// Returns the subscriber's connections as the write left them, or `None` if the condition did not hold.
    async fn lower_first_gate(
        &self,
        key: &ConnectionKey,
    ) -> Result<Option<BTreeMap<ConnectionId, Connection>>, Fault>;

    /// Takes over from gates that ended. In one write, removes the gates `expired`, raises `gate` and parks
    /// `references` at the end. The condition is that the connection is registered and that the gates in `expired` are
    /// unchanged. Returns the connection as the write left it, or `None` if the condition did not hold.
    async fn take_gate(
        &self,
        key: &ConnectionKey,
        expired: &BTreeMap<String, Timestamp>,
        gate: (&str, Timestamp),
        references: &[Reference],
    ) -> Result<Option<Connection>, Fault>;
}
