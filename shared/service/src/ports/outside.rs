//! What the service uses besides storage: sending to clients, starting the worker, time, randomness, metrics, token
//! verification.

use core::time::Duration;

use protocol::{ChannelKey, ConnectionId, LogId, Subscriber, SubscriberId, Timestamp};
use serde::{Deserialize, Serialize};
use sockjs::Close;

use super::{Credential, Fault, Framing, TokenHash};

/// The outcome of one post to one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The gateway accepted it. The client may still be gone.
    Delivered,
    /// There is no such connection (410).
    Gone,
    /// Certainly not accepted: the rate is too high or the client reads too slowly (429), or the gateway could not be
    /// reached.
    Throttled,
    /// Not accepted: too many bytes (413).
    TooLarge,
    /// It may have been accepted.
    Unknown,
}

/// The answer to the question if a connection is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The connection is active.
    Up,
    /// The connection is closed, or not active yet.
    Gone,
    /// The gateway gave no clear answer.
    Unknown,
}

/// The result of one post of several messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posted {
    /// How many of the first messages the post contained, at least one. The others did not fit and are still to be
    /// posted.
    pub count: usize,
    /// The outcome of these `count` messages. They go together or not at all.
    pub outcome: Outcome,
}

/// Sending to clients. Each request ends within two seconds, and the port never repeats one by itself.
pub trait Pushes {
    /// Posts `o` to a connection with [`Framing::Sockjs`], which opens its SockJS session. A client takes a second `o`
    /// for the loss of its session. So `o` is posted before everything else, and only repeated if it was certainly not
    /// accepted.
    async fn open_session(&self, connection: &ConnectionId) -> Outcome;

    /// Posts messages to a connection in one request: as many of the first ones as one frame of its framing holds, at
    /// least one. With [`Framing::Raw`] this is exactly one.
    async fn post(&self, connection: &ConnectionId, framing: Framing, messages: &[&str]) -> Posted;

    /// Asks the gateway if the connection is active.
    async fn probe(&self, connection: &ConnectionId) -> Probe;

    /// Closes the connection. Returns true if it is certainly closed. A SockJS client gets `close` first, in a request
    /// of its own whose failure changes nothing.
    async fn drop_connection(
        &self,
        connection: &ConnectionId,
        framing: Framing,
        close: Close,
    ) -> bool;
}

/// A measurement for a metric. It has names and numbers only, never an id, a token or content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// A client message was handled. Contains its type, or `ignored` or `rejected`.
    Message(&'static str),
    /// Another write came first, so the service decided or wrote again.
    Conflict,
    /// A batch of a log was sent to its connections.
    Fanout {
        /// The number of connections. Includes those for which the batch was parked and those that were gone.
        connections: usize,
        took: Duration,
    },
    Post(Outcome),
    /// A gate was lowered. Contains how long pushes were held back for the response.
    Gate(Duration),
    /// Something was parked behind a gate.
    Parked,
    /// The authorizer could not find out if a token is valid.
    AuthorizerFault,
    /// The age of the oldest event of a batch when the batch was pushed.
    DrainAge(Duration),
}

/// Work for the worker, for which no caller waits. A job is executed at least once, so every job is safe to run twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "kebab-case")]
pub enum Job {
    /// A connection was registered: wait until it is active, then release what was parked.
    Connected {
        subscriber: Subscriber,
        connection: ConnectionId,
        /// The token under which it was registered.
        token: TokenHash,
        #[serde(default)]
        framing: Framing,
    },
    /// A log may hold events that no function pushes: drain it.
    Drain {
        log: LogId,
        /// The holder of the lease that is handed on. `None` if no lease is handed on.
        holder: Option<String>,
    },
    /// A batch was sent to a part of its receivers, and the rest does not fit one invocation: continue.
    GoOn {
        log: LogId,
        /// The holder of the lease that is handed on.
        holder: String,
        midway: Midway,
    },
    /// A subscriber's presence changed: publish it.
    Presence {
        subscriber: Subscriber,
        /// True if a reconnect may undo the change within the time of grace.
        grace: bool,
    },
    /// Something was parked for a connection: wait for the end of its gates and release what is left, because the owner
    /// of a gate may die.
    Release {
        subscriber: Subscriber,
        connection: ConnectionId,
    },
    /// A subscriber was invited: push the invitation.
    Invited {
        subscriber: Subscriber,
        /// The channel's log.
        log: LogId,
    },
    /// Erase a person: end its memberships and start a job for each log that may hold its messages.
    Erase { subscriber: Subscriber },
    /// Replace the messages of a subscriber in a log by void entries.
    EraseLog {
        subscriber: Subscriber,
        log: LogId,
        /// All entries up to this sequence are done.
        after: u64,
    },
    /// A channel has ended or is about to end: remove the rows of its members.
    Dismantle { channel: ChannelKey },
}

/// How far a batch was sent, in the order in which members are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Midway {
    /// The sequence of the last event of the batch.
    pub through: u64,
    /// Every member up to this one was sent the batch.
    pub after: SubscriberId,
    /// Up to this sequence the other members get a `resync` instead of the events.
    pub doubtful: u64,
}

/// The `worker` function.
pub trait Workers {
    /// Starts a job and does not wait for it.
    async fn start(&self, job: &Job) -> Result<(), Fault>;
}

/// Time.
pub trait Clock {
    /// Returns the current time.
    fn now(&self) -> Timestamp;

    /// Waits for `duration`.
    async fn sleep(&self, duration: Duration);
}

/// Randomness.
pub trait Random {
    /// Returns a fresh id: 128 random bits as a UUID.
    fn fresh_id(&self) -> String;

    /// Returns a fresh bearer token: 256 bits of the system's generator, base64url.
    fn fresh_token(&self) -> String;
}

/// Metrics.
pub trait Metrics {
    /// Counts something for the metrics. The default ignores it.
    fn measure(&self, measure: Measure) {
        let _ = measure;
    }
}

/// Verification of bearer tokens.
pub trait TokenVerifier {
    /// Returns the kind of a bearer token. Without an accepted issuer every token is [`Credential::Opaque`].
    ///
    /// # Errors
    /// Fails if the issuer's keys are not available, because the token then cannot be verified.
    async fn credential(&self, token: &str) -> Result<Credential, Fault> {
        let _ = token;
        Ok(Credential::Opaque)
    }
}

/// The four ports that every flow may use: time, randomness, metrics and token verification.
pub trait Environment: Clock + Random + Metrics + TokenVerifier {}

impl<T: Clock + Random + Metrics + TokenVerifier> Environment for T {}
