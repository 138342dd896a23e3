//! Handling one client message: load, decide, commit, answer, push.

use futures::join;
use protocol::{
    ChannelKey, ClientMessage, Context, Decision, Decoded, DeliveryStatus, Known, Needs, Rejection,
    RequestId, ServerMessage, Subscriber, backend,
    decision::{Commit, Draft, FollowUp, ReadCursor},
    limits,
};

use super::{
    admit::{Admission, Incoming},
    load::Loader,
};
use crate::{
    Service, Store,
    closer::Closer,
    decision::{Decided, Decider, End, Request, Verdict},
    delivery::{
        lease::LogPusher,
        notifier::Notifier,
        post::{Sender, Target},
        receipts::Receipts,
    },
    log::{
        append::{AppendReport, Appender, Message, NotAppended},
        slots::LogWork,
    },
    parts::part,
    ports::{
        Connection, Environment, Fault, Framing, IdempotencyRecord, Job, Measure, Pushes, Workers,
    },
    timing::HANDLER_PATIENCE,
};

part! {
    /// Handles client messages.
    Handler
}

/// What a handled message leaves to do.
#[derive(Debug, Default)]
pub(crate) struct Handled {
    pub(super) response: Option<ServerMessage>,
    pub(super) rejection: Option<Rejection>,
    work: LogWork,
    follow_up: FollowUp,
    /// The read cursor that moved.
    moved: Option<ReadCursor>,
}

impl Handled {
    /// A response and nothing more.
    pub(crate) fn response(response: ServerMessage) -> Self {
        Self {
            response: Some(response),
            ..Self::default()
        }
    }

    /// A rejection.
    pub(crate) fn rejected(rejection: Rejection) -> Self {
        Self {
            rejection: Some(rejection),
            ..Self::default()
        }
    }
}

/// What remains to do once the decision is final.
struct Rest {
    commit: Commit,
    response: Option<ServerMessage>,
    follow_up: FollowUp,
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Handles what came over a WebSocket: a message, or a SockJS frame of several messages, one after the other. A
    /// malformed SockJS frame closes its connection.
    ///
    /// If the function dies half-way, the rest is not handled and gets no `ack`, as if each message had been sent by
    /// itself.
    ///
    /// # Errors
    /// The first fault, as of [`Self::message`]. The other messages are handled nevertheless.
    pub async fn receive(&self, incoming: &Incoming) -> Result<(), Fault> {
        if incoming.identity.framing != Framing::Sockjs {
            return Box::pin(self.message(incoming)).await;
        }
        let Ok(messages) = sockjs::frame::decode_text(&incoming.body) else {
            let framing = incoming.identity.framing;
            let closer = Closer::of(self.ports());
            return Box::pin(closer.close_broken(&incoming.key(), framing)).await;
        };
        let mut failed = Ok(());
        for (index, body) in messages.into_iter().enumerate() {
            let message = Incoming {
                // Each message has a gate of its own.
                request: RequestId(format!("{}.{index}", incoming.request)),
                body,
                ..incoming.clone()
            };
            failed = failed.and(Box::pin(self.message(&message)).await);
        }
        failed
    }

    /// Handles one client message. A malformed one is ignored. Any other is answered by exactly one `ack`.
    ///
    /// # Errors
    /// A fault of the store after the answer. Before it, the client gets `unavailable`.
    pub async fn message(&self, incoming: &Incoming) -> Result<(), Fault> {
        let handler = Handler::of(self.ports());
        match protocol::decode(&incoming.body) {
            Decoded::Ignored => {
                self.environment.measure(Measure::Message("ignored"));
                Ok(())
            }
            Decoded::Rejected { id, rejection } => {
                self.environment.measure(Measure::Message("rejected"));
                handler.reject(incoming, id.as_deref(), rejection).await
            }
            Decoded::Message { id, message } => {
                let kind = Measure::Message(message.message_type());
                self.environment.measure(kind);
                Box::pin(handler.handle(incoming, id, &message)).await
            }
        }
    }
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Handler<'_, S, G, W, E> {
    async fn reject(
        &self,
        incoming: &Incoming,
        id: Option<&str>,
        rejection: Rejection,
    ) -> Result<(), Fault> {
        let admission = Admission::of(self.ports);
        if let Some(target) = admission.admit(incoming, None).await? {
            self.answer(&target, id, &Handled::rejected(rejection))
                .await?;
        }
        Ok(())
    }

