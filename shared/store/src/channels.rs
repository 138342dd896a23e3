//! Channels, their members, and a subscriber's rows of channels, conversations and invitations.
//!
//! # Cost
//!
//! | pattern | requests | units |
//! |---|---|---|
//! | `profile`, `roster`, `member`, `invitation` | GetItem | 1 read; a profile 1 per 4 KiB |
//! | `profiles`, `rosters`, `member_of` | BatchGetItem, 100 a request | the same, each |
//! | `members`, `receivers` | Query | 1 read per 4 KiB, about 30 members |
//! | `seniors`, `memberships`, `conversations`, `invitations` | Query | 1 read per 4 KiB, about 50 rows |
//! | `count_memberships` | Query that only counts | 1 read per 4 KiB, about 50 channels |
//! | `change` | TransactWriteItems | 2 write per KiB of each item, see below |
//! | `raise_read_cursor` | UpdateItem, a second if `displayed` is behind `read` | 1 write each, also if the condition fails |
//!
//! The write units of a change, for items of at most 1 KiB: an event, the head, the roster and the profile 2 each; joined
//! 8, left 8, administrator 2, invited 4, uninvited 2. A new head costs 1 more for the index.

mod change;
mod items;

use std::collections::BTreeMap;

use protocol::{
    ChannelId, ChannelKey, ReadCursors, Subscriber, SubscriberId,
    change::{Change, Invitation, Member, Profile, Roster},
    model::DeliveryStatus,
};
use serde::de::DeserializeOwned;
use service::ports::{Channels, Fault, Page, Receiver};

use crate::{
    DynamoStore,
    items::names,
    keys::{self, Collection, Key},
    read_cursor::{self, READ_CURSORS},
    requests::decode,
    write::Write,
};
use items::{InvitationItem, MemberItem, ProfileItem, ReceiverItem, RosterItem};

const PROFILE: &str = "a profile";
const ROSTER: &str = "a roster";
const MEMBER: &str = "a member";
const INVITATION: &str = "an invitation";

impl DynamoStore {
    /// Reads a page of members. `row` builds each from the subscriber's id and the item.
    async fn members_as<I: DeserializeOwned, T>(
        &self,
        pattern: &'static str,
        rows: &Collection,
        after: Option<&SubscriberId>,
        limit: usize,
        row: impl Fn(SubscriberId, I) -> T,
    ) -> Result<Page<T>, Fault> {
        let after = after.map(SubscriberId::as_str);
        let (found, more) = self.page(pattern, rows, after, limit).await?;
        let ids = names(rows, &found, |name| SubscriberId::parse(name).ok())?;
        let items = ids
            .into_iter()
            .zip(found)
            .map(|(id, item)| Ok(row(id, decode(item, MEMBER)?)))
            .collect::<Result<_, Fault>>()?;
        Ok(Page { items, more })
    }
}

impl Channels for DynamoStore {
    async fn profile(&self, channel: &ChannelKey) -> Result<Option<Profile>, Fault> {
        let key = Key::profile(channel);
        let item: Option<ProfileItem> = self.get("profile", &key, PROFILE).await?;
        item.map(ProfileItem::profile).transpose()
    }

    async fn profiles(
        &self,
        channels: &[ChannelKey],
    ) -> Result<BTreeMap<ChannelKey, Profile>, Fault> {
        let wanted = channels.iter().map(|it| (it.clone(), Key::profile(it)));
        let items = self.batch("profiles", wanted).await?;
        items
            .into_iter()
            .map(|(channel, item)| Ok((channel, decode::<ProfileItem>(item, PROFILE)?.profile()?)))
            .collect()
    }

    async fn roster(&self, channel: &ChannelKey) -> Result<Option<Roster>, Fault> {
        let key = Key::roster(channel);
        let item: Option<RosterItem> = self.get("roster", &key, ROSTER).await?;
        Ok(item.map(Roster::from))
    }

    async fn rosters(
        &self,
        channels: &[ChannelKey],
    ) -> Result<BTreeMap<ChannelKey, Roster>, Fault> {
        let wanted = channels.iter().map(|it| (it.clone(), Key::roster(it)));
        let items = self.batch("rosters", wanted).await?;
        items
            .into_iter()
            .map(|(channel, item)| Ok((channel, decode::<RosterItem>(item, ROSTER)?.into())))
            .collect()
    }

    async fn member(
        &self,
        channel: &ChannelKey,
        subscriber: &SubscriberId,
    ) -> Result<Option<Member>, Fault> {
        let key = Key::member(channel, subscriber);
        let item: Option<MemberItem> = self.get("member", &key, MEMBER).await?;
        Ok(item.map(|item| item.member(subscriber.clone())))
    }

    async fn member_of(
        &self,
        channels: &[ChannelKey],
        subscriber: &SubscriberId,
    ) -> Result<BTreeMap<ChannelKey, Member>, Fault> {
        let wanted = channels
            .iter()
            .map(|it| (it.clone(), Key::member(it, subscriber)));
        let items = self.batch("member_of", wanted).await?;
        items
            .into_iter()
            .map(|(channel, item)| {
                let item: MemberItem = decode(item, MEMBER)?;
                Ok((channel, item.member(subscriber.clone())))
            })
            .collect()
    }

