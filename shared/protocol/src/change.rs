//! The writes, as data: entries of a log, and the one transaction of a change of a channel.

use alloc::{string::String, vec::Vec};

use crate::{ChannelId, ChannelKey, ConnectionId, Event, Json, SubscriberId, Timestamp};

/// An event with the fields that the log stores beside it and never shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub event: Event,
    /// Chosen at random by the writer. A writer that reads back its own nonce knows that its write took place.
    pub nonce: String,
    /// The connection that caused the event. It gets the response instead of the push.
    pub origin: Option<ConnectionId>,
}

/// The name of a channel, and its other settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub name: String,
    /// Defined by the client and stored byte for byte.
    pub attributes: Json,
    /// SHA-256 of the invite token in hexadecimal. `None` if the channel has no invite token.
    pub invite_hash: Option<String>,
    /// The subscriber that created the channel. `None` if a back end did.
    pub creator: Option<SubscriberId>,
    /// Increases with each change.
    pub version: u64,
}

/// The numbers of members and administrators of a channel.
///
/// Every change of membership takes the roster from one version to the next. So two changes that read the same version
/// cannot both succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roster {
    /// True while the channel can be joined. False after the last member left, or after the channel was deleted.
    pub open: bool,
    pub members: u64,
    pub administrators: u64,
    /// Increases with each change.
    pub version: u64,
}

/// A membership, as stored with the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub subscriber: SubscriberId,
    pub administrator: bool,
    /// The sequence of the event with which the member joined. The member gets this event and all later ones.
    pub joined: u64,
    /// The sequence of the event with which the member left, kept for a day. The member gets no later event.
    pub left: Option<u64>,
    /// The last sequence that the member has displayed.
    pub displayed: u64,
    /// The last sequence that the member has read.
    pub read: u64,
}

impl Member {
    /// Returns true unless the member has left.
    #[must_use]
    pub const fn is_current(&self) -> bool {
        self.left.is_none()
    }
}

/// An invitation of a subscriber to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    pub channel: ChannelId,
    /// The administrator that sent it. `None` if a back end did.
    pub from: Option<SubscriberId>,
    pub at: Timestamp,
}

/// A new state, with the version that it replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replace<T> {
    /// The version that was read. `None` if the item must not exist yet.
    pub expect: Option<u64>,
    pub to: T,
}

/// One atomic transaction on a channel, with its conditions.
///
/// A condition that does not hold is a conflict. After a conflict everything is read and decided again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub channel: ChannelKey,
    /// The time of the change, from which expiry times are computed.
    pub at: Timestamp,
    /// The events. Each is written to a slot that must be empty.
    pub entries: Vec<LogEntry>,
    /// Creates the head of a new channel's log with this last sequence. The head must not exist yet.
    pub head: Option<u64>,
    pub roster: Option<Replace<Roster>>,
    pub profile: Option<Replace<Profile>>,
    pub rows: Vec<RowChange>,
}

impl Change {
    /// Returns a change of rows alone, without an event.
    #[must_use]
    pub const fn of_rows(channel: ChannelKey, at: Timestamp, rows: Vec<RowChange>) -> Self {
        Self {
            channel,
            at,
            entries: Vec::new(),
            head: None,
            roster: None,
            profile: None,
            rows,
        }
    }
}

/// A change to the rows of one subscriber of the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowChange {
    /// Makes the subscriber a member, in the channel's row and in its own. Deletes its invitation.
    ///
    /// Condition: it is no member.
    Joined {
        subscriber: SubscriberId,
        administrator: bool,
        /// The sequence of the event with which it joins.
        sequence: u64,
    },
    /// Ends the membership. The channel's row stays as a tombstone.
    ///
    /// Condition: it is a member since `joined`, with the right that was read. Otherwise the counts of the roster could become
    /// wrong, because the roster may have been read after the row.
    Left {
        subscriber: SubscriberId,
        /// The right that was read.
        administrator: bool,
        /// The sequence of the event with which it joined.
        joined: u64,
        /// The sequence of the event with which it leaves.
        sequence: u64,
    },
    /// Gives or takes the right to administer the channel.
    ///
    /// Condition: it is a member since `joined`, and has the opposite right, for the same reason.
    Administrator {
        subscriber: SubscriberId,
        /// The sequence of the event with which it joined.
        joined: u64,
        /// The new right.
        administrator: bool,
    },
    /// Changes nothing.
    ///
    /// Condition: it is a member since `joined`, and administers the channel. So what it decided as an administrator is not
    /// committed after it lost that right.
    Administers {
        subscriber: SubscriberId,
        /// The sequence of the event with which it joined.
        joined: u64,
    },
    /// Stores an invitation.
    Invited {
        subscriber: SubscriberId,
        /// The administrator that invites. `None` if a back end does.
        from: Option<SubscriberId>,
    },
    /// Deletes an invitation.
    Uninvited { subscriber: SubscriberId },
}
