//! Loading what a decision needs: independent reads, all at the same time.

use futures::{future::OptionFuture, try_join};
use protocol::{
    ChannelId, ChannelKey, ChannelSubscriber, Conversation, Known, LogId, Membership, Needs,
    Subscriber, SubscriberId,
    change::Member,
    decision::{History, Listed, PageRequest, Range},
    model::Presence,
};

use crate::{
    Store,
    log::history::LogReader,
    parts::part,
    ports::{Environment, Fault, PresenceState, Workers},
};

/// Rows that one read returns at most while it skips tombstones.
const STRIDE: usize = 1_000;

part! {
    /// Loads what decisions need.
    Loader
}

impl<S: Store, G, W: Workers, E: Environment> Loader<'_, S, G, W, E> {
    /// Reads what `needs` names. Rows of the caller are read only if there is one.
    pub(crate) async fn load(
        &self,
        caller: Option<&Subscriber>,
        needs: &Needs,
    ) -> Result<Known, Fault> {
        let store = self.ports.store;
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
            optional(channel, |channel| store.profile(channel)),
            optional(channel, |channel| store.roster(channel)),
            optional(caller.zip(needs.own_member.as_ref()), |(caller, it)| store
                .member(it, &caller.id)),
            optional(needs.seniors.as_ref(), |channel| self.seniors(channel)),
            optional(caller.zip(needs.invitation.as_ref()), |(caller, it)| store
                .invitation(caller, it)),
            optional(caller.filter(|_| needs.membership_count), |caller| store
                .count_memberships(caller)),
            optional(needs.members.as_ref(), |(channel, page)| self
                .member_page(channel, page)),
            optional(caller.zip(needs.memberships.as_ref()), |(caller, page)| {
                self.membership_page(caller, page)
            }),
            optional(
                caller.zip(needs.conversations.as_ref()),
                |(caller, page)| self.conversation_page(caller, page)
            ),
            optional(needs.history.as_ref(), |(log, range)| self
                .history_or_empty(log, *range)),
            optional(channel.filter(|_| needs.own_member.is_some()), |channel| {
                self.last_sequence(channel.log())
            }),
            optional(channel.zip(needs.other_member.as_ref()), |(channel, id)| {
                store.member(channel, id)
            }),
            optional(needs.end_of.clone(), |log| self.last_sequence(log)),
            optional(caller.zip(needs.resume.as_ref()), |(caller, positions)| {
                self.resume(caller, positions)
            }),
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
        for id in self.ports.store.seniors(channel, 2).await? {
            members.extend(self.ports.store.member(channel, &id).await?);
        }
        Ok(members)
    }

    async fn last_sequence(&self, log: LogId) -> Result<u64, Fault> {
        match self.ports.store.head(&log).await? {
            Some(head) => self.reader().contiguous_end(&log, &head).await,
            None => Ok(0),
        }
    }

    async fn history_or_empty(&self, log: &LogId, range: Range) -> Result<History, Fault> {
        Ok(self.reader().history(log, range).await?.unwrap_or(History {
            events: Vec::new(),
            more: false,
            first_sequence: 1,
            last_sequence: 0,
        }))
    }

    /// Returns a page of members with their presence. Tombstones are skipped.
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
            let page = self
                .ports
                .store
                .members(channel, after.as_ref(), wanted)
                .await?;
            after = page.items.last().map(|it| it.subscriber.clone()).or(after);
            more = page.more;
            current.extend(page.items.into_iter().filter(Member::is_current));
            // A run of tombstones is skipped in ever larger steps.
            wanted = wanted.saturating_mul(4).min(STRIDE);
        }
        if current.len() > request.limit {
            current.truncate(request.limit);
            after = current.last().map(|it| it.subscriber.clone());
            more = true;
        }
        let subscribers: Vec<Subscriber> = current
            .iter()
            .map(|member| channel.domain.subscriber(member.subscriber.clone()))
            .collect();
        let presences = self.ports.store.presences(&subscribers).await?;
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
            .ports
            .store
            .memberships(subscriber, after.as_ref(), request.limit)
            .await?;
        let next = page.next().map(|it| it.as_str().to_owned());
        let channels: Vec<ChannelKey> = page
            .items
            .into_iter()
            .map(|id| subscriber.domain.channel(id))
            .collect();
        let logs: Vec<LogId> = channels.iter().map(ChannelKey::log).collect();
        let (profiles, members, heads) = try_join!(
            self.ports.store.profiles(&channels),
            self.ports.store.member_of(&channels, &subscriber.id),
            self.ports.store.heads(&logs),
        )?;
        let mut memberships = Vec::with_capacity(channels.len());
        for (channel, log) in channels.iter().zip(&logs) {
            let (Some(profile), Some(member), Some(head)) =
                (profiles.get(channel), members.get(channel), heads.get(log))
            else {
                continue;
            };
            // A channel that ended has no members, even before its rows are gone.
            if !member.is_current() || !head.active {
                continue;
            }
            let last_sequence = self.reader().contiguous_end(log, head).await?;
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
            .ports
            .store
            .conversations(subscriber, after.as_ref(), request.limit)
            .await?;
        let next = page.next().map(|it| it.as_str().to_owned());
        let logs: Vec<LogId> = page
            .items
            .iter()
            .map(|it| LogId::direct(subscriber, it))
            .collect();
        let heads = self.ports.store.heads(&logs).await?;
        let mut items = Vec::with_capacity(logs.len());
        for (peer, log) in page.items.into_iter().zip(&logs) {
            let Some(head) = heads.get(log) else {
                continue;
            };
            let last_sequence = self.reader().contiguous_end(log, head).await?;
            let read_sequence = head
                .read_cursors
                .get(&subscriber.id)
                .map_or(0, |it| it.read);
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

    pub(super) const fn reader(&self) -> LogReader<'_, S, G, W, E> {
        LogReader::of(self.ports)
    }
}

/// Reads if something is wanted. Boxes the future only then. The futures of all possible reads take 200 KB together,
/// and each message needs only two or three of them. Without the boxes, it would allocate and move all of them several
/// times.
fn optional<A, T, F: Future<Output = Result<T, Fault>>>(
    wanted: Option<A>,
    read: impl FnOnce(A) -> F,
) -> impl Future<Output = Result<Option<T>, Fault>> {
    let reading = wanted.map(|it| Box::pin(read(it)));
    async { OptionFuture::from(reading).await.transpose() }
}

/// Returns the cursor of a page. The protocol rejects invalid ids earlier.
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
