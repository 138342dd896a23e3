//! What a back end asks and does, by the same core as clients.

use core::time::Duration;

use protocol::{
    ChannelKey, ChannelSubscriber, Code, Known, LogId, MessageId, Needs, Rejection, Subscriber,
    SubscriberId, Timestamp,
    backend::{self, Given},
    change::{Profile, Roster},
    decide::{Draft, History, Listed, Range},
    messages::PageRequest,
    model::Presence,
    plan::Plan,
};

use crate::{
    DECISIONS, Service, Store,
    append::NotAppended,
    beaten,
    change::Changed,
    ports::{Connection, Environment, Fault, Job, Pushes, Workers},
};

/// How long a request drains before it hands on to the worker.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why a request was not honoured.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The caller's mistake, or a state that the caller can read.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Ours.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A subscriber as a back end sees it.
#[derive(Clone, Debug)]
pub struct SubscriberView {
    /// Its connections.
    pub connections: Vec<(protocol::ConnectionId, Connection)>,
    /// Its presence as others see it.
    pub presence: Presence,
}

/// A channel as a back end sees it.
#[derive(Clone, Debug)]
pub struct ChannelView {
    /// Its profile.
    pub profile: Profile,
    /// Its roster.
    pub roster: Roster,
    /// The end of its contiguous stored log.
    pub last_sequence: u64,
}

