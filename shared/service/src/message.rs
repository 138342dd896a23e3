//! One client message: read, decide, commit, answer, tell the others.

use core::time::Duration;

use futures::join;
use protocol::{
    ClientMessage, Code, ConnectionId, Context, Decision, Decoded, DeliveryStatus, Known, LogId,
    Rejection, RequestId, ServerMessage, Subscriber,
    change::LogEntry,
    decide::{Commit, Draft, Horizon, Then},
    limits,
};

use crate::{
    DECISIONS, Identity, Service, Store,
    append::{Allocated, NotAppended},
    beaten,
    change::{Changed, Held, go_on_deleting},
    ports::{Connection, Environment, Fault, Job, Marker, Measure, Outcome, Pushes, Workers},
    push::Target,
};

/// How long a handler drains before it hands on to the worker: its client waits for nothing, but the next one of this
/// function does.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often a message looks again whether a channel has ended whose log has.
const ENDINGS: u32 = 6;

/// A text frame of a client.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Who the authorizer found when the connection began.
    pub identity: Identity,
    /// Over which connection.
    pub connection: ConnectionId,
    /// The invocation: names the gate.
    pub request: RequestId,
    /// The text.
    pub body: String,
}

/// What is to be answered, and what lies in a log to be pushed.
#[derive(Debug, Default)]
pub(crate) struct Handled {
    response: Option<ServerMessage>,
    rejection: Option<Rejection>,
    log: Option<(LogId, Option<Allocated>, Vec<LogEntry>)>,
    then: Option<Then>,
    moved: Option<Horizon>,
}

impl Handled {
    /// A response and no more.
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

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Handles one client message. A malformed one is ignored; any other is answered by exactly one `ack`.
    ///
    /// # Errors
    /// A fault of the store after the answer. Before it, the client is told `unavailable`.
    pub async fn message(&self, incoming: &Incoming) -> Result<(), Fault> {
        let (id, decoded) = match protocol::decode(&incoming.body) {
            Decoded::Ignored => {
                self.environment.measure(Measure::Message("ignored"));
                return Ok(());
            }
            Decoded::Rejected { id, rejection } => (id, Err(rejection)),
            Decoded::Message { id, message } => (id, Ok(message)),
        };
        match decoded {
            Err(rejection) => {
                self.environment.measure(Measure::Message("rejected"));
                let Some(target) = self.admit(incoming).await? else {
                    return Ok(());
                };
                self.answer(&target, id.as_deref(), &Handled::rejected(rejection))
                    .await?;
                Ok(())
            }
            Ok(message) => Box::pin(self.handle(incoming, id, &message)).await,
        }
    }

    async fn handle(
        &self,
        incoming: &Incoming,
        id: Option<String>,
        message: &ClientMessage,
    ) -> Result<(), Fault> {
        let kind = Measure::Message(message.message_type());
        self.environment.measure(kind);
        let subscriber = &incoming.identity.subscriber;
        let needs = message.needs(subscriber);
        let gate = needs.response.then(|| incoming.request.as_str());
        let (admitted, known, marker) = join!(
            self.admit_behind(incoming, gate),
            self.load(subscriber, &needs),
            self.marker_of(subscriber, message),
        );
        let Some(target) = admitted? else {
            return Ok(());
        };
        let context = self.context(incoming, &target.connection, id.clone());
        let holder = self.environment.fresh_id();
        let handled = match (known, marker) {
            (Ok(known), Ok(marker)) => {
                self.carry_out(message, context, known, marker, &holder)
                    .await
            }
            (Err(fault), _) | (_, Err(fault)) => Err(fault),
        };
        let handled = handled.unwrap_or_else(|fault| {
            tracing::error!(%fault, message = message.message_type(), "not honoured");
            Handled::rejected(Rejection::busy())
        });
        // The origin is no receiver of its event, so answering and draining do not wait for each other.
        let (answered, drained) = join!(
            Box::pin(self.answer_and_lower(&target, id.as_deref(), &handled, gate)),
            Box::pin(self.drain_handled(&handled, &holder)),
        );
        let answered = answered?;
        drained?;
        if let Some(horizon) = &handled.moved {
            self.tell_horizon(subscriber, &incoming.connection, horizon)
                .await?;
        }
        // What did not arrive was not handed over.
        let then = handled
            .then
            .filter(|it| answered || !matches!(it, Then::Received(_)));
        self.follow(subscriber, then).await?;
        // Last, as it is nobody's in particular; behind a gate of its own, letting go has seen to it.
        if gate.is_none() {
            self.see_to_left(&target).await?;
        }
        Ok(())
    }

    /// Something waits and no gate stands: the gate's owner died, and so may have done who parked first, before it saw to it.
    /// What no log tells again, as an invitation, would wait until somebody pushes to this connection.
    async fn see_to_left(&self, target: &Target) -> Result<(), Fault> {
        let connection = &target.connection;
        let stands = connection.standing_gate(target.read_at, None).is_some();
        if connection.parked.is_empty() || stands {
            return Ok(());
        }
        self.start_release(&target.subscriber, &target.id).await
    }

