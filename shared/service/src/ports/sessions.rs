//! SockJS sessions over HTTP: connections without a socket. What is pushed waits in an outbox for the next request.

use core::{fmt, time::Duration};

use protocol::{ConnectionId, Timestamp, digest::sha256_hex};

use super::{Fault, Lease, Minute, Page, TokenHash};
use crate::Identity;

/// How long a session lives without a receiver (SockJS: the disconnect delay).
pub const LINGER: Duration = Duration::from_secs(5);
/// Messages that wait for a receiver, at most: so many can be removed in one step.
pub const OUTBOX_MESSAGES: usize = 200;
/// Their bytes, at most. DynamoDB's item may have 400 KiB
/// (docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html, 2026-08).
pub const OUTBOX_BYTES: usize = 256 * 1024;

/// What every id of an HTTP session begins with, and none of the gateway's has.
const MARK: char = '~';

/// What finds a session: nobody who lacks the token with which it began can name it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionKey(String);

impl SessionKey {
    /// The key of the session that the client calls `id` and that began with `token`.
    #[must_use]
    pub fn of(token: &TokenHash, id: &str) -> Self {
        Self(sha256_hex(format!("{}#{id}", token.as_str()).as_bytes()))
    }

    /// A key as it was stored or came with a doorbell.
    #[must_use]
    pub const fn from_stored(key: String) -> Self {
        Self(key)
    }

    /// The key as text.
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

/// One life of a session: what ended and began again under the same key is another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId {
    /// Which.
    pub key: SessionKey,
    /// Which life of it: fresh with each, without `~`.
    pub incarnation: String,
}

impl SessionId {
    /// The session as a connection of its subscriber.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        let Self { key, incarnation } = self;
        ConnectionId(format!("{MARK}{}{MARK}{incarnation}", key.as_str()))
    }

    /// The session that a connection is; none if it is a socket.
    #[must_use]
    pub fn of(connection: &ConnectionId) -> Option<Self> {
        let (key, incarnation) = connection.as_str().strip_prefix(MARK)?.split_once(MARK)?;
        Some(Self {
            key: SessionKey::from_stored(key.to_owned()),
            incarnation: incarnation.to_owned(),
        })
    }
}

/// A session that ends, and what its client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// SockJS's close code.
    pub code: u16,
    /// Its reason.
    pub reason: String,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Which life of it.
    pub incarnation: String,
    /// Who began it, and with which token.
    pub identity: Identity,
    /// What its client is told before anything else happens, if it ends.
    pub closing: Option<Closing>,
    /// Who receives for its client.
    pub lease: Option<Lease>,
    /// It is dead from then on.
    pub alive_until: Timestamp,
    /// The connection that tells the receiver of something new.
    pub doorbell: Option<ConnectionId>,
    /// Messages for its client, in order.
    pub outbox: Vec<String>,
    /// How many were taken from the front of the outbox so far.
    pub removed: u64,
}

impl Session {
    /// A session that begins with a receiver.
    #[must_use]
    pub fn new(incarnation: String, identity: Identity, lease: Lease) -> Self {
        Self {
            incarnation,
            identity,
            closing: None,
            alive_until: lease.until.plus(LINGER),
            lease: Some(lease),
            doorbell: None,
            outbox: Vec::new(),
            removed: 0,
        }
    }

    /// Whether it lives at `now`.
    #[must_use]
    pub fn is_alive(&self, now: Timestamp) -> bool {
        now < self.alive_until
    }

    /// Whether something can be pushed to it at `now`.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.is_alive(now) && self.closing.is_none()
    }
}

/// What became of [`Sessions::attach`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// The lease is the caller's.
    Held(Session),
    /// It is not: another receiver has it, or the session is dead. The session as it stands.
    Stands(Session),
    /// There is no such session.
    Absent,
}

/// What a receiver has written to its client, and how long it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The lease's holder.
    pub holder: String,
    /// [`Session::removed`] as the holder saw it.
    pub seen: u64,
    /// Messages to remove from the front of the outbox: they were written.
    pub written: usize,
    /// Their bytes.
    pub bytes: usize,
    /// The new end: of the lease while it is held, of the session once it is released.
    pub until: Timestamp,
    /// Now: a session that is dead by then stays so, as others have taken it for that.
    pub now: Timestamp,
}