    async fn members(
        &self,
        channel: &ChannelKey,
        after: Option<&SubscriberId>,
        limit: usize,
    ) -> Result<Page<Member>, Fault> {
        let rows = Collection::members(channel);
        self.members_as("members", &rows, after, limit, |id, item: MemberItem| {
            item.member(id)
        })
        .await
    }

    async fn receivers(
        &self,
        channel: &ChannelKey,
        after: Option<&SubscriberId>,
        limit: usize,
    ) -> Result<Page<Receiver>, Fault> {
        let rows = Collection::members(channel).only(ReceiverItem::PROJECTION);
        self.members_as(
            "receivers",
            &rows,
            after,
            limit,
            |id, item: ReceiverItem| item.receiver(id),
        )
        .await
    }

    async fn seniors(
        &self,
        channel: &ChannelKey,
        limit: usize,
    ) -> Result<Vec<SubscriberId>, Fault> {
        let rows = Collection::seniors(channel);
        let (found, _) = self.page("seniors", &rows, None, limit).await?;
        names(&rows, &found, keys::senior)
    }

    async fn memberships(
        &self,
        subscriber: &Subscriber,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Page<ChannelId>, Fault> {
        let rows = Collection::memberships(subscriber);
        let after = after.map(ChannelId::as_str);
        let (found, more) = self.page("memberships", &rows, after, limit).await?;
        let items = names(&rows, &found, |name| ChannelId::parse(name).ok())?;
        Ok(Page { items, more })
    }

    async fn former_memberships(
        &self,
        subscriber: &Subscriber,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Page<ChannelId>, Fault> {
        let rows = Collection::former_memberships(subscriber);
        let after = after.map(ChannelId::as_str);
        let (found, more) = self.page("former_memberships", &rows, after, limit).await?;
        let items = names(&rows, &found, |name| ChannelId::parse(name).ok())?;
        Ok(Page { items, more })
    }

    async fn count_memberships(&self, subscriber: &Subscriber) -> Result<usize, Fault> {
        let rows = Collection::memberships(subscriber);
        self.count("count_memberships", &rows).await
    }

    async fn conversations(
        &self,
        subscriber: &Subscriber,
        after: Option<&SubscriberId>,
        limit: usize,
    ) -> Result<Page<SubscriberId>, Fault> {
        let rows = Collection::conversations(subscriber);
        let after = after.map(SubscriberId::as_str);
        let (found, more) = self.page("conversations", &rows, after, limit).await?;
        let items = names(&rows, &found, |name| SubscriberId::parse(name).ok())?;
        Ok(Page { items, more })
    }

    async fn invitation(
        &self,
        subscriber: &Subscriber,
        channel: &ChannelId,
    ) -> Result<Option<Invitation>, Fault> {
        let key = Key::invitation(subscriber, channel);
        let item: Option<InvitationItem> = self.get("invitation", &key, INVITATION).await?;
        Ok(item.map(|item| item.invitation(channel.clone())))
    }

    async fn invitations(
        &self,
        subscriber: &Subscriber,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Page<Invitation>, Fault> {
        let rows = Collection::invitations(subscriber);
        let after = after.map(ChannelId::as_str);
        let (found, more) = self.page("invitations", &rows, after, limit).await?;
        let ids = names(&rows, &found, |name| ChannelId::parse(name).ok())?;
        let items = ids
            .into_iter()
            .zip(found)
            .map(|(id, item)| Ok(decode::<InvitationItem>(item, INVITATION)?.invitation(id)))
            .collect::<Result<_, Fault>>()?;
        Ok(Page { items, more })
    }

    async fn change(&self, change: &Change) -> Result<(), Fault> {
        let writes = change::writes(change)?;
        match self.transact("change", &writes).await? {
            Ok(()) => Ok(()),
            Err(_) => Err(Fault::Conflict),
        }
    }

    async fn raise_read_cursor(
        &self,
        channel: &ChannelKey,
        subscriber: &SubscriberId,
        status: DeliveryStatus,
        sequence: u64,
    ) -> Result<bool, Fault> {
        // The status `received` exists in direct conversations only.
        let kept = match status {
            DeliveryStatus::Stored | DeliveryStatus::Received => return Ok(false),
            DeliveryStatus::Displayed => 1..2,
            DeliveryStatus::Read => 1..3,
        };
        let read_cursors = READ_CURSORS.get(kept).unwrap_or(&READ_CURSORS);
        let key = Key::member(channel, subscriber);
        read_cursor::raise(
            self,
            "raise_read_cursor",
            read_cursors,
            "",
            sequence,
            |update, condition| {
                Write::update(key.clone(), update)
                    .when(format!("{condition} AND attribute_not_exists(#left)"))
            },
            |item| {
                let member = decode::<MemberItem>(item, MEMBER)?.member(subscriber.clone());
                Ok(member.is_current().then_some(ReadCursors {
                    received: 0,
                    displayed: member.displayed,
                    read: member.read,
                }))
            },
        )
        .await
    }
}
