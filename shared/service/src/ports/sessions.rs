//! SockJS sessions over HTTP: connections without a socket. Messages wait in an outbox for the next request of the
//! client.

use core::{fmt, time::Duration};

use protocol::{ConnectionId, Timestamp, digest::sha256_hex};

use super::{Fault, Lease, Minute, Page, TokenHash};
use crate::Identity;

/// How long a session lives without a receiver (SockJS's disconnect delay).
pub const LINGER: Duration = Duration::from_secs(5);
/// Messages in an outbox at most. So many can be removed in one step.
pub const OUTBOX_MESSAGES: usize = 200;
/// Bytes of the messages in an outbox at most. A DynamoDB item may have 400 KiB
/// (docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html, 2026-08).
pub const OUTBOX_BYTES: usize = 256 * 1024;

/// The first character of every session's connection id. No connection id of the gateway begins with it.
const MARK: char = '~';

/// The key of a session. Only a client with the token with which the session began can name it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionKey(String);

impl SessionKey {
    /// Returns the key of the session that the client calls `id` and that began with `token`.
    #[must_use]
    pub fn of(token: &TokenHash, id: &str) -> Self {
        Self(sha256_hex(format!("{}#{id}", token.as_str()).as_bytes()))
    }

    /// Returns a key that was stored, or that came with a doorbell.
    #[must_use]
    pub const fn from_stored(key: String) -> Self {
        Self(key)
    }

    /// Returns the key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

/// One life of a session. A session that begins again under the same key is another life.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId {
    pub key: SessionKey,
    /// Identifies the life. A new one for each, without `~`.
    pub incarnation: String,
}

impl SessionId {
    /// Returns the session's id as a connection of its subscriber.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        let Self { key, incarnation } = self;
        ConnectionId(format!("{MARK}{}{MARK}{incarnation}", key.as_str()))
    }

    /// Returns the session behind a connection id, or `None` if the connection is a WebSocket.
    #[must_use]
    pub fn of(connection: &ConnectionId) -> Option<Self> {
        let (key, incarnation) = connection.as_str().strip_prefix(MARK)?.split_once(MARK)?;
        Some(Self {
            key: SessionKey::from_stored(key.to_owned()),
            incarnation: incarnation.to_owned(),
        })
    }
}

/// The close frame for the client of a session that ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// SockJS's close code.
    pub code: u16,
    pub reason: String,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Identifies this life of the session.
    pub incarnation: String,
    /// The subscriber that began the session, and the token with which it did.
    pub identity: Identity,
    /// If present, the session is ending.
    pub closing: Option<Closing>,
    /// The lease of the session's receiver: the function that receives for the client.
    pub lease: Option<Lease>,
    /// The lease of the request that sends the client's messages.
    pub sender: Option<Lease>,
    /// The session is dead from then on.
    pub alive_until: Timestamp,
    /// The connection over which the receiver is notified of new messages.
    pub doorbell: Option<ConnectionId>,
    /// Messages for the client, in order.
    pub outbox: Vec<String>,
    /// How many messages were removed from the front of the outbox so far.
    pub removed: u64,
}

impl Session {
    /// Returns a session that begins with a receiver.
    #[must_use]
    pub fn new(incarnation: String, identity: Identity, lease: Lease) -> Self {
        Self {
            incarnation,
            identity,
            closing: None,
            alive_until: lease.until.plus(LINGER),
            lease: Some(lease),
            sender: None,
            doorbell: None,
            outbox: Vec::new(),
            removed: 0,
        }
    }

    /// Returns true if the session is alive at `now`.
    #[must_use]
    pub fn is_alive(&self, now: Timestamp) -> bool {
        now < self.alive_until
    }

    /// Returns true if messages can be pushed to the session at `now`.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.is_alive(now) && self.closing.is_none()
    }
}

/// The result of [`Sessions::attach`] and of [`Sessions::begin_sending`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// The caller has the lease. Contains the session as the write left it.
    Held(Session),
    /// The caller does not have the lease, because the condition did not hold. Contains the session.
    Stands(Session),
    /// There is no such session.
    Absent,
}

/// What a receiver has written to its client, and the new end of its lease or of the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The holder of the lease.
    pub holder: String,
    /// [`Session::removed`] as the holder saw it.
    pub seen: u64,
    /// How many messages were written to the client. They are removed from the front of the outbox.
    pub written: usize,
    /// The bytes of these messages.
    pub bytes: usize,
    /// The new end: of the lease if it is kept, of the session if it is released.
    pub until: Timestamp,
    /// The current time. A session that is dead by then stays dead, because others may have seen it dead.
    pub now: Timestamp,
}

/// The result of [`Sessions::push_to_session`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The messages are in the outbox. Contains the doorbell to ring, if there is one.
    Waiting(Option<ConnectionId>),
    /// The outbox has no room. Nothing was added.
    Full,
    /// This life of the session does not exist, is dead, or is ending.
    Gone,
}