/// What became of [`Sessions::push_to_session`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// They wait in the outbox; who is to be told.
    Waiting(Option<ConnectionId>),
    /// There is no room; nothing was added.
    Full,
    /// No such life of the session, or it is dead or ends.
    Gone,
}

/// A receiver's connection to hear of what is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doorbell {
    /// Of which session.
    pub key: SessionKey,
    /// Who holds its lease.
    pub holder: String,
    /// The token with which the doorbell's connection was let in.
    pub token: TokenHash,
    /// The connection.
    pub connection: ConnectionId,
}

/// The sessions. Every change of one is a single step, so what is pushed keeps its order whoever pushes.
pub trait Sessions {
    /// The session, also a dead one.
    async fn session(&self, key: &SessionKey) -> Result<Option<Session>, Fault>;

    /// Begins a session, on condition that none lives under its key at `now`; whether it did. Idempotent: the same
    /// incarnation has begun however often it is asked for.
    async fn begin_session(
        &self,
        key: &SessionKey,
        session: &Session,
        now: Timestamp,
    ) -> Result<bool, Fault>;

    /// Takes the lease of a session that lives at `now`, on condition that nobody else has it then. It lives [`LINGER`]
    /// longer than the lease, and has no doorbell any more. Idempotent for the same holder.
    async fn attach(
        &self,
        key: &SessionKey,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<Attached, Fault>;

    /// Removes what was written and renews the lease, on condition that `hold.holder` has it still; the session as it is
    /// then. It lives [`LINGER`] longer than the lease. Done again it removes nothing more.
    async fn hold_session(&self, key: &SessionKey, hold: &Hold) -> Result<Option<Session>, Fault>;

    /// Removes what was written and gives the lease up, on condition that `hold.holder` has it still; whether it did. The
    /// session lives until `hold.until`. Idempotent as long as nobody attaches.
    async fn release_session(&self, key: &SessionKey, hold: &Hold) -> Result<bool, Fault>;

    /// Puts messages at the end of the outbox, all or none, on condition that this life is open at `now` and that there is
    /// room: [`OUTBOX_MESSAGES`] and [`OUTBOX_BYTES`] with them.
    async fn push_to_session(
        &self,
        id: &SessionId,
        messages: &[&str],
        now: Timestamp,
    ) -> Result<Pushed, Fault>;

    /// Ends a life that is open at `now`: its client is told once it has what waits. The first of several closings stands.
    /// Who is to be told.
    async fn close_session(
        &self,
        id: &SessionId,
        closing: &Closing,
        now: Timestamp,
    ) -> Result<Option<ConnectionId>, Fault>;

    /// Notes the doorbell, on condition that its holder has the lease of a session that began with its token; whether it
    /// did.
    async fn set_doorbell(&self, doorbell: &Doorbell) -> Result<bool, Fault>;

    /// The sessions that are to be looked at in a minute, a page at a time, in the order of their keys (eventually
    /// consistent). A session first stands in the minute of its first `alive_until`.
    async fn due_sessions(
        &self,
        minute: Minute,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> Result<Page<SessionKey>, Fault>;

    /// From now on this life is to be looked at in another minute. Idempotent; does nothing to another life.
    async fn postpone_session(&self, id: &SessionId, minute: Minute) -> Result<(), Fault>;

    /// Forgets this life on condition that it is dead at `now`. Idempotent; does nothing to another life.
    async fn forget_session(&self, id: &SessionId, now: Timestamp) -> Result<(), Fault>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_survives_as_a_connection() {
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
    fn a_key_is_of_one_token_and_one_id() {
        let (one, other) = (TokenHash::of("one"), TokenHash::of("other"));
        let key = SessionKey::of(&one, "id");
        assert_eq!(key, SessionKey::of(&one, "id"));
        assert_ne!(key, SessionKey::of(&other, "id"));
        assert_ne!(key, SessionKey::of(&one, "id2"));
    }
}
