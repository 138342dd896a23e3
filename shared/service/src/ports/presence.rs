//! The announcements of subscribers, and the lease to publish their presence.

use std::collections::BTreeMap;

use protocol::{Announcement, ConnectionId, ConnectionKey, Subscriber, Timestamp};

use super::{Fault, Gone};

/// The announcements of a subscriber, and what was published of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresenceState {
    /// By connection. Only registered connections have one: forgetting a connection removes its announcement in the
    /// same write.
    pub announcements: BTreeMap<ConnectionId, Announcement>,
    /// Grows with each change.
    pub version: u64,
    /// The version that was published last, or that was found to look the same to others.
    pub pushed: u64,
    /// The last published presence. `None` if none was published yet.
    pub published: Option<PublishedPresence>,
}

/// A presence that others were sent. Its version counts only changes that they could see. So going from offline to
/// invisible and back leaves no trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishedPresence {
    /// SHA-256 of what others saw, in hexadecimal.
    pub digest: String,
    /// Grows by one with each change that others see.
    pub version: u64,
}

impl PresenceState {
    /// Returns the announcement that is in effect, which is the latest one. `None` if there is none.
    #[must_use]
    pub fn effective(&self) -> Option<&Announcement> {
        self.announcements.values().max_by_key(|it| it.at)
    }
}

/// The announcements of subscribers, and the lease to publish their presence.
pub trait Presences {
    /// Returns a subscriber's presence, or the default if it never announced one.
    async fn presence(&self, subscriber: &Subscriber) -> Result<PresenceState, Fault>;

    /// Returns the presence of several subscribers. Reads them in batches. A subscriber that never announced one may be
    /// absent.
    async fn presences(
        &self,
        subscribers: &[Subscriber],
    ) -> Result<BTreeMap<Subscriber, PresenceState>, Fault>;

    /// Sets a connection's announcement, on condition that the connection is registered. Returns the new version, or
    /// [`Gone`] if it is not registered.
    async fn announce(
        &self,
        key: &ConnectionKey,
        announcement: &Announcement,
    ) -> Result<Result<u64, Gone>, Fault>;

    /// Removes a connection's announcement, on condition that the connection is registered. Returns the new version,
    /// `None` if the connection had no announcement, or [`Gone`] if it is not registered.
    async fn unannounce(&self, key: &ConnectionKey) -> Result<Result<Option<u64>, Gone>, Fault>;

    /// Takes the lease to publish until `until`. The condition is that there is an unpublished version and that no
    /// function holds the lease at `now`. Returns the state as the write left it, or `None` if the condition did not
    /// hold.
    async fn lease_presence(
        &self,
        subscriber: &Subscriber,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<PresenceState>, Fault>;

    /// Notes that `version` was published as `published`, and gives the lease back, on condition that `holder` still
    /// holds it. Without `published`, the last published presence stays as it is. Returns true if `version` is the
    /// newest one, even if the condition did not hold.
    async fn release_presence(
        &self,
        subscriber: &Subscriber,
        holder: &str,
        version: u64,
        published: Option<&PublishedPresence>,
    ) -> Result<bool, Fault>;
}
