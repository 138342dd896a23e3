//! The open connections of subscribers: where somebody can be reached, and whether right now.

use std::collections::BTreeMap;

use protocol::{
    ConnectionId, ConnectionKey, DeliveryStatus, LogId, MessageId, Subscriber, Timestamp, limits,
};
use serde::{Deserialize, Serialize};

use super::{Fault, TokenHash};

/// How frames to this connection are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Framing {
    /// As they are.
    #[default]
    Raw,
    /// As SockJS frames.
    Sockjs,
    /// As they are, into the outbox of an HTTP session, whose receiver frames them.
    Session,
}

/// API Gateway's limit of a message to a client
/// (docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html, 2026-08).
const FRAME_BYTES: usize = 128 * 1024;

impl Framing {
    /// The one frame that holds as many of the first messages as it can, but at least one if there is one; and how many.
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
/// While a *gate* stands, pushes are parked instead of posted: a response comes before what was caused after its
/// request, and a connection that is not up yet loses nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The token that authorises it now.
    pub token: TokenHash,
    /// How frames to it are written.
    pub framing: Framing,
    /// When it began.
    pub since: Timestamp,
    /// When nothing more is accepted from it: its token's end or its own, whichever is earlier.
    pub ends_at: Timestamp,
    /// Gates by the request that raised them, with the time after which they no longer hold.
    pub gates: BTreeMap<String, Timestamp>,
    /// References to what is to be pushed once no gate stands, in order.
    pub parked: Vec<Reference>,
    /// Whether it holds an announcement.
    pub announced: bool,
}

/// The gate that every connection begins with. It holds back pushes until the connection is up, which it is not before
/// `$connect` has returned; so the young connection loses nothing, and nobody mistakes its 410 for its end.
pub const FIRST_GATE: &str = "connect";
/// References at most that one update removes: each is named in its expression, which has 4 KiB
/// (docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html, 2026-08).
pub const UNPARKED: usize = 200;

/// The gate of one who tells a framed client that its session is open, in the place of the first.
#[must_use]
pub fn opener_gate(name: &str) -> String {
    format!("{FIRST_GATE}-{name}")
}

/// Whether a gate is the first or an opener's.
#[must_use]
pub fn is_first_gate(gate: &str) -> bool {
    gate.strip_prefix(FIRST_GATE)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

impl Connection {
    /// A gate that holds at `now`, other than `own`.
    #[must_use]
    pub fn standing_gate(&self, now: Timestamp, own: Option<&str>) -> Option<&str> {
        self.gates
            .iter()
            .find(|(gate, deadline)| now < **deadline && Some(gate.as_str()) != own)
            .map(|(gate, _)| gate.as_str())
    }

    /// Whether a gate other than `own` has ended at `now` and was never lowered: whoever raised it died.
    #[must_use]
    pub fn has_dead_gate(&self, now: Timestamp, own: &str) -> bool {
        let mut gates = self.gates.iter();
        gates.any(|(gate, deadline)| *deadline <= now && gate != own)
    }

    /// Whether its token's end is its own: otherwise it ends because of its age.
    #[must_use]
    pub fn ends_with_token(&self) -> bool {
        self.ends_at < self.since.plus_seconds(limits::CONNECTION_SECONDS)
    }

    /// Whether pushes have to be parked at `now`.
    #[must_use]
    pub fn is_gated(&self, now: Timestamp) -> bool {
        !self.parked.is_empty()
            || self.standing_gate(now, None).is_some()
            || self.opening_gate().is_some()
    }

    /// Whether it may not be up yet: nobody knows then whether a 410 means its end. A session is up from its beginning.
    #[must_use]
    pub fn is_activating(&self, now: Timestamp) -> bool {
        let mut gates = self.gates.iter();
        self.framing != Framing::Session
            && gates.any(|(gate, deadline)| is_first_gate(gate) && now < *deadline)
    }

    /// The gate behind which a framed client still has to be told that its session is open. Once that gate no longer holds,
    /// nobody knows whether it was told, and nobody may tell it again: the connection is dropped.
    #[must_use]
    pub fn opening_gate(&self) -> Option<&str> {
        let mut gates = self.gates.keys().map(String::as_str);
        match self.framing {
            Framing::Raw | Framing::Session => None,
            Framing::Sockjs => gates.find(|it| is_first_gate(it)),
        }
    }
}

/// What to push later; never the frame itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reference {
    /// An event of a log.
    Event {
        /// The log.
        log: LogId,
        /// The event.
        sequence: u64,
        /// After this it must not be posted: whoever parked it may not hold the log's lease any more, and this may have been
        /// parked behind later events of the next holder.
        until: Timestamp,
    },
    /// That something of the log may be missing.
    Resync {
        /// The log.
        log: LogId,
    },
    /// How far a peer got in a direct conversation.
    Delivery {
        /// The conversation.
        log: LogId,
        /// The message at, or last before, `sequence`.
        message_id: MessageId,
        /// Up to here.
        sequence: u64,
        /// How far.
        status: DeliveryStatus,
        /// When.
        timestamp: Timestamp,
    },
    /// The presence of a subscriber, whatever it is by then.
    Presence {
        /// Whose.
        subscriber: Subscriber,
    },
    /// That somebody was invited to a channel or is so still.
    Invitation {
        /// The channel's log.
        log: LogId,
    },
    /// That the connection ends because its token does, if it still does so then.
    TokenExpiring {
        /// When.
        at: Timestamp,
    },
}

