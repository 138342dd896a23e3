//! What is committed, as data: entries of a log, and the one transaction of a change of membership.

use alloc::{string::String, vec::Vec};

use crate::{ChannelId, ChannelKey, ConnectionId, Event, Json, SubscriberId, Timestamp};

/// An event with what the log keeps beside it and never shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The event.
    pub event: Event,
    /// Its writer's mark: who reads back its own nonce knows that its write took place.
    pub nonce: String,
    /// The connection that caused it; it gets the response instead of the push.
    pub origin: Option<ConnectionId>,
}

/// A channel's name and what else its members see of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The name.
    pub name: String,
    /// The client's own, as it was sent.
    pub attributes: Json,
    /// SHA-256 of the invite token in hexadecimal, if joining by one is possible.
    pub invite_hash: Option<String>,
    /// Who created it; none for the back end.
    pub creator: Option<SubscriberId>,
    /// Grows with each change.
    pub version: u64,
}

/// How many are in a channel. Every change of membership takes it from one version to the next, so two changes that
/// both looked at the same roster cannot both happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roster {
    /// Whether it can still be joined: not after the last member left or an administrator deleted it.
    pub open: bool,
    /// Members.
    pub members: u64,
    /// Administrators among them.
    pub administrators: u64,
    /// Grows with each change.
    pub version: u64,
}

/// The channel's side of a membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub subscriber: SubscriberId,
    /// Whether it administers the channel.
    pub administrator: bool,
    /// The event with which it joined: it gets that and all later ones.
    pub joined: u64,
    /// The event with which it left, kept for a day: it gets none after that.
    pub left: Option<u64>,
    /// What it has displayed.
    pub displayed: u64,
    /// What it has read.
    pub read: u64,
}

impl Member {
    /// Whether it is one now.
    #[must_use]
    pub const fn is_current(&self) -> bool {
        self.left.is_none()
    }
}

/// Who invited a subscriber to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// The channel.
    pub channel: ChannelId,
    /// The administrator; none for the back end.
    pub from: Option<SubscriberId>,
    /// When.
    pub at: Timestamp,
}

/// A new state with the version it replaces; none if it must not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replace<T> {
    /// The version that was read.
    pub expect: Option<u64>,
    /// What stands afterwards.
    pub to: T,
}

/// One transaction on a channel: all of it or nothing. Its conditions are part of it; one that does not hold is a
/// conflict, after which everything is read and decided again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The channel.
    pub channel: ChannelKey,
    /// When, for what is timed by it.
    pub at: Timestamp,
    /// The events, each at a place where nothing stands yet.
    pub entries: Vec<LogEntry>,
    /// The head is made with this sequence (a new channel), where none stands yet.
    pub head: Option<u64>,
    /// The roster, from the version that was read.
    pub roster: Option<Replace<Roster>>,
    /// The profile, from the version that was read.
    pub profile: Option<Replace<Profile>>,
    /// The rows of members.
    pub rows: Vec<RowChange>,
}

impl Change {
    /// One of rows alone, which no event tells.
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
    /// Becomes a member, on both sides; an invitation is used up. Condition: is none now.
    Joined {
        /// Who.
        subscriber: SubscriberId,
        /// With which right.
        administrator: bool,
        /// With which event.
        sequence: u64,
    },
    /// Is a member no more; the channel's side stays as a tombstone. Condition: is one, since `joined`, with the right as it
    /// was read: else the roster, which may have been read after the row, would count wrongly.
    Left {
        /// Who.
        subscriber: SubscriberId,
        /// Whether it had the right.
        administrator: bool,
        /// The event with which it had joined.
        joined: u64,
        /// The event with which it leaves.
        sequence: u64,
    },
    /// Gets or loses the right. Condition: is a member, since `joined`, and the right is another, for the same reason.
    Administrator {
        /// Who.
        subscriber: SubscriberId,
        /// The event with which it had joined.
        joined: u64,
        /// To what.
        administrator: bool,
    },
    /// Is invited.
    Invited {
        /// Who.
        subscriber: SubscriberId,
        /// By whom.
        from: Option<SubscriberId>,
    },
    /// Is invited no more.
    Uninvited {
        /// Who.
        subscriber: SubscriberId,
    },
}
