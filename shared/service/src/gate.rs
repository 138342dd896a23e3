//! Gates: a required response comes before what was caused after its request.
//!
//! Whoever handles a message with a required response raises a gate on its own connection. A sender that sees a gate, or
//! that something is parked, parks a reference at the end instead of posting. The gate's owner answers, posts what is
//! parked, in order, and lowers the gate once nothing is. So nothing overtakes anything.
//!
//! If the owner dies, the gate ends by itself. What is parked then is taken over by whoever meets it, and becomes a
//! `resync` for each log, because nobody knows how much of it was posted.

use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use protocol::{
    ConnectionId, Event, EventBody, LogId, ServerMessage, Subscriber, Timestamp,
    change::LogEntry,
    frame::{DisconnectCode, PushedEvent},
    model::Presence,
};

use crate::{
    GATE, POST, Service, Store,
    ports::{
        Connection, Environment, Fault, Framing, Job, Measure, Outcome, Parked, ParkedOutcome,
        Posted, Pushes, Reference, Workers, is_first_gate,
    },
    push::{Item, Target, loud},
};

/// References at most that wait for one connection; beyond that one `resync` for each log.
const PARKED: usize = 200;
/// How long what is parked is posted one by one: where more comes all the time, this would not end before its function
/// does. After that one `resync` for each log stands for all that waits.
const ONE_BY_ONE: Duration = Duration::from_secs(3);
/// How often a throttled post is tried again before the rest is left to the worker.
const THROTTLED: u32 = 5;

/// References at most that are turned into messages before these are posted together.
const TOGETHER: usize = 50;

/// A parked reference as the message that it stands for.
struct Ready {
    place: usize,
    reference: Reference,
    message: String,
}