    async fn marker_of(
        &self,
        subscriber: &Subscriber,
        message: &ClientMessage,
    ) -> Result<Option<Marker>, Fault> {
        match message.idempotency(subscriber) {
            Some((log, id)) => self.store.marker(&log, &subscriber.id, id).await,
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
            now: self.environment.now(),
            since: connection.since,
            token_expires_at: if connection.token == identity.token {
                Some(identity.token_expires)
            } else {
                Some(connection.ends_at).filter(|it| *it < ends)
            },
            fresh_id: self.environment.fresh_id(),
        }
    }

    /// Decides and commits, and again with fresh knowledge as long as another writer was first.
    async fn carry_out(
        &self,
        message: &ClientMessage,
        context: Context,
        mut known: Known,
        marker: Option<Marker>,
        holder: &str,
    ) -> Result<Handled, Fault> {
        let mut held: Option<Held> = None;
        let mut begun = None;
        for attempt in 0..=DECISIONS {
            let decision = match protocol::decide(message, &context, &known) {
                Ok(decision) => decision,
                // What was read does not fit together, because others changed it meanwhile.
                Err(rejection) if rejection.code == Code::Unavailable && attempt < DECISIONS => {
                    known = self.load_anew(message, &context, attempt, holder).await?;
                    continue;
                }
                Err(rejection) => match go_on_deleting(begun.as_ref(), &known) {
                    Some(decision) => decision,
                    None => return self.reject(rejection, held).await,
                },
            };
            let Decision {
                commit,
                response,
                then,
            } = decision;
            let mut handled = Handled {
                response,
                then: Some(then),
                ..Handled::default()
            };
            match commit {
                Commit::Nothing => {
                    return self.without_places(handled, held).await;
                }
                Commit::Append(draft) => {
                    return self
                        .carry_out_append(&context, &draft, marker, holder)
                        .await;
                }
                Commit::Announce(announcement) => {
                    // A connection that was dropped meanwhile is told so with its next message.
                    let _ = self
                        .store
                        .announce(&context.subscriber, &context.connection, &announcement)
                        .await?;
                    return Ok(handled);
                }
                Commit::Horizon(horizon) => {
                    if self.raise(&context.subscriber, &horizon).await? {
                        handled.moved = Some(horizon);
                    }
                    return Ok(handled);
                }
                Commit::Authorize { token } => {
                    return self.authorize(&context, &token).await;
                }
                Commit::Unannounce => {
                    let _ = self
                        .store
                        .unannounce(&context.subscriber, &context.connection)
                        .await?;
                    return Ok(handled);
                }
                Commit::Change(plan) => {
                    if let (Some(Then::Dismantle(channel)), None) = (&handled.then, &begun) {
                        begun = Some(channel.clone());
                        // Before the channel ends: afterwards nobody could make up for it.
                        let channel = channel.clone();
                        self.workers.start(&Job::Dismantle { channel }).await?;
                    }
                    let origin = (!plan.is_pushed_to_caller()).then_some(&context.connection);
                    match self.try_change(&plan, origin, holder, &mut held).await? {
                        Ok(Some(Changed { entries, answer })) => {
                            handled.response = handled.response.or(answer);
                            if !entries.is_empty() {
                                let allocated = held.map(|it| it.allocated);
                                handled.log = Some((plan.channel.log(), allocated, entries));
                            }
                            return Ok(handled);
                        }
                        Ok(None) => {
                            known = self.load_anew(message, &context, attempt, holder).await?;
                        }
                        // The log has its last event, and whoever writes that is about to end the channel.
                        Err(rejection) if rejection.code == Code::NotFound && attempt < ENDINGS => {
                            known = self.load_anew(message, &context, attempt, holder).await?;
                        }
                        Err(rejection) => return self.reject(rejection, held).await,
                    }
                }
            }
        }
        self.reject(Rejection::busy(), held).await
    }

    /// What the message needs to be decided again, after a pause.
    async fn load_anew(
        &self,
        message: &ClientMessage,
        context: &Context,
        attempt: u32,
        holder: &str,
    ) -> Result<Known, Fault> {
        self.environment.sleep(beaten(attempt, holder)).await;
        let needs = message.needs(&context.subscriber);
        self.load(&context.subscriber, &needs).await
    }

    /// Places that were taken for nothing are closed, and drained if the lease came with them.
    async fn without_places(
        &self,
        mut handled: Handled,
        held: Option<Held>,
    ) -> Result<Handled, Fault> {
        if let Some(held) = held {
            handled.log = Some((held.log().clone(), Some(held.allocated.clone()), Vec::new()));
            self.give_up(held).await?;
        }
        Ok(handled)
    }

    async fn reject(&self, rejection: Rejection, held: Option<Held>) -> Result<Handled, Fault> {
        self.without_places(Handled::rejected(rejection), held)
            .await
    }

