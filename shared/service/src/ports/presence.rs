//! What subscribers announced of themselves, and who tells others.

use std::collections::BTreeMap;

use protocol::{Announcement, ConnectionId, ConnectionKey, Subscriber, Timestamp};

use super::{Fault, Gone};

/// A subscriber's announcements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresenceState {
    /// By connection. Only live connections have one: dropping a connection drops its announcement in the same write.
    pub announcements: BTreeMap<ConnectionId, Announcement>,
    /// Grows with each change.
    pub version: u64,
    /// The version that was told to others last, or found to look the same to them.
    pub pushed: u64,
    /// What others were told last, and as which version of theirs; none if they were never told anything.
    pub published: Option<PublishedPresence>,
}

/// What others were told. Its version counts what they saw: going from offline to invisible and back leaves no trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishedPresence {
    /// SHA-256 of what they saw, in hexadecimal.
    pub digest: String,
    /// Grows by one each time that they see a change.
    pub version: u64,
}

impl PresenceState {
    /// The announcement that holds: the latest one.
    #[must_use]
    pub fn effective(&self) -> Option<&Announcement> {
        self.announcements.values().max_by_key(|it| it.at)
    }
}

/// The announcements of subscribers.
pub trait Presences {
    /// One subscriber's; the default if it never announced.
    async fn presence(&self, subscriber: &Subscriber) -> Result<PresenceState, Fault>;

    /// Those of many, in batches; who never announced may be absent.
    async fn presences(
        &self,
        subscribers: &[Subscriber],
    ) -> Result<BTreeMap<Subscriber, PresenceState>, Fault>;

    /// Sets a connection's announcement, on condition that the connection is registered; the new version.
    async fn announce(
        &self,
        key: &ConnectionKey,
        announcement: &Announcement,
    ) -> Result<Result<u64, Gone>, Fault>;

    /// Removes a connection's announcement, on condition that the connection is registered; the new version, or none if
    /// it had announced nothing.
    async fn unannounce(&self, key: &ConnectionKey) -> Result<Result<Option<u64>, Gone>, Fault>;

    /// Takes the right to tell others, if there is an untold version and nobody has that right at `now`; the state then.
    async fn lease_presence(
        &self,
        subscriber: &Subscriber,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<PresenceState>, Fault>;

    /// Notes that `version` was told as `told` and gives the right back, if it is `holder`'s still; whether `version` is the
    /// newest.
    async fn release_presence(
        &self,
        subscriber: &Subscriber,
        holder: &str,
        version: u64,
        published: Option<&PublishedPresence>,
    ) -> Result<bool, Fault>;
}