/// A message that was stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The message.
    pub message_id: MessageId,
    /// Its place.
    pub sequence: u64,
    /// When it was stored.
    pub timestamp: Timestamp,
    /// Whether it was there before.
    pub duplicate: bool,
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// A subscriber's connections and its presence as others see it.
    ///
    /// # Errors
    /// A fault of the store.
    ///
    /// # Cost
    /// Two strongly consistent reads of one unit for each 4 KiB.
    pub async fn subscriber(&self, subscriber: &Subscriber) -> Result<SubscriberView, Fault> {
        let (connections, presence) = futures::try_join!(
            self.store.connections(subscriber),
            self.store.presence(subscriber),
        )?;
        Ok(SubscriberView {
            connections: connections.into_iter().collect(),
            presence: Presence::of(&subscriber.id, presence.effective()),
        })
    }

    /// A channel that has not ended.
    ///
    /// # Errors
    /// `not-found`, or a fault.
    pub async fn channel(&self, channel: &ChannelKey) -> Result<ChannelView, Refused> {
        let log = channel.log();
        let (profile, roster, head) = futures::try_join!(
            self.store.profile(channel),
            self.store.roster(channel),
            self.store.head(&log),
        )?;
        match (profile, roster, head) {
            (Some(profile), Some(roster), Some(head)) if roster.open => Ok(ChannelView {
                profile,
                roster,
                last_sequence: self.contiguous_end(&log, &head).await?,
            }),
            _ => Err(Rejection::no_channel().into()),
        }
    }

    /// Makes a channel as given, or changes it to that; whether it was made. Idempotent.
    ///
    /// # Errors
    /// `conflict`, or a fault.
    pub async fn put_channel(&self, channel: &ChannelKey, given: &Given) -> Result<bool, Refused> {
        let needs = Needs {
            channel: Some(channel.clone()),
            ..Needs::default()
        };
        let done = self
            .change_channel(channel, None, &needs, |known| {
                backend::put_channel(channel, given, known)
            })
            .await?;
        Ok(done.is_some_and(|plan| plan.create))
    }

    /// Ends a channel. Idempotent.
    ///
    /// # Errors
    /// `not-found`, or a fault.
    pub async fn delete_channel(&self, channel: &ChannelKey) -> Result<(), Refused> {
        self.end_channel(channel).await?;
        // Also for a repeat: the first try may have died before it.
        let job = Job::Dismantle {
            channel: channel.clone(),
        };
        self.workers.start(&job).await?;
        Ok(())
    }

    /// Carries out the transaction that ends a channel, or finishes one that began.
    pub(crate) async fn end_channel(&self, channel: &ChannelKey) -> Result<(), Refused> {
        let needs = Needs {
            channel: Some(channel.clone()),
            ..Needs::default()
        };
        self.change_channel(channel, None, &needs, |known| {
            backend::delete_channel(channel, known)
        })
        .await?;
        Ok(())
    }

    /// Makes a subscriber a member of a channel; whether anything changed. Idempotent.
    ///
    /// # Errors
    /// `not-found`, `limit-exceeded`, `last-administrator`, or a fault.
    pub async fn put_member(
        &self,
        channel: &ChannelKey,
        id: &SubscriberId,
        administrator: Option<bool>,
    ) -> Result<bool, Refused> {
        let needs = Needs {
            channel: Some(channel.clone()),
            own_member: Some(channel.clone()),
            membership_count: true,
            ..Needs::default()
        };
        let done = self
            .change_channel(channel, Some(id), &needs, |known| {
                backend::put_member(channel, id, administrator, known)
            })
            .await?;
        Ok(done.is_some())
    }

    /// Ends a membership. Idempotent.
    ///
    /// # Errors
    /// `not-found` if there is no such channel, or a fault.
    pub async fn remove_member(
        &self,
        channel: &ChannelKey,
        id: &SubscriberId,
    ) -> Result<(), Refused> {
        let needs = Needs {
            channel: Some(channel.clone()),
            own_member: Some(channel.clone()),
            seniors: Some(channel.clone()),
            ..Needs::default()
        };
        self.change_channel(channel, Some(id), &needs, |known| {
            backend::remove_member(channel, known)
        })
        .await?;
        Ok(())
    }

    /// A page of a channel's members.
    ///
    /// # Errors
    /// `not-found`, or a fault.
    pub async fn channel_members(
        &self,
        channel: &ChannelKey,
        page: &PageRequest,
    ) -> Result<Listed<ChannelSubscriber>, Refused> {
        self.channel(channel).await?;
        Ok(self.member_page(channel, page).await?)
    }

    /// A page of a channel's log.
    ///
    /// # Errors
    /// `not-found`, `gone`, or a fault.
    pub async fn channel_events(
        &self,
        channel: &ChannelKey,
        range: Range,
    ) -> Result<History, Refused> {
        self.channel(channel).await?;
        let history = self.history(&channel.log(), range).await?;
        let history = history.ok_or_else(Rejection::no_channel)?;
        backend::retained(range, &history)?;
        Ok(history)
    }

    /// Sends a message in the name of a subscriber: to a channel that it is a member of, or to a peer.
    ///
    /// # Errors
    /// `not-found`, `conflict`, `invalid-value`, or a fault.
    pub async fn send_message(&self, from: &Subscriber, draft: &Draft) -> Result<Stored, Refused> {
        if let LogId::Channel(channel) = &draft.log {
            let member = self.store.member(channel, &from.id).await?;
            if !member.is_some_and(|it| it.is_current()) {
                return Err(Rejection::no_channel().into());
            }
        }
        let marker = match &draft.message_id {
            Some(id) => self.store.marker(&draft.log, &from.id, id).await?,
            None => None,
        };
        let holder = self.environment.fresh_id();
        let mut allocated = None;
        let appended = self
            .append(from, None, draft, marker, &holder, &mut allocated)
            .await;
        if let Some(allocated) = allocated {
            let fresh = allocated.entry.iter().cloned().collect();
            let drained = self.drain_after(&draft.log, &holder, &allocated, fresh, PATIENCE);
            Box::pin(drained).await?;
        }
        match appended {
            Ok(it) => Ok(Stored {
                message_id: it.message_id,
                sequence: it.sequence,
                timestamp: it.timestamp,
                duplicate: it.duplicate,
            }),
            Err(NotAppended::Rejected(rejection)) => Err(rejection.into()),
            Err(NotAppended::Fault(fault)) => Err(fault.into()),
        }
    }

    /// Plans and carries out a change, again with fresh knowledge as long as another writer was first, and pushes its
    /// events; the plan that took place, if any had to.
    async fn change_channel(
        &self,
        channel: &ChannelKey,
        concerned: Option<&SubscriberId>,
        needs: &Needs,
        plan: impl Fn(&Known) -> Result<Option<Plan>, Rejection>,
    ) -> Result<Option<Plan>, Refused> {
        let log = channel.log();
        let holder = self.environment.fresh_id();
        // Only what `needs` asks for the caller is read for it.
        let caller = Subscriber {
            domain: channel.domain.clone(),
            id: match concerned {
                Some(id) => id.clone(),
                None => SubscriberId::parse("-")?,
            },
        };
        let mut held = None;
        let mut outcome = Err(Rejection::busy());
        for attempt in 0..=DECISIONS {
            let known = self.load(&caller, needs).await?;
            let planned = match plan(&known) {
                Ok(Some(planned)) => planned,
                Ok(None) => {
                    outcome = Ok(None);
                    break;
                }
                // What was read does not fit together, because others changed it meanwhile.
                Err(rejection) if rejection.code == Code::Unavailable && attempt < DECISIONS => {
                    self.environment.sleep(beaten(attempt, &holder)).await;
                    continue;
                }
                Err(rejection) => {
                    outcome = Err(rejection);
                    break;
                }
            };
            match self.try_change(&planned, None, &holder, &mut held).await? {
                Ok(Some(Changed { entries, .. })) => {
                    match held {
                        Some(held) => {
                            let allocated = &held.allocated;
                            Box::pin(self.drain_after(&log, &holder, allocated, entries, PATIENCE))
                                .await?;
                        }
                        None => Box::pin(self.drain_job(&log, None, None, PATIENCE)).await?,
                    }
                    return Ok(Some(planned));
                }
                Ok(None) => self.environment.sleep(beaten(attempt, &holder)).await,
                Err(rejection) => {
                    outcome = Err(rejection);
                    break;
                }
            }
        }
        if let Some(held) = held {
            let allocated = held.allocated.clone();
            self.give_up(held).await?;
            Box::pin(self.drain_after(&log, &holder, &allocated, Vec::new(), PATIENCE)).await?;
        }
        Ok(outcome?)
    }
}