/// What became of items that had to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parking {
    /// Somebody will post them, or the connection is gone.
    Done,
    /// The gate is gone meanwhile: read the connection again.
    Changed,
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Parks items behind the gate that was seen, or takes over from gates whose owners are late.
    pub(crate) async fn park(&self, target: &Target, items: &[Item<'_>]) -> Result<Parking, Fault> {
        let Target {
            subscriber,
            id,
            connection,
            ..
        } = target;
        let references: Vec<Reference> =
            items.iter().filter_map(|it| it.reference.clone()).collect();
        let references = if connection.parked.len() + references.len() > PARKED {
            // Also if a `resync` of the log waits already: it may be on its way out, and know nothing of these.
            loud(references)
        } else {
            references
        };
        let Some(saw) = connection.standing_gate(self.environment.now(), None) else {
            if connection.opening_gate().is_some() {
                self.drop_unopened(target).await?;
                return Ok(Parking::Done);
            }
            return self.take_over(target, &references).await;
        };
        if references.is_empty() {
            return Ok(Parking::Done);
        }
        let parked = self
            .store
            .park(subscriber, id, Some(saw), &references)
            .await;
        self.environment.measure(Measure::Parked);
        // A young connection's worker sees to it anyway, and is tried again if it dies.
        if !is_first_gate(saw) {
            // Who stands in for one who died does not know whether that one, who may have parked first, saw to it.
            let stands_in = items
                .iter()
                .any(|it| matches!(it.reference, Some(Reference::Resync { .. })));
            if stands_in {
                self.start_release(subscriber, id).await?;
            } else {
                self.see_to(subscriber, id, &parked).await?;
            }
        }
        match parked? {
            ParkedOutcome::Parked(_) | ParkedOutcome::NotRegistered => Ok(Parking::Done),
            ParkedOutcome::Changed => Ok(Parking::Changed),
        }
    }

    /// Has the worker see to what was parked, if nothing was before; also if nobody knows whether something was: who comes
    /// next would find it there and leave it to us.
    async fn see_to(
        &self,
        subscriber: &Subscriber,
        id: &ConnectionId,
        parked: &Result<ParkedOutcome, Fault>,
    ) -> Result<(), Fault> {
        match parked {
            Ok(ParkedOutcome::Parked(Parked::First)) | Err(Fault::Unknown(_)) => {
                self.start_release(subscriber, id).await
            }
            _ => Ok(()),
        }
    }

    /// Has the worker see to what is parked for a connection.
    pub(crate) async fn start_release(
        &self,
        subscriber: &Subscriber,
        id: &ConnectionId,
    ) -> Result<(), Fault> {
        let job = Job::Release {
            subscriber: subscriber.clone(),
            connection: id.clone(),
        };
        self.workers.start(&job).await
    }

    /// Something is parked, and no gate stands any more.
    async fn take_over(&self, target: &Target, references: &[Reference]) -> Result<Parking, Fault> {
        let Target {
            subscriber,
            id,
            connection,
            ..
        } = target;
        let gate = self.environment.fresh_id();
        let deadline = self.environment.now().plus(GATE);
        // In one write: what others park next stands behind what is ours, and what is removed is what was posted.
        let taken = self
            .store
            .take_gate(
                subscriber,
                id,
                &connection.gates,
                (&gate, deadline),
                references,
            )
            .await;
        // Somebody else may have released all the rest meanwhile, and nobody see to ours if this dies.
        let alone = match &taken {
            Ok(taken) => taken
                .as_ref()
                .is_some_and(|it| it.parked.len() == references.len()),
            Err(fault) => matches!(fault, Fault::Unknown(_)),
        };
        if alone && !references.is_empty() {
            self.start_release(subscriber, id).await?;
        }
        let Some(taken) = taken? else {
            return Ok(Parking::Changed);
        };
        let late = taken.parked.len().saturating_sub(references.len());
        Box::pin(self.release(subscriber, id, &gate, taken, late)).await?;
        Ok(Parking::Done)
    }

    /// Posts what is parked behind the own gate, in order, until nothing is, and lowers the gate. The first `late`
    /// references were taken over: they become a `resync` for each log, and so does everything once this takes too long.
    /// While another gate stands, its owner goes on.
    ///
    /// If this dies, the gate ends by itself and is taken over; what was posted and not yet removed is then told again.
    pub(crate) async fn release(
        &self,
        subscriber: &Subscriber,
        id: &ConnectionId,
        gate: &str,
        mut connection: Connection,
        mut late: usize,
    ) -> Result<(), Fault> {
        let impatient = self.environment.now().plus(ONE_BY_ONE);
        let mut took_over = late > 0;
        loop {
            let now = self.environment.now();
            let other = connection.standing_gate(now, Some(gate));
            if connection.parked.is_empty() || other.is_some() {
                if other.is_some() && late > 0 && !self.leave_late(subscriber, id).await? {
                    return Ok(());
                }
                if self.store.lower_gate(subscriber, id, gate, other).await? {
                    if other.is_some() && took_over {
                        // Whose owner may die as well; and who parked first may have died before it saw to it.
                        self.start_release(subscriber, id).await?;
                    }
                    return Ok(());
                }
                match self.still_gated(subscriber, id, gate).await? {
                    Some(read) => connection = read,
                    None => return Ok(()),
                }
                continue;
            }
            // Gates of others that ended are removed first: whoever is still at work behind one finds itself out with its
            // next write, and does not remove what only we post. How far it came nobody knows.
            let mut expired = connection.gates.clone();
            expired.remove(gate);
            let unopened = connection
                .opening_gate()
                .is_some_and(|it| expired.contains_key(it));
            if unopened {
                let target = Target {
                    subscriber: subscriber.clone(),
                    id: id.clone(),
                    connection,
                    read_at: now,
                };
                return self.drop_unopened(&target).await;
            }
            if !expired.is_empty() {
                let deadline = now.plus(GATE);
                let taken = self
                    .store
                    .take_gate(subscriber, id, &expired, (gate, deadline), &[])
                    .await?;
                match taken {
                    Some(taken) => {
                        took_over = true;
                        late = taken.parked.len();
                        connection = taken;
                    }
                    None => match self.still_gated(subscriber, id, gate).await? {
                        Some(read) => connection = read,
                        None => return Ok(()),
                    },
                }
                continue;
            }
            if impatient <= now {
                late = connection.parked.len();
            }
            let target = Target {
                subscriber: subscriber.clone(),
                id: id.clone(),
                connection,
                read_at: now,
            };
            let Some(done) = self.post_parked(&target, gate, late).await? else {
                return Ok(());
            };
            late = late.saturating_sub(done);
            let deadline = self.environment.now().plus(GATE);
            match self
                .store
                .unpark(subscriber, id, gate, done, deadline)
                .await?
            {
                Ok(read) => connection = read,
                Err(_) => return Ok(()),
            }
        }
    }

    /// Leaves a gate that has ended: whoever goes on learns from it that nobody knows how much of what is parked was posted.
    /// Whether the connection is still there.
    async fn leave_late(&self, subscriber: &Subscriber, id: &ConnectionId) -> Result<bool, Fault> {
        let gate = format!("late-{}", self.environment.fresh_id());
        let raised = self
            .store
            .raise_gate(subscriber, id, &gate, Timestamp::from_millis(0))
            .await?;
        Ok(raised.is_ok())
    }

    /// The connection as it is now, if the gate is still there.
    async fn still_gated(
        &self,
        subscriber: &Subscriber,
        id: &ConnectionId,
        gate: &str,
    ) -> Result<Option<Connection>, Fault> {
        let mut connections = self.store.connections(subscriber).await?;
        let connection = connections.remove(id);
        Ok(connection.filter(|it| it.gates.contains_key(gate)))
    }

    /// A framed connection whose opener died, so that nobody knows whether its client was told that its session is open: told
    /// twice it would take its session for lost, not told it would wait for ever. It is dropped, and comes back.
    pub(crate) async fn drop_unopened(&self, target: &Target) -> Result<(), Fault> {
        let (framing, code) = (target.connection.framing, DisconnectCode::Shutdown);
        self.drop_connection(&target.subscriber, &target.id, framing, code)
            .await?;
        Ok(())
    }

    /// Posts what is parked as long as the own gate certainly holds; how many are done, or none if there is nothing more
    /// to do here.
    async fn post_parked(
        &self,
        target: &Target,
        gate: &str,
        late: usize,
    ) -> Result<Option<usize>, Fault> {
        let mut resynced = BTreeSet::new();
        let (mut done, mut looked) = (0, 0);
        let mut ready: VecDeque<Ready> = VecDeque::new();
        while done < target.connection.parked.len() {
            if ready.is_empty() {
                (ready, looked) = self.make_ready(target, looked, late, &mut resynced).await?;
                if ready.is_empty() {
                    done = looked;
                    continue;
                }
            }
            let now = self.environment.now();
            let holds = target.connection.gates.get(gate);
            let Some(holds) = holds.filter(|deadline| now.plus(POST) < **deadline) else {
                return Ok(Some(done));
            };
            if (done > 0 && target.read_at.plus(POST) <= now)
                || ready.iter().any(|it| it.reference.is_overdue(now))
            {
                // Renewed before the next post, and looked whether another stands behind a gate of its own.
                return Ok(Some(done));
            }
            let messages: Vec<&str> = ready.iter().map(|it| it.message.as_str()).collect();
            let Posted { count, outcome } =
                self.post_patiently(target, &messages, Some(*holds)).await;
            let posted: Vec<Ready> = ready.drain(..count.min(ready.len())).collect();
            match outcome {
                Outcome::Delivered => {
                    for ready in &posted {
                        self.note_received(target, &ready.reference).await?;
                    }
                }
                Outcome::Gone => {
                    self.lose(target).await?;
                    return Ok(None);
                }
                outcome => {
                    let doubtful = posted.iter().map(|it| it.reference.clone());
                    if outcome != Outcome::Throttled && self.resync(target, doubtful).await? {
                        done = ready.front().map_or(looked, |it| it.place);
                        continue;
                    }
                    // The gate is left to end; the worker that was started with the first reference takes over then,
                    // and says `resync`.
                    let deadline = self.environment.now().plus(GATE);
                    let Target { subscriber, id, .. } = target;
                    let _ = self
                        .store
                        .unpark(subscriber, id, gate, done, deadline)
                        .await?;
                    return Ok(None);
                }
            }
            done = ready.front().map_or(looked, |it| it.place);
        }
        Ok(Some(done))
    }

    /// The messages for the references from `from` on, as many as may go together; and up to where that is. Of the first
    /// `late` references, and of those that are overdue, each log is told only once, that something may be missing.
    async fn make_ready(
        &self,
        target: &Target,
        from: usize,
        late: usize,
        resynced: &mut BTreeSet<LogId>,
    ) -> Result<(VecDeque<Ready>, usize), Fault> {
        let most = match target.connection.framing {
            Framing::Raw => 1,
            Framing::Sockjs | Framing::Session => TOGETHER,
        };
        let impatient = self.environment.now().plus(POST / 2);
        let mut ready = VecDeque::new();
        let mut looked = from;
        for (place, reference) in target.connection.parked.iter().enumerate().skip(from) {
            let now = self.environment.now();
            if ready.len() >= most || now >= impatient && looked > from {
                break;
            }
            looked = place + 1;
            let reference = match reference {
                Reference::Event { log, .. } | Reference::Resync { log }
                    if place < late || reference.is_overdue(now) =>
                {
                    if !resynced.insert(log.clone()) {
                        continue;
                    }
                    Reference::Resync { log: log.clone() }
                }
                other => other.clone(),
            };
            if let Some(message) = self.frame_of(target, &reference).await? {
                ready.push_back(Ready {
                    place,
                    reference,
                    message,
                });
            }
        }
        Ok((ready, looked))
    }

    /// Posts, and again after a pause if the client reads too slowly: a throttled post was certainly not taken. None is under
    /// way any more at `until`.
    pub(crate) async fn post_patiently(
        &self,
        target: &Target,
        messages: &[&str],
        until: Option<Timestamp>,
    ) -> Posted {
        let mut attempt = 0;
        loop {
            let posted = self.post(target, messages).await;
            let pause = crate::backoff(attempt + 3, target.id.as_str());
            let next = self.environment.now().plus(pause);
            let is_late = until.is_some_and(|until| until <= next.plus(POST));
            if posted.outcome != Outcome::Throttled || attempt == THROTTLED || is_late {
                return posted;
            }
            self.environment.sleep(pause).await;
            attempt += 1;
        }
    }

    /// What a reference stands for now; none if it stands for nothing any more.
    async fn frame_of(
        &self,
        target: &Target,
        reference: &Reference,
    ) -> Result<Option<String>, Fault> {
        match reference {
            Reference::Resync { log } => self.resync_frame(target, log).await,
            Reference::Event { log, sequence, .. } => match self.store.entry(log, *sequence).await?
            {
                Some(LogEntry {
                    event:
                        Event {
                            body: EventBody::Void,
                            ..
                        },
                    ..
                })
                | None => self.resync_frame(target, log).await,
                Some(entry) => Ok(self
                    .on_the_wire(log, std::slice::from_ref(&entry))
                    .await?
                    .pop()
                    .and_then(|event| {
                        PushedEvent::new(log.destination_for(&target.subscriber.id), event)
                    })
                    .map(|it| ServerMessage::Event(it).encode(None))),
            },
            Reference::Delivery {
                log,
                message_id,
                sequence,
                status,
                timestamp,
            } => Ok(Some(
                ServerMessage::Delivery {
                    message_id: message_id.clone(),
                    status: *status,
                    destination: log.destination_for(&target.subscriber.id),
                    sequence: *sequence,
                    timestamp: *timestamp,
                    duplicate: false,
                }
                .encode(None),
            )),
            Reference::Presence { subscriber } => {
                let state = self.store.presence(subscriber).await?;
                Ok(Some(
                    ServerMessage::Presence {
                        subscriber: Presence::of(&subscriber.id, state.effective()),
                        version: state.told.map_or(0, |it| it.version),
                    }
                    .encode(None),
                ))
            }
            Reference::Invitation { log } => self.invitation_frame(&target.subscriber, log).await,
            Reference::TokenExpiring { at } => Ok((target.connection.ends_at == *at).then(|| {
                let token_expires_at = *at;
                ServerMessage::TokenExpiring { token_expires_at }.encode(None)
            })),
        }
    }
}