/// A WebSocket over which a session's receiver is notified of new messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doorbell {
    /// The session.
    pub key: SessionKey,
    /// The holder of the session's lease.
    pub holder: String,
    /// The token with which the doorbell's connection was authenticated.
    pub token: TokenHash,
    pub connection: ConnectionId,
}

/// The sessions. Every change of a session is one atomic step, so messages keep their order whichever function pushes
/// them.
pub trait Sessions {
    /// Returns a session, or `None` if there is none. A dead session is returned too.
    async fn session(&self, key: &SessionKey) -> Result<Option<Session>, Fault>;

    /// Begins a session, on condition that no session is alive under its key at `now`. Returns true if it began.
    /// Idempotent: a repeat with the same incarnation returns true.
    async fn begin_session(
        &self,
        key: &SessionKey,
        session: &Session,
        now: Timestamp,
    ) -> Result<bool, Fault>;

    /// Takes the lease of a session, on condition that the session is alive at `now` and that no other holder has the
    /// lease then. The session then lives [`LINGER`] longer than the lease, and its doorbell is removed. Idempotent for
    /// the same holder.
    async fn attach(
        &self,
        key: &SessionKey,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<Attached, Fault>;

    /// Removes the written messages from the outbox and renews the lease until `hold.until`. The session then lives
    /// [`LINGER`] longer than the lease.
    ///
    /// The condition is that `hold.holder` still has the lease, that the session is alive at `hold.now`, and that no
    /// other message was removed since `hold.seen`. Returns the session as the write left it, or `None` if the
    /// condition did not hold. A repeat removes nothing more.
    async fn hold_session(&self, key: &SessionKey, hold: &Hold) -> Result<Option<Session>, Fault>;

    /// Removes the written messages from the outbox and gives the lease up, on the condition of [`Self::hold_session`].
    /// The session then lives until `hold.until` and has no doorbell. Returns true if the lease was given up.
    /// Idempotent as long as no receiver attaches.
    async fn release_session(&self, key: &SessionKey, hold: &Hold) -> Result<bool, Fault>;

    /// Takes the sender's lease of a session, on condition that the session is open at `now` and that no other holder has
    /// this lease then. The lease does not keep the session alive. Idempotent for the same holder.
    async fn begin_sending(
        &self,
        key: &SessionKey,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<Attached, Fault>;

    /// Gives the sender's lease up, on condition that `holder` has it. Otherwise does nothing. Idempotent.
    async fn end_sending(&self, key: &SessionKey, holder: &str) -> Result<(), Fault>;

    /// Appends messages to the outbox, all or none. The condition is that this life is open at `now`, and that the
    /// outbox then has at most [`OUTBOX_MESSAGES`] and [`OUTBOX_BYTES`].
    async fn push_to_session(
        &self,
        id: &SessionId,
        messages: &[&str],
        now: Timestamp,
    ) -> Result<Pushed, Fault>;

    /// Ends a life that is open at `now`. Its client gets the close frame after the messages in the outbox. If a
    /// session is closed more than once, the first closing stands. Returns the doorbell to ring, if this life has one.
    async fn close_session(
        &self,
        id: &SessionId,
        closing: &Closing,
        now: Timestamp,
    ) -> Result<Option<ConnectionId>, Fault>;

    /// Stores the doorbell, on condition that its holder has the lease of the session, and that the session began with
    /// the doorbell's token. Returns true if it was stored.
    async fn set_doorbell(&self, doorbell: &Doorbell) -> Result<bool, Fault>;

    /// Returns the sessions that have to be checked in a minute, a page at a time, in the order of their keys
    /// (eventually consistent). A new session is listed in the minute of its first `alive_until`.
    async fn due_sessions(
        &self,
        minute: Minute,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> Result<Page<SessionKey>, Fault>;

    /// Moves this life to another minute of [`Self::due_sessions`]. Does nothing to another life. Idempotent.
    async fn postpone_session(&self, id: &SessionId, minute: Minute) -> Result<(), Fault>;

    /// Removes this life, on condition that it is dead at `now`. Does nothing to another life. Idempotent.
    async fn forget_session(&self, id: &SessionId, now: Timestamp) -> Result<(), Fault>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_id_round_trips_as_connection() {
        let id = SessionId {
            key: SessionKey::of(&TokenHash::of("token"), "a b/~#"),
            incarnation: "0123456789ab".to_owned(),
        };
        assert_eq!(SessionId::of(&id.connection()), Some(id));
        for socket in ["JKJaXmPLvHcESHA=", "", "~", "~only-a-key"] {
            assert_eq!(SessionId::of(&ConnectionId(socket.to_owned())), None);
        }
    }

    #[test]
    fn session_key_needs_token_and_id() {
        let (one, other) = (TokenHash::of("one"), TokenHash::of("other"));
        let key = SessionKey::of(&one, "id");
        assert_eq!(key, SessionKey::of(&one, "id"));
        assert_ne!(key, SessionKey::of(&other, "id"));
        assert_ne!(key, SessionKey::of(&one, "id2"));
    }
}