    async fn carry_out_append(
        &self,
        context: &Context,
        draft: &Draft,
        marker: Option<Marker>,
        holder: &str,
    ) -> Result<Handled, Fault> {
        let mut allocated = None;
        let appended = self
            .append(
                &context.subscriber,
                Some(&context.connection),
                draft,
                marker,
                holder,
                &mut allocated,
            )
            .await;
        let entries = allocated.iter().filter_map(|it| it.entry.clone()).collect();
        let log = allocated.map(|it| (draft.log.clone(), Some(it), entries));
        let mut handled = match appended {
            Ok(appended) => Handled {
                response: Some(ServerMessage::Delivery {
                    message_id: appended.message_id,
                    status: DeliveryStatus::Stored,
                    destination: draft.log.destination_for(&context.subscriber.id),
                    sequence: appended.sequence,
                    timestamp: appended.timestamp,
                    duplicate: appended.duplicate,
                }),
                ..Handled::default()
            },
            Err(NotAppended::Rejected(rejection)) => Handled::rejected(rejection),
            Err(NotAppended::Fault(fault)) => {
                tracing::error!(%fault, "not appended");
                Handled::rejected(Rejection::busy())
            }
        };
        handled.log = log;
        Ok(handled)
    }

    /// Posts the response and the `ack`, then lets go what waited behind the gate. Whether the response went out.
    async fn answer_and_lower(
        &self,
        target: &Target,
        id: Option<&str>,
        handled: &Handled,
        gate: Option<&str>,
    ) -> Result<bool, Fault> {
        let answered = self.answer(target, id, handled).await?;
        let Some(gate) = gate else {
            return Ok(answered);
        };
        let raised = target.read_at;
        let mut target = target.clone();
        // What was parked when the gate was raised may be gone by now, and others may stand behind gates of their own.
        if !target.connection.parked.is_empty() && !self.refresh(&mut target).await? {
            return Ok(answered);
        }
        let Target {
            subscriber,
            id,
            connection,
            ..
        } = target;
        let released = self.release(&subscriber, &id, gate, connection, 0).await;
        self.environment.measure(Measure::Gate(self.since(raised)));
        released.map(|()| answered)
    }

    /// Posts the response and then the `ack`, together if they fit. Whether the response went out; one that is not required
    /// did.
    ///
    /// A response may fail by itself. What it told of a log is repaired by a `resync`; without one the `ack` says that the
    /// client has nothing, and it asks again.
    async fn answer(
        &self,
        target: &Target,
        id: Option<&str>,
        handled: &Handled,
    ) -> Result<bool, Fault> {
        let ack = |rejection: Option<Rejection>| {
            let ack = ServerMessage::Ack {
                id: id.map(str::to_owned),
                status: rejection.is_none(),
                error: rejection,
            };
            ack.encode(id)
        };
        let last = ack(handled.rejection.clone());
        let Some(response) = handled.response.as_ref().map(|it| it.encode(id)) else {
            let posted = self.post_patiently(target, &[&last], None).await;
            if posted.outcome == Outcome::Gone {
                self.lose(target).await?;
            }
            return Ok(true);
        };
        // The first one to go takes the response along.
        let posted = self.post_patiently(target, &[&response, &last], None).await;
        let told = posted.outcome == Outcome::Delivered;
        let mut is_gone = posted.outcome == Outcome::Gone;
        if posted.count == 1 && !is_gone {
            let last = if told || handled.log.is_some() {
                last
            } else {
                ack(Some(Rejection::busy()))
            };
            let posted = self.post_patiently(target, &[&last], None).await;
            is_gone = posted.outcome == Outcome::Gone;
        }
        if is_gone {
            self.lose(target).await?;
            return Ok(told);
        }
        if let (false, Some((log, ..))) = (told, &handled.log) {
            // Nobody pushes an event to the connection that it came from.
            self.tell_to_look(target, log).await?;
        }
        Ok(told)
    }

    async fn drain_handled(&self, handled: &Handled, holder: &str) -> Result<(), Fault> {
        match &handled.log {
            None => Ok(()),
            Some((log, Some(allocated), entries)) => {
                self.drain_after(log, holder, allocated, entries.clone(), PATIENCE)
                    .await
            }
            // A log that was just made: nobody holds its lease.
            Some((log, None, _)) => self.drain_job(log, None, None, PATIENCE).await,
        }
    }

    async fn follow(&self, subscriber: &Subscriber, then: Option<Then>) -> Result<(), Fault> {
        match then {
            None | Some(Then::Nothing | Then::Dismantle(_)) => Ok(()),
            Some(Then::TellPresence) => {
                let job = Job::Presence {
                    subscriber: subscriber.clone(),
                    grace: false,
                };
                self.workers.start(&job).await
            }
            Some(Then::Received(horizons)) => {
                for (log, sequence) in horizons {
                    self.received(&log, &subscriber.id, sequence).await?;
                }
                Ok(())
            }
            Some(Then::Invite(id, channel)) => {
                let job = Job::Invited {
                    subscriber: Subscriber {
                        domain: channel.domain.clone(),
                        id,
                    },
                    log: channel.log(),
                };
                self.workers.start(&job).await
            }
            Some(Then::Typing(log, active)) => self.tell_typing(subscriber, &log, active).await,
        }
    }
}
