//! The way out to clients, the way to other functions, and what the surroundings give: time and randomness.

use core::time::Duration;

use protocol::{ChannelKey, ConnectionId, LogId, Subscriber, SubscriberId, Timestamp};
use serde::{Deserialize, Serialize};
use sockjs::Close;

use super::{Credential, Fault, Framing, TokenHash};

/// What became of one post to one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The gateway took it. The client may still be gone.
    Delivered,
    /// There is no such connection (410).
    Gone,
    /// Certainly not taken: too fast, the client reads too slowly (429), or the gateway could not be reached.
    Throttled,
    /// Not taken: too many bytes (413).
    TooLarge,
    /// Nobody knows.
    Unknown,
}

/// Whether a connection is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It is.
    Up,
    /// It is not, or not yet.
    Gone,
    /// Nobody knows.
    Unknown,
}

/// What became of one post of several messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posted {
    /// How many of the first messages went, at least one: what did not fit is still to be posted.
    pub count: usize,
    /// What became of all of these: they went together, or not at all.
    pub outcome: Outcome,
}

/// Messages to clients. Each request ends within two seconds and is never repeated by itself.
pub trait Pushes {
    /// Tells the client of a connection with [`Framing::Sockjs`] that its session is open. A client that is told twice takes
    /// its session for lost, so this comes before everything else and, unless it was certainly not taken, once.
    async fn open_session(&self, connection: &ConnectionId) -> Outcome;

    /// Hands messages to a connection in one request: as many of the first ones as one frame of its framing holds, at least
    /// one. With [`Framing::Raw`] that is one.
    async fn post(&self, connection: &ConnectionId, framing: Framing, messages: &[&str]) -> Posted;

    /// Whether the connection is up.
    async fn probe(&self, connection: &ConnectionId) -> Probe;

    /// Drops the connection; whether it is certain that it is gone. A framed client is told `close` before; an own request,
    /// whose failure changes nothing.
    async fn drop_connection(
        &self,
        connection: &ConnectionId,
        framing: Framing,
        close: Close,
    ) -> bool;
}

/// Something worth a metric: names and numbers only, never an id, a token or content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// A client message was handled; which type, or what it was instead.
    Message(&'static str),
    /// Another writer was first, and it was decided again.
    Conflict,
    /// A batch of a log went to so many connections, in that time.
    Fanout {
        /// How many, also those that were parked or gone.
        connections: usize,
        /// How long.
        took: Duration,
    },
    /// What became of a post.
    Post(Outcome),
    /// A gate stood so long: what was caused by a request waited for its answer.
    Gate(Duration),
    /// Something was parked behind a gate.
    Parked,
    /// Whether a token is good could not be told.
    AuthorizerFault,
    /// The oldest event of a batch had been stored so long before it was pushed.
    DrainAge(Duration),
}

/// Work that nobody should wait for. Carried out at least once, so every job is safe twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "kebab-case")]
pub enum Job {
    /// A connection was registered: wait until it is up, then let what was parked go.
    Connected {
        /// Whose.
        subscriber: Subscriber,
        /// Which.
        connection: ConnectionId,
        /// The token that it was registered under.
        token: TokenHash,
        /// How frames to it are written.
        #[serde(default)]
        framing: Framing,
    },
    /// A log may hold events that nobody pushes.
    Drain {
        /// The log.
        log: LogId,
        /// The holder of the lease that is handed on, if one is.
        holder: Option<String>,
    },
    /// A batch of a log is on its way to its members, and too many are left for one invocation.
    GoOn {
        /// The log.
        log: LogId,
        /// The holder of the lease that is handed on.
        holder: String,
        /// How far it came.
        midway: Midway,
    },
    /// A subscriber's presence changed.
    Presence {
        /// Whose.
        subscriber: Subscriber,
        /// Whether a reconnect may undo the change within the time of grace.
        grace: bool,
    },
    /// Something was parked for a connection: see to it that it goes even if the gate's owner died.
    Release {
        /// Whose.
        subscriber: Subscriber,
        /// Which.
        connection: ConnectionId,
    },
    /// A subscriber was invited.
    Invited {
        /// Who.
        subscriber: Subscriber,
        /// To which channel.
        log: LogId,
    },
    /// A person is erased: its memberships, its presence, and what it wrote.
    Erase {
        /// Who.
        subscriber: Subscriber,
    },
    /// What a subscriber wrote into a log is replaced by void entries.
    EraseLog {
        /// Who.
        subscriber: Subscriber,
        /// Where.
        log: LogId,
        /// Everything up to here is done with.
        after: u64,
    },
    /// A channel ended: the rows of its members are removed.
    Dismantle {
        /// The channel.
        channel: ChannelKey,
    },
}

/// How far the sending of a batch came, in the order in which members are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Midway {
    /// The last event of the batch.
    pub through: u64,
    /// Every member up to this one has had its part of the batch.
    pub after: SubscriberId,
    /// Up to here the others get a `resync` instead of the events.
    pub doubtful: u64,
}

/// The `fanout` function.
pub trait Workers {
    /// Starts a job and does not wait for it.
    async fn start(&self, job: &Job) -> Result<(), Fault>;
}

/// Time, randomness, and who else's word counts.
pub trait Environment {
    /// Now.
    fn now(&self) -> Timestamp;

    /// Waits.
    async fn sleep(&self, duration: Duration);

    /// A fresh id: 128 random bits as a UUID.
    fn fresh_id(&self) -> String;

    /// A fresh bearer token: 256 bits of the system's generator, base64url.
    fn fresh_token(&self) -> String;

    /// Notes something for the metrics. Nobody does unless it is told to.
    fn measure(&self, measure: Measure) {
        let _ = measure;
    }

    /// What a bearer token is. Without an issuer whose signatures are accepted every one is [`Credential::Opaque`].
    ///
    /// A fault if the issuer's keys cannot be had: then nobody knows whether the token is good.
    async fn credential(&self, token: &str) -> Result<Credential, Fault> {
        let _ = token;
        Ok(Credential::Opaque)
    }
}