    async fn handle(
        &self,
        incoming: &Incoming,
        id: Option<String>,
        message: &ClientMessage,
    ) -> Result<(), Fault> {
        let subscriber = &incoming.identity.subscriber;
        let needs = message.needs(subscriber);
        let gate = needs.response.then(|| incoming.request.as_str());

        // 1. Admit the connection and load what the decision needs, at the same time.
        let (admission, loader) = (Admission::of(self.ports), Loader::of(self.ports));
        let (admitted, known, record) = join!(
            admission.admit(incoming, gate),
            loader.load(Some(subscriber), &needs),
            self.idempotency_record_of(subscriber, message),
        );
        let Some(target) = admitted? else {
            return Ok(());
        };

        // 2. Decide and commit.
        let context = self.context(incoming, &target.connection, id.clone());
        let holder = self.ports.environment.fresh_id();
        let handled = match (known, record) {
            (Ok(known), Ok(record)) => {
                self.execute(message, context, &needs, known, record, &holder)
                    .await
            }
            (Err(fault), _) | (_, Err(fault)) => Err(fault),
        };
        let mut handled = handled.unwrap_or_else(|fault| {
            tracing::error!(%fault, message = message.message_type(), "message failed");
            Handled::rejected(Rejection::busy())
        });

        // 3. Answer, and push the events. The sender's connection gets no event that it caused, so neither waits for the other.
        let work = std::mem::take(&mut handled.work);
        let log = work.log().cloned();
        let pusher = LogPusher::of(self.ports);
        let (answered, pushed) = join!(
            Box::pin(self.answer_and_release(&target, id.as_deref(), &handled, log.as_ref(), gate)),
            Box::pin(pusher.push(work, &holder, HANDLER_PATIENCE)),
        );
        let answered = answered?;
        pushed?;

        // 4. Follow-ups.
        if let Some(cursor) = &handled.moved {
            Notifier::of(self.ports)
                .publish_read_cursor(subscriber, &incoming.connection, cursor)
                .await?;
        }
        // A client that did not get the answer has not received what stands in it.
        if answered || !matches!(handled.follow_up, FollowUp::Received(_)) {
            self.run_follow_up(subscriber, handled.follow_up).await?;
        }
        // A message behind a gate of its own has released what was parked.
        if gate.is_none() {
            self.release_orphaned(&target).await?;
        }
        Ok(())
    }

    /// Schedules a release if something is parked but no gate holds. Then the gate's owner died, and the function that
    /// parked first may have died before it scheduled one. Otherwise a notice such as an invitation would wait for the
    /// next push to this connection.
    async fn release_orphaned(&self, target: &Target) -> Result<(), Fault> {
        let connection = &target.connection;
        let is_gated = connection.standing_gate(target.read_at, None).is_some();
        if connection.parked.is_empty() || is_gated {
            return Ok(());
        }
        Sender::of(self.ports).schedule_release(&target.key).await
    }

    async fn idempotency_record_of(
        &self,
        subscriber: &Subscriber,
        message: &ClientMessage,
    ) -> Result<Option<IdempotencyRecord>, Fault> {
        match message.idempotency(subscriber) {
            Some((log, id)) => {
                let store = self.ports.store;
                store.idempotency_record(&log, &subscriber.id, id).await
            }
            None => Ok(None),
        }
    }

    fn context(
        &self,
        incoming: &Incoming,
        connection: &Connection,
        reply_to: Option<String>,
    ) -> Context {
        let identity = &incoming.identity;
        let ends = connection.since.plus_seconds(limits::CONNECTION_SECONDS);
        Context {
            subscriber: identity.subscriber.clone(),
            connection: incoming.connection.clone(),
            reply_to,
            now: self.ports.environment.now(),
            since: connection.since,
            token_expires_at: if connection.token == identity.token {
                Some(identity.token_expires)
            } else {
                Some(connection.ends_at).filter(|end| *end < ends)
            },
            fresh_id: self.ports.environment.fresh_id(),
        }
    }

    /// Decides and commits.
    async fn execute(
        &self,
        message: &ClientMessage,
        context: Context,
        needs: &Needs,
        known: Known,
        record: Option<IdempotencyRecord>,
        holder: &str,
    ) -> Result<Handled, Fault> {
        let request = Request {
            caller: Some(&context.subscriber),
            connection: Some(&context.connection),
            needs,
            holder,
        };
        // The channel whose deletion has begun. From then on its log takes no more events, so the deletion goes on even if the
        // caller has lost its right in the meantime. Rights are checked when handling begins.
        let mut deleting = None;
        let decider = Decider::of(self.ports);
        let decided = decider.run(&request, Some(known), |known| {
            let decision = message.decide(&context, known);
            let decision = match (decision, &deleting) {
                (Err(rejection), Some(channel)) => {
                    resume_deletion(channel, known).ok_or(rejection)?
                }
                (decision, _) => decision?,
            };
            Ok(verdict(decision, &mut deleting))
        });
        let Decided { end, work } = decided.await?;
        let mut handled = match end {
            End::Rejected(rejection) => Handled::rejected(rejection),
            End::Changed { answer, then, .. } => Handled {
                response: then.response.or(answer),
                follow_up: then.follow_up,
                ..Handled::default()
            },
            End::Settled(rest) => self.commit(&context, rest, record, holder).await?,
        };
        if work.log().is_some() {
            handled.work = work;
        }
        Ok(handled)
    }

