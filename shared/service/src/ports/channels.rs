//! Channels, their members, and the channels and conversations of each subscriber.

use std::collections::BTreeMap;

use protocol::{
    ChannelId, ChannelKey, Subscriber, SubscriberId,
    change::{Change, Invitation, Member, Profile, Roster},
    model::DeliveryStatus,
};

use super::Fault;

/// A page of items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// In the order of their keys.
    pub items: Vec<T>,
    /// True if there are more items after the last one.
    pub more: bool,
}

impl<T> Page<T> {
    /// Returns the item after which the next page begins, or `None` if this is the last page.
    #[must_use]
    pub fn next(&self) -> Option<&T> {
        self.items.last().filter(|_| self.more)
    }
}

/// A subscriber that gets events of a channel: a member, or for a day a former member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    pub subscriber: SubscriberId,
    /// The sequence of the event with which the subscriber joined. It gets this event and all later ones.
    pub joined: u64,
    /// The sequence of the event with which the subscriber left, kept for a day. It gets no later events.
    pub left: Option<u64>,
}

impl Receiver {
    /// Returns true if the subscriber has not left.
    #[must_use]
    pub const fn is_current(&self) -> bool {
        self.left.is_none()
    }

    /// Returns true if the subscriber gets the event with this sequence.
    #[must_use]
    pub fn receives(&self, sequence: u64) -> bool {
        self.joined <= sequence && self.left.is_none_or(|left| sequence <= left)
    }
}

/// The channels, their members, and the channels and conversations of subscribers.
pub trait Channels {
    /// Returns a channel's profile.
    async fn profile(&self, channel: &ChannelKey) -> Result<Option<Profile>, Fault>;

    /// Returns the profiles of several channels. Reads them in batches.
    async fn profiles(
        &self,
        channels: &[ChannelKey],
    ) -> Result<BTreeMap<ChannelKey, Profile>, Fault>;

    /// Returns a channel's roster.
    async fn roster(&self, channel: &ChannelKey) -> Result<Option<Roster>, Fault>;

    /// Returns the rosters of several channels. Reads them in batches.
    async fn rosters(&self, channels: &[ChannelKey])
    -> Result<BTreeMap<ChannelKey, Roster>, Fault>;

    /// Returns a subscriber's row in a channel, or `None` if there is none. If the subscriber left, this is its
    /// tombstone.
    async fn member(
        &self,
        channel: &ChannelKey,
        subscriber: &SubscriberId,
    ) -> Result<Option<Member>, Fault>;

    /// Returns one subscriber's rows in several channels. Reads them in batches.
    async fn member_of(
        &self,
        channels: &[ChannelKey],
        subscriber: &SubscriberId,
    ) -> Result<BTreeMap<ChannelKey, Member>, Fault>;

    /// Returns the rows of a channel after a subscriber id, in the order of ids. Tombstones are included.
    async fn members(
        &self,
        channel: &ChannelKey,
        after: Option<&SubscriberId>,
        limit: usize,
    ) -> Result<Page<Member>, Fault>;

    /// Returns the same rows as [`Self::members`], reduced to what sending needs.
    async fn receivers(
        &self,
        channel: &ChannelKey,
        after: Option<&SubscriberId>,
        limit: usize,
    ) -> Result<Page<Receiver>, Fault>;

    /// Returns at most `limit` members of a channel, in the order in which they joined.
    async fn seniors(&self, channel: &ChannelKey, limit: usize)
    -> Result<Vec<SubscriberId>, Fault>;

    /// Returns the channels of a subscriber after a channel id, in the order of ids.
    async fn memberships(
        &self,
        subscriber: &Subscriber,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Page<ChannelId>, Fault>;

    /// Returns the channels that a subscriber left, after a channel id, in the order of ids. A channel is listed for as
    /// long as its log may hold messages of the subscriber. A channel that the subscriber joined again may be listed
    /// too.
    async fn former_memberships(
        &self,
        subscriber: &Subscriber,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Page<ChannelId>, Fault>;

    /// Returns the number of channels that a subscriber is a member of.
    async fn count_memberships(&self, subscriber: &Subscriber) -> Result<usize, Fault>;

    /// Returns the peers of a subscriber's conversations after a subscriber id, in the order of ids.
    async fn conversations(
        &self,
        subscriber: &Subscriber,
        after: Option<&SubscriberId>,
        limit: usize,
    ) -> Result<Page<SubscriberId>, Fault>;

    /// Returns a subscriber's pending invitation to a channel, or `None` if there is none.
    async fn invitation(
        &self,
        subscriber: &Subscriber,
        channel: &ChannelId,
    ) -> Result<Option<Invitation>, Fault>;

    /// Returns a subscriber's pending invitations after a channel id.
    async fn invitations(
        &self,
        subscriber: &Subscriber,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Page<Invitation>, Fault>;

    /// Executes a change as a whole. If a condition of the change does not hold, changes nothing and fails with
    /// [`Fault::Conflict`].
    async fn change(&self, change: &Change) -> Result<(), Fault>;

    /// Moves a member's read cursor forward to `sequence`, on condition that the subscriber is a member. Returns true
    /// if the cursor moved.
    async fn raise_read_cursor(
        &self,
        channel: &ChannelKey,
        subscriber: &SubscriberId,
        status: DeliveryStatus,
        sequence: u64,
    ) -> Result<bool, Fault>;
}
