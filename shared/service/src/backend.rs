//! The operations for back ends. They use the same decisions and the same loop as client messages.

use protocol::{
    ChannelKey, ChannelSubscriber, Known, LogId, MessageId, Needs, Rejection, Subscriber,
    SubscriberId, Timestamp,
    backend::{self, Given},
    change::{Profile, Roster},
    decision::{Draft, History, Listed, PageRequest, Range},
    model::Presence,
    plan::Plan,
};

use crate::{
    Service, Store,
    decision::{Decided, Decider, End, Request, Verdict},
    delivery::lease::LogPusher,
    log::{
        append::{AppendReport, Appender, Message, NotAppended},
        history::LogReader,
    },
    messages::load::Loader,
    ports::{Connection, Environment, Fault, Job, Pushes, Workers},
    timing::HANDLER_PATIENCE,
};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The caller's mistake, or a conflict with a state that the caller can read.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A failure of the service.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A subscriber as a back end sees it.
#[derive(Clone, Debug)]
pub struct SubscriberView {
    pub connections: Vec<(protocol::ConnectionId, Connection)>,
    pub presence: Presence,
}

/// A channel as a back end sees it.
#[derive(Clone, Debug)]
pub struct ChannelView {
    pub profile: Profile,
    pub roster: Roster,
    /// The end of its contiguous stored log.
    pub last_sequence: u64,
}

/// A message that was stored.
#[derive(Clone, Debug)]
pub struct Stored {
    pub message_id: MessageId,
    pub sequence: u64,
    /// When the message was stored.
    pub timestamp: Timestamp,
    /// True if an earlier request had stored it.
    pub duplicate: bool,
}

/// What a change of a channel did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BackendChange {
    /// The channel already was as requested.
    Unchanged,
    Changed,
    Created,
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Returns a subscriber's connections and its presence as others see it.
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

    /// Returns a channel that has not ended.
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
                last_sequence: LogReader::of(self.ports())
                    .contiguous_end(&log, &head)
                    .await?,
            }),
            _ => Err(Rejection::no_channel().into()),
        }
    }

    /// Creates a channel as given, or changes it to that. Returns true if it was created. Idempotent.
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
        Ok(done == BackendChange::Created)
    }

    /// Ends a channel. Idempotent.
    ///
    /// # Errors
    /// `not-found`, or a fault.
    pub async fn delete_channel(&self, channel: &ChannelKey) -> Result<(), Refused> {
        self.end_channel(channel).await?;
        // Also for a repeat: the first request may have died before it started the job.
        let job = Job::Dismantle {
            channel: channel.clone(),
        };
        self.workers.start(&job).await?;
        Ok(())
    }

    /// Executes the transaction that ends a channel, or finishes a deletion that began.
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

    /// Makes a subscriber a member of a channel. Returns true if anything changed. Idempotent.
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
        Ok(done != BackendChange::Unchanged)
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

    /// Returns a page of a channel's members.
    ///
    /// # Errors
    /// `not-found`, or a fault.
    pub async fn channel_members(
        &self,
        channel: &ChannelKey,
        page: &PageRequest,
    ) -> Result<Listed<ChannelSubscriber>, Refused> {
        self.channel(channel).await?;
        Ok(Loader::of(self.ports()).member_page(channel, page).await?)
    }

    /// Returns a page of a channel's log.
    ///
    /// # Errors
    /// `not-found`, `gone`, or a fault.
    pub async fn channel_events(
        &self,
        channel: &ChannelKey,
        range: Range,
    ) -> Result<History, Refused> {
        self.channel(channel).await?;
        let history = LogReader::of(self.ports())
            .history(&channel.log(), range)
            .await?;
        let history = history.ok_or_else(Rejection::no_channel)?;
        backend::retained(range, &history)?;
        Ok(history)
    }

    /// Sends a message in the name of a subscriber, to a channel that it is a member of or to a peer.
    ///
    /// # Errors
    /// `not-found`, `conflict`, `invalid-value`, or a fault.
    pub async fn send_message(&self, from: &Subscriber, draft: &Draft) -> Result<Stored, Refused> {
        if let LogId::Channel(channel) = &draft.log {
            let member = self.store.member(channel, &from.id).await?;
            if !member.is_some_and(|member| member.is_current()) {
                return Err(Rejection::no_channel().into());
            }
        }
        let record = match &draft.message_id {
            Some(id) => {
                self.store
                    .idempotency_record(&draft.log, &from.id, id)
                    .await?
            }
            None => None,
        };
        let holder = self.environment.fresh_id();
        let message = Message {
            sender: from,
            origin: None,
            draft,
            record,
            holder: &holder,
        };
        let AppendReport { outcome, work } = Appender::of(self.ports()).append(&message).await;
        let pusher = LogPusher::of(self.ports());
        Box::pin(pusher.push(work, &holder, HANDLER_PATIENCE)).await?;
        match outcome {
            Ok(appended) => Ok(Stored {
                message_id: appended.message_id,
                sequence: appended.sequence,
                timestamp: appended.timestamp,
                duplicate: appended.duplicate,
            }),
            Err(NotAppended::Rejected(rejection)) => Err(rejection.into()),
            Err(NotAppended::Fault(fault)) => Err(fault.into()),
        }
    }

    /// Decides and executes a change, and pushes its events. Returns what the change did.
    async fn change_channel(
        &self,
        channel: &ChannelKey,
        concerned: Option<&SubscriberId>,
        needs: &Needs,
        plan: impl Fn(&Known) -> Result<Option<Plan>, Rejection>,
    ) -> Result<BackendChange, Refused> {
        let holder = self.environment.fresh_id();
        let concerned = concerned.map(|id| channel.domain.subscriber(id.clone()));
        let request = Request {
            caller: concerned.as_ref(),
            connection: None,
            needs,
            holder: &holder,
        };
        let decider = Decider::of(self.ports());
        let decided = decider.run(&request, None, |known| {
            Ok(match plan(known)? {
                None => Verdict::Settled(()),
                Some(plan) => Verdict::Change {
                    plan: Box::new(plan),
                    before: None,
                    then: (),
                },
            })
        });
        let Decided { end, work } = decided.await?;
        let pusher = LogPusher::of(self.ports());
        Box::pin(pusher.push(work, &holder, HANDLER_PATIENCE)).await?;
        match end {
            End::Settled(()) => Ok(BackendChange::Unchanged),
            End::Changed { created: true, .. } => Ok(BackendChange::Created),
            End::Changed { created: false, .. } => Ok(BackendChange::Changed),
            End::Rejected(rejection) => Err(rejection.into()),
        }
    }
}