impl Reference {
    /// Whether it names an event that must not be posted any more.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        matches!(self, Self::Event { until, .. } if *until <= now)
    }
}

/// What [`Connections::park`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParkedOutcome {
    /// Parked; whether these are the first references there.
    Parked(Parked),
    /// The gate that was seen is gone, and nothing is parked: read again.
    Changed,
    /// There is no such connection any more.
    NotRegistered,
}

/// Whether somebody sees to what was parked already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked {
    /// Nothing was parked before: who parks the first sees to it that the gate's end is noticed.
    First,
    /// Something was.
    Further,
}

/// A connection that is to be registered.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Whose.
    pub subscriber: Subscriber,
    /// Its id.
    pub id: ConnectionId,
    /// What it begins as.
    pub connection: Connection,
}

/// Why a connection was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The token is unknown, expired or invalidated.
    #[error("the token authorises nothing")]
    Token,
    /// Another fault.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A connection that is to be authorised by another token.
#[derive(Clone, Debug)]
pub struct Reauthorization {
    /// Whose.
    pub subscriber: Subscriber,
    /// Which.
    pub id: ConnectionId,
    /// The token that authorises it now.
    pub old: TokenHash,
    /// The one that is to do so.
    pub new: TokenHash,
    /// Now.
    pub at: Timestamp,
    /// When nothing more is accepted from it afterwards.
    pub ends_at: Timestamp,
}

/// Why a connection was not authorised by another token.
#[derive(Debug, thiserror::Error)]
pub enum ReauthorizeError {
    /// The new token is unknown, expired or invalidated.
    #[error("the token authorises nothing")]
    Token,
    /// Another fault; [`Fault::Conflict`] if the connection is gone or has another token than `old`.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The connection is not registered: it was dropped, or never came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// The connections of subscribers.
pub trait Connections {
    /// The connections of one subscriber.
    async fn connections(
        &self,
        subscriber: &Subscriber,
    ) -> Result<BTreeMap<ConnectionId, Connection>, Fault>;

    /// The connections of many, in batches; who has none may be absent.
    async fn connections_of(
        &self,
        subscribers: &[Subscriber],
    ) -> Result<BTreeMap<Subscriber, BTreeMap<ConnectionId, Connection>>, Fault>;

    /// Registers a connection under its subscriber and its token in one transaction, on condition that the token is
    /// active and not expired at `connection.since`. Idempotent.
    async fn register(&self, registration: &Registration) -> Result<(), RegisterError>;

    /// Puts a connection under another token in one transaction, on condition that this is active and not expired at `at`
    /// and that the connection is registered under `old`.
    async fn reauthorize(&self, reauthorization: &Reauthorization) -> Result<(), ReauthorizeError>;

    /// Forgets a connection: its entry and its announcement in one step. Idempotent; the entry as it was, if it was there.
    /// That its token authorises it is left for [`Tokens::forget_token_connection`](super::Tokens::forget_token_connection):
    /// as long as that stands, whoever finds it knows that the connection may still be open.
    async fn forget(&self, key: &ConnectionKey) -> Result<Option<Connection>, Fault>;

    /// Raises a gate that holds until `deadline`; the connection as it is then.
    async fn raise_gate(
        &self,
        key: &ConnectionKey,
        gate: &str,
        deadline: Timestamp,
    ) -> Result<Result<Connection, Gone>, Fault>;

    /// Parks references at the end, on condition that `saw`, a gate that was read, still stands or something is parked.
    async fn park(
        &self,
        key: &ConnectionKey,
        saw: Option<&str>,
        references: &[Reference],
    ) -> Result<ParkedOutcome, Fault>;

    /// Removes the first `count` parked references, at most [`UNPARKED`], and renews the own gate, on condition that the own
    /// gate is still there; the connection as it is then.
    async fn unpark(
        &self,
        key: &ConnectionKey,
        gate: &str,
        count: usize,
        deadline: Timestamp,
    ) -> Result<Result<Connection, Gone>, Fault>;

    /// Removes the own gate, on condition that nothing is parked or that the gate `other` still stands; whether it did.
    /// True also if the own gate or the connection was gone already.
    async fn lower_gate(
        &self,
        key: &ConnectionKey,
        gate: &str,
        other: Option<&str>,
    ) -> Result<bool, Fault>;

    /// Removes the gate behind which a connection began, on condition that it still stands and nothing is parked; the
    /// subscriber's connections as they are then, or none if it was not so.
    async fn lower_first_gate(
        &self,
        key: &ConnectionKey,
    ) -> Result<Option<BTreeMap<ConnectionId, Connection>>, Fault>;

    /// Takes over from gates that no longer hold: removes `expired` (each on condition that it is unchanged), raises `gate`
    /// and parks `references` at the end; the connection as it is then, or none if it had changed.
    async fn take_gate(
        &self,
        key: &ConnectionKey,
        expired: &BTreeMap<String, Timestamp>,
        gate: (&str, Timestamp),
        references: &[Reference],
    ) -> Result<Option<Connection>, Fault>;
}
