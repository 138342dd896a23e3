//! Channels and who is in them.

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
    /// Whether there are more after the last one.
    pub more: bool,
}

impl<T> Page<T> {
    /// The item after which the next page begins, if there is one.
    #[must_use]
    pub fn next(&self) -> Option<&T> {
        self.items.last().filter(|_| self.more)
    }
}

/// Somebody to whom a log's events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Who.
    pub subscriber: SubscriberId,
    /// The event with which it joined: it gets that and all later ones.
    pub joined: u64,
    /// The event with which it left, kept for a day: it gets none after that.
    pub left: Option<u64>,
}

impl Receiver {
    /// Whether it has not left.
    #[must_use]
    pub const fn is_current(&self) -> bool {
        self.left.is_none()
    }

    /// Whether the event with this sequence is for it.
    #[must_use]
    pub fn receives(&self, sequence: u64) -> bool {
        self.joined <= sequence && self.left.is_none_or(|left| sequence <= left)
    }
}

/// The channels, their members, and the channels and conversations of subscribers.
pub trait Channels {
    /// A channel's profile.
    async fn profile(&self, channel: &ChannelKey) -> Result<Option<Profile>, Fault>;

    /// The profiles of many, in batches.
    async fn profiles(
        &self,
        channels: &[ChannelKey],
    ) -> Result<BTreeMap<ChannelKey, Profile>, Fault>;

    /// A channel's roster.
    async fn roster(&self, channel: &ChannelKey) -> Result<Option<Roster>, Fault>;

    /// The rosters of many, in batches.
    async fn rosters(&self, channels: &[ChannelKey])
    -> Result<BTreeMap<ChannelKey, Roster>, Fault>;

    /// A subscriber's row in a channel; also the tombstone of one that left.
    async fn member(
        &self,
        channel: &ChannelKey,
        subscriber: &SubscriberId,
    ) -> Result<Option<Member>, Fault>;

    /// One subscriber's rows in many channels, in batches.
    async fn member_of(
        &self,
        channels: &[ChannelKey],
        subscriber: &SubscriberId,
    ) -> Result<BTreeMap<ChannelKey, Member>, Fault>;

    /// The rows of a channel after a subscriber id, in the order of ids; with tombstones.
    async fn members(
        &self,
        channel: &ChannelKey,
        after: Option<&SubscriberId>,
        limit: usize,
    ) -> Result<Page<Member>, Fault>;

    /// The same without what is not needed to send to them.
    async fn receivers(
        &self,
        channel: &ChannelKey,
        after: Option<&SubscriberId>,
        limit: usize,
    ) -> Result<Page<Receiver>, Fault>;

    /// The members of a channel, longest-standing first, `limit` of them.
    async fn seniors(&self, channel: &ChannelKey, limit: usize)
    -> Result<Vec<SubscriberId>, Fault>;

    /// The channels of a subscriber after a channel id, in the order of ids.
    async fn memberships(
        &self,
        subscriber: &Subscriber,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Page<ChannelId>, Fault>;

    /// The channels that a subscriber left, as long as their logs may hold what it wrote, after a channel id, in the order of
    /// ids. One that it joined again may be among them.
    async fn former_memberships(
        &self,
        subscriber: &Subscriber,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Page<ChannelId>, Fault>;

    /// How many channels a subscriber is a member of.
    async fn count_memberships(&self, subscriber: &Subscriber) -> Result<usize, Fault>;

    /// The peers of a subscriber's conversations after an id, in the order of ids.
    async fn conversations(
        &self,
        subscriber: &Subscriber,
        after: Option<&SubscriberId>,
        limit: usize,
    ) -> Result<Page<SubscriberId>, Fault>;

    /// A subscriber's pending invitation to a channel.
    async fn invitation(
        &self,
        subscriber: &Subscriber,
        channel: &ChannelId,
    ) -> Result<Option<Invitation>, Fault>;

    /// The pending invitations of a subscriber after a channel id.
    async fn invitations(
        &self,
        subscriber: &Subscriber,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Page<Invitation>, Fault>;

    /// Carries out a change: all of it, or nothing and [`Fault::Conflict`].
    async fn change(&self, change: &Change) -> Result<(), Fault>;

    /// Moves a member's read_cursor forward, on condition that it is a member; whether it moved.
    async fn raise_read_cursor(
        &self,
        channel: &ChannelKey,
        subscriber: &SubscriberId,
        status: DeliveryStatus,
        sequence: u64,
    ) -> Result<bool, Fault>;
}
