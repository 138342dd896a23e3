//! Channels, members, and the channels and conversations of subscribers.

use std::collections::BTreeMap;

use protocol::{
    ChannelId, ChannelKey, Subscriber, SubscriberId, Timestamp,
    change::{Change, Invitation, Member, Profile, Roster},
    model::DeliveryStatus,
};
use service::ports::{Channels, Fault, Page, Receiver};

use super::{Condition, Memory, beyond, change, page, state::State};
use crate::fault::Kind;

impl Channels for Memory {
    async fn profile(&self, channel: &ChannelKey) -> Result<Option<Profile>, Fault> {
        self.read("profile", |state, _| {
            state.channel(channel)?.profile.clone()
        })
        .await
    }

    async fn profiles(
        &self,
        channels: &[ChannelKey],
    ) -> Result<BTreeMap<ChannelKey, Profile>, Fault> {
        let found = self.batch("profiles", channels, |state, _, channel| {
            state.channel(channel)?.profile.clone()
        });
        Ok(found.await?.into_iter().collect())
    }

    async fn roster(&self, channel: &ChannelKey) -> Result<Option<Roster>, Fault> {
        self.read("roster", |state, _| state.channel(channel)?.roster)
            .await
    }

    async fn rosters(
        &self,
        channels: &[ChannelKey],
    ) -> Result<BTreeMap<ChannelKey, Roster>, Fault> {
        let found = self.batch("rosters", channels, |state, _, channel| {
            state.channel(channel)?.roster
        });
        Ok(found.await?.into_iter().collect())
    }

    async fn member(
        &self,
        channel: &ChannelKey,
        subscriber: &SubscriberId,
    ) -> Result<Option<Member>, Fault> {
        let careless = self.ignores(Condition::Membership);
        self.read("member", |state, now| {
            let member = state.channel(channel)?.member(subscriber, now);
            member.cloned().map(|it| forgiven(it, careless))
        })
        .await
    }

    async fn member_of(
        &self,
        channels: &[ChannelKey],
        subscriber: &SubscriberId,
    ) -> Result<BTreeMap<ChannelKey, Member>, Fault> {
        let careless = self.ignores(Condition::Membership);
        let found = self.batch("member_of", channels, |state, now, channel| {
            let member = state.channel(channel)?.member(subscriber, now);
            member.cloned().map(|it| forgiven(it, careless))
        });
        Ok(found.await?.into_iter().collect())
    }

    async fn members(
        &self,
        channel: &ChannelKey,
        after: Option<&SubscriberId>,
        limit: usize,
    ) -> Result<Page<Member>, Fault> {
        let limit = self.cap(limit);
        self.read("members", |state, now| {
            page(rows(state, channel, after, now).cloned(), limit)
        })
        .await
    }

    async fn receivers(
        &self,
        channel: &ChannelKey,
        after: Option<&SubscriberId>,
        limit: usize,
    ) -> Result<Page<Receiver>, Fault> {
        let limit = self.cap(limit);
        self.read("receivers", |state, now| {
            let receivers = rows(state, channel, after, now).map(|it| Receiver {
                subscriber: it.subscriber.clone(),
                joined: it.joined,
                left: it.left,
            });
            page(receivers, limit)
        })
        .await
    }

    async fn seniors(
        &self,
        channel: &ChannelKey,
        limit: usize,
    ) -> Result<Vec<SubscriberId>, Fault> {
        self.read("seniors", |state, _| {
            let joined = state.channel(channel).into_iter().flat_map(|it| &it.joined);
            joined.take(limit).map(|(_, id)| id.clone()).collect()
        })
        .await
    }

    async fn memberships(
        &self,
        subscriber: &Subscriber,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Page<ChannelId>, Fault> {
        let limit = self.cap(limit);
        self.read("memberships", |state, _| {
            let person = state.person(subscriber).into_iter();
            let channels = person.flat_map(|it| it.channels.range(beyond(after)));
            page(channels.cloned(), limit)
        })
        .await
    }

    async fn former_memberships(
        &self,
        subscriber: &Subscriber,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Page<ChannelId>, Fault> {
        let limit = self.cap(limit);
        self.read("former_memberships", |state, now| {
            let person = state.person(subscriber).into_iter();
            let channels = person
                .flat_map(|it| it.former.range(beyond(after)))
                .filter(|(_, ttl)| ttl.holds(now))
                .map(|(id, _)| id.clone());
            page(channels, limit)
        })
        .await
    }

    async fn count_memberships(&self, subscriber: &Subscriber) -> Result<usize, Fault> {
        self.read("count_memberships", |state, _| {
            state.person(subscriber).map_or(0, |it| it.channels.len())
        })
        .await
    }

    async fn conversations(
        &self,
        subscriber: &Subscriber,
        after: Option<&SubscriberId>,
        limit: usize,
    ) -> Result<Page<SubscriberId>, Fault> {
        let limit = self.cap(limit);
        self.read("conversations", |state, _| {
            let person = state.person(subscriber).into_iter();
            let peers = person.flat_map(|it| it.conversations.range(beyond(after)));
            page(peers.cloned(), limit)
        })
        .await
    }

    async fn invitation(
        &self,
        subscriber: &Subscriber,
        channel: &ChannelId,
    ) -> Result<Option<Invitation>, Fault> {
        self.read("invitation", |state, _| {
            let person = state.person(subscriber)?;
            person.invitations.get(channel).cloned()
        })
        .await
    }

    async fn invitations(
        &self,
        subscriber: &Subscriber,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Page<Invitation>, Fault> {
        let limit = self.cap(limit);
        self.read("invitations", |state, _| {
            let person = state.person(subscriber).into_iter();
            let invitations = person.flat_map(|it| it.invitations.range(beyond(after)));
            page(invitations.map(|(_, it)| it.clone()), limit)
        })
        .await
    }

    async fn change(&self, change: &Change) -> Result<(), Fault> {
        let careless = self.ignores(Condition::Roster);
        self.step("change", Kind::Write, |state, now| {
            let mut checked = change.clone();
            if careless {
                checked.roster = None;
            }
            change::check(state, &checked, now)?;
            change::apply(state, change);
            Ok(())
        })
        .await
    }

    async fn raise_read_cursor(
        &self,
        channel: &ChannelKey,
        subscriber: &SubscriberId,
        status: DeliveryStatus,
        sequence: u64,
    ) -> Result<bool, Fault> {
        self.write("raise_read_cursor", |state, _| {
            let Some(member) = state.channel_mut(channel).current(subscriber) else {
                return false;
            };
            let (moves, read) = match status {
                DeliveryStatus::Stored | DeliveryStatus::Received => return false,
                DeliveryStatus::Displayed => (member.displayed < sequence, false),
                DeliveryStatus::Read => (member.read < sequence, true),
            };
            member.displayed = member.displayed.max(sequence);
            if read {
                member.read = member.read.max(sequence);
            }
            moves
        })
        .await
    }
}

/// The rows of a channel after a subscriber id, without those past their time to live.
fn rows<'a>(
    state: &'a State,
    channel: &ChannelKey,
    after: Option<&SubscriberId>,
    now: Timestamp,
) -> impl Iterator<Item = &'a Member> {
    let channel = state.channel(channel).into_iter();
    channel
        .flat_map(move |it| it.members.range(beyond(after)))
        .filter(move |(_, row)| row.ttl.is_none_or(|ttl| ttl.holds(now)))
        .map(|(_, row)| &row.member)
}

/// The row as an adapter that omits the membership condition reads it: as if no member ever left.
fn forgiven(mut member: Member, careless: bool) -> Member {
    if careless {
        member.left = None;
    }
    member
}