    /// Commits what is no change of a channel.
    async fn commit(
        &self,
        context: &Context,
        rest: Rest,
        record: Option<IdempotencyRecord>,
        holder: &str,
    ) -> Result<Handled, Fault> {
        let key = context.subscriber.connection(context.connection.clone());
        let mut handled = Handled {
            response: rest.response,
            follow_up: rest.follow_up,
            ..Handled::default()
        };
        match rest.commit {
            // The decision loop executes changes.
            Commit::Nothing | Commit::Change(_) => {}
            Commit::Append(draft) => return Ok(self.append(context, &draft, record, holder).await),
            Commit::Announce(announcement) => {
                // If the connection was closed in the meantime, its next message is turned away.
                let _ = self.ports.store.announce(&key, &announcement).await?;
            }
            Commit::Unannounce => {
                let _ = self.ports.store.unannounce(&key).await?;
            }
            Commit::ReadCursor(cursor) => {
                let notifier = Notifier::of(self.ports);
                if notifier.raise(&context.subscriber, &cursor).await? {
                    handled.moved = Some(cursor);
                }
            }
            Commit::Authorize { token } => return self.authorize(context, &token).await,
        }
        Ok(handled)
    }

    async fn append(
        &self,
        context: &Context,
        draft: &Draft,
        record: Option<IdempotencyRecord>,
        holder: &str,
    ) -> Handled {
        let message = Message {
            sender: &context.subscriber,
            origin: Some(&context.connection),
            draft,
            record,
            holder,
        };
        let AppendReport { outcome, work } = Appender::of(self.ports).append(&message).await;
        let handled = match outcome {
            Ok(appended) => Handled::response(ServerMessage::Delivery {
                message_id: appended.message_id,
                status: DeliveryStatus::Stored,
                destination: draft.log.destination_for(&context.subscriber.id),
                sequence: appended.sequence,
                timestamp: appended.timestamp,
                duplicate: appended.duplicate,
            }),
            Err(NotAppended::Rejected(rejection)) => Handled::rejected(rejection),
            Err(NotAppended::Fault(fault)) => {
                tracing::error!(%fault, "message failed: it was not stored");
                Handled::rejected(Rejection::busy())
            }
        };
        Handled { work, ..handled }
    }

    async fn run_follow_up(
        &self,
        subscriber: &Subscriber,
        follow_up: FollowUp,
    ) -> Result<(), Fault> {
        let notifier = Notifier::of(self.ports);
        let job = match follow_up {
            FollowUp::Nothing | FollowUp::Dismantle(_) => return Ok(()),
            FollowUp::Received(cursors) => {
                let mut receipts = Receipts::default();
                for (log, sequence) in cursors {
                    receipts.note(&log, &subscriber.id, sequence);
                }
                return notifier.deliver(receipts).await;
            }
            FollowUp::Typing(log, active) => {
                return notifier.publish_typing(subscriber, &log, active).await;
            }
            FollowUp::PublishPresence => Job::Presence {
                subscriber: subscriber.clone(),
                grace: false,
            },
            FollowUp::Invite(id, channel) => Job::Invited {
                subscriber: channel.domain.subscriber(id),
                log: channel.log(),
            },
        };
        self.ports.workers.start(&job).await
    }
}

/// Turns a decision into what the decision loop has to do. Notes in `deleting` that a deletion begins.
fn verdict(decision: Decision, deleting: &mut Option<ChannelKey>) -> Verdict<Rest> {
    let Decision {
        commit,
        response,
        follow_up,
    } = decision;
    match commit {
        Commit::Change(plan) => {
            let before = match &follow_up {
                FollowUp::Dismantle(channel) => {
                    *deleting = Some(channel.clone());
                    // Before the channel ends: afterwards nothing would remind of its rows.
                    let channel = channel.clone();
                    Some(Job::Dismantle { channel })
                }
                _ => None,
            };
            Verdict::Change {
                plan,
                before,
                then: Rest {
                    commit: Commit::Nothing,
                    response,
                    follow_up,
                },
            }
        }
        commit => Verdict::Settled(Rest {
            commit,
            response,
            follow_up,
        }),
    }
}

/// Decides to go on with a deletion that has begun. Returns `None` if nothing is left to do.
fn resume_deletion(channel: &ChannelKey, known: &Known) -> Option<Decision> {
    let plan = backend::delete_channel(channel, known).ok()??;
    Some(Decision {
        follow_up: FollowUp::Dismantle(channel.clone()),
        ..Decision::commit(Commit::Change(Box::new(plan)))
    })
}
