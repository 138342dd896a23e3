//! From what a decision needs to what is known: independent reads, all at once.

use futures::{future::OptionFuture, try_join};
use protocol::{
    ChannelId, ChannelKey, ChannelSubscriber, Conversation, Known, LogId, Membership, Needs,
    Subscriber, SubscriberId,
    change::Member,
    decide::{History, Listed, Range},
    messages::PageRequest,
    model::Presence,
};

use crate::{
    Service, Store,
    ports::{Environment, Fault, PresenceState, Workers},
};

/// Rows at most of one read on the way past tombstones.
const STRIDE: usize = 1_000;

impl<S: Store, G, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Reads what `needs` names.
    pub(crate) async fn load(
        &self,
        subscriber: &Subscriber,
        needs: &Needs,
    ) -> Result<Known, Fault> {
        let store = &self.store;
        let channel = needs.channel.as_ref();
        let (
            profile,
            roster,
            own_member,
            seniors,
            invitation,
            membership_count,
            members,
            memberships,
            conversations,
            history,
            last_sequence,
            other_member,
            end,
            resumed,
        ) = try_join!(
            optional(channel, |it| store.profile(it)),
            optional(channel, |it| store.roster(it)),
            optional(needs.own_member.as_ref(), |it| store
                .member(it, &subscriber.id)),
            optional(needs.seniors.as_ref(), |it| self.seniors(it)),
            optional(needs.invitation.as_ref(), |it| store
                .invitation(subscriber, it)),
            optional(needs.membership_count.then_some(subscriber), |it| store
                .count_memberships(it)),
            optional(needs.members.as_ref(), |(channel, page)| self
                .member_page(channel, page)),
            optional(needs.memberships.as_ref(), |page| self
                .membership_page(subscriber, page)),
            optional(needs.conversations.as_ref(), |page| self
                .conversation_page(subscriber, page)),
            optional(needs.history.as_ref(), |(log, range)| self
                .history_or_empty(log, *range)),
            optional(channel.filter(|_| needs.own_member.is_some()), |it| self
                .last_sequence(it.log())),
            optional(channel.zip(needs.other_member.as_ref()), |(channel, id)| {
                store.member(channel, id)
            }),
            optional(needs.end_of.clone(), |log| self.last_sequence(log)),
            optional(needs.resume.as_ref(), |positions| self
                .resume(subscriber, positions)),
        )?;
        let (resumed, resumed_new) = resumed.unwrap_or_default();
        Ok(Known {
            profile: profile.flatten(),
            roster: roster.flatten(),
            last_sequence: last_sequence.or(end).unwrap_or(0),
            own_member: own_member.flatten(),
            other_member: other_member.flatten(),
            seniors: seniors.unwrap_or_default(),
            invitation: invitation.flatten(),
            membership_count: membership_count.unwrap_or(0),
            members: members.unwrap_or_default(),
            memberships: memberships.unwrap_or_default(),
            conversations: conversations.unwrap_or_default(),
            history,
            resumed,
            resumed_new,
        })
    }

    async fn seniors(&self, channel: &ChannelKey) -> Result<Vec<Member>, Fault> {
        let mut members = Vec::new();
        for id in self.store.seniors(channel, 2).await? {
            members.extend(self.store.member(channel, &id).await?);
        }
        Ok(members)
    }

    async fn last_sequence(&self, log: LogId) -> Result<u64, Fault> {
        match self.store.head(&log).await? {
            Some(head) => self.contiguous_end(&log, &head).await,
            None => Ok(0),
        }
    }

    async fn history_or_empty(&self, log: &LogId, range: Range) -> Result<History, Fault> {
        Ok(self.history(log, range).await?.unwrap_or(History {
            events: Vec::new(),
            more: false,
            first_sequence: 1,
            last_sequence: 0,
        }))
    }

    /// A page of members with their presence. Tombstones take places of the page but are not shown.
    pub(crate) async fn member_page(
        &self,
        channel: &ChannelKey,
        request: &PageRequest,
    ) -> Result<Listed<ChannelSubscriber>, Fault> {
        let mut after = cursor(request, SubscriberId::parse)?;
        let mut current: Vec<Member> = Vec::new();
        let mut more = true;
        let mut wanted = request.limit;
        while more && current.len() < request.limit {
            let page = self.store.members(channel, after.as_ref(), wanted).await?;
            after = page.items.last().map(|it| it.subscriber.clone()).or(after);
            more = page.more;
            current.extend(page.items.into_iter().filter(Member::is_current));
            // A stretch of tombstones is crossed in ever larger steps.
            wanted = wanted.saturating_mul(4).min(STRIDE);
        }
        if current.len() > request.limit {
            current.truncate(request.limit);
            after = current.last().map(|it| it.subscriber.clone());
            more = true;
        }
        let subscribers: Vec<Subscriber> = current
            .iter()
            .map(|it| Subscriber {
                domain: channel.domain.clone(),
                id: it.subscriber.clone(),
            })
            .collect();
        let presences = self.store.presences(&subscribers).await?;
        let items = current
            .iter()
            .zip(&subscribers)
            .map(|(member, subscriber)| ChannelSubscriber {
                presence: Presence::of(
                    &member.subscriber,
                    presences.get(subscriber).and_then(PresenceState::effective),
                ),
                administrator: member.administrator,
            })
            .collect();
        let next = after.filter(|_| more).map(|it| it.as_str().to_owned());
        Ok(Listed { items, next })
    }

    async fn membership_page(
        &self,
        subscriber: &Subscriber,
        request: &PageRequest,
    ) -> Result<Listed<Membership>, Fault> {
        let after = cursor(request, ChannelId::parse)?;
        let page = self
            .store
            .memberships(subscriber, after.as_ref(), request.limit)
            .await?;
        let next = page.next().map(|it| it.as_str().to_owned());
        let channels: Vec<ChannelKey> = page
            .items
            .into_iter()
            .map(|id| ChannelKey {
                domain: subscriber.domain.clone(),
                id,
            })
            .collect();
        let logs: Vec<LogId> = channels.iter().map(ChannelKey::log).collect();
        let (profiles, members, heads) = try_join!(
            self.store.profiles(&channels),
            self.store.member_of(&channels, &subscriber.id),
            self.store.heads(&logs),
        )?;
        let mut memberships = Vec::with_capacity(channels.len());
        for (channel, log) in channels.iter().zip(&logs) {
            let (Some(profile), Some(member), Some(head)) =
                (profiles.get(channel), members.get(channel), heads.get(log))
            else {
                continue;
            };
            // Of a channel that ended nobody is a member, even before its rows are gone.
            if !member.is_current() || !head.active {
                continue;
            }
            let last_sequence = self.contiguous_end(log, head).await?;
            let read_sequence = member.read.max(member.joined);
            memberships.push(Membership {
                channel_id: channel.id.clone(),
                name: profile.name.clone(),
                administrator: member.administrator,
                attributes: profile.attributes.clone(),
                last_sequence,
                read_sequence,
                unread: last_sequence.saturating_sub(read_sequence),
            });
        }
        Ok(Listed {
            items: memberships,
            next,
        })
    }

    async fn conversation_page(
        &self,
        subscriber: &Subscriber,
        request: &PageRequest,
    ) -> Result<Listed<Conversation>, Fault> {
        let after = cursor(request, SubscriberId::parse)?;
        let page = self
            .store
            .conversations(subscriber, after.as_ref(), request.limit)
            .await?;
        let next = page.next().map(|it| it.as_str().to_owned());
        let logs: Vec<LogId> = page
            .items
            .iter()
            .map(|it| LogId::direct(subscriber, it))
            .collect();
        let heads = self.store.heads(&logs).await?;
        let mut items = Vec::with_capacity(logs.len());
        for (peer, log) in page.items.into_iter().zip(&logs) {
            let Some(head) = heads.get(log) else {
                continue;
            };
            let last_sequence = self.contiguous_end(log, head).await?;
            let read_sequence = head.horizons.get(&subscriber.id).map_or(0, |it| it.read);
            items.push(Conversation {
                subscriber_id: peer,
                last_sequence,
                read_sequence,
                unread: last_sequence.saturating_sub(read_sequence),
                timestamp: head.allocated_at,
            });
        }
        Ok(Listed { items, next })
    }
}

/// A read of what is wanted, if it is. Boxed only then: together the futures of all that could be read are 200 KB, which each
/// message would allocate and move about several times for the two or three that it needs.
fn optional<A, T, F: Future<Output = Result<T, Fault>>>(
    wanted: Option<A>,
    read: impl FnOnce(A) -> F,
) -> impl Future<Output = Result<Option<T>, Fault>> {
    let reading = wanted.map(|it| Box::pin(read(it)));
    async { OptionFuture::from(reading).await.transpose() }
}

/// The cursor of a page; the protocol let only ids through.
fn cursor<T>(
    request: &PageRequest,
    parse: impl Fn(&str) -> Result<T, protocol::Rejection>,
) -> Result<Option<T>, Fault> {
    request
        .after
        .as_deref()
        .map(parse)
        .transpose()
        .map_err(|rejection| Fault::Corrupt(rejection.to_string()))
}
