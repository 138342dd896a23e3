//! Posting what is parked for a connection, behind a gate of one's own.

use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use protocol::{
    ConnectionId, Event, EventBody, LogId, ServerMessage, Subscriber, Timestamp, change::LogEntry,
    frame::PushedEvent, model::Presence,
};

use crate::{
    GATE, POST, Service, Store,
    ports::{
        Connection, Environment, Fault, Framing, Outcome, Posted, Pushes, Reference, UNPARKED,
        Workers,
    },
    push::Target,
};

/// How long what is parked is posted one by one: where more comes all the time, this would not end before its function
/// does. After that one `resync` for each log stands for all that waits.
const ONE_BY_ONE: Duration = Duration::from_secs(3);
/// References at most that are turned into messages before these are posted together.
const TOGETHER: usize = 50;

/// A parked reference as the message that it stands for.
struct Ready {
    place: usize,
    reference: Reference,
    message: String,
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
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
                    let is_left = !connection.parked.is_empty();
                    let was_left = is_left && connection.has_dead_gate(now, gate);
                    if other.is_some() && (took_over || was_left) {
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
                return self.drop_target(&target).await;
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
            match self.unpark(subscriber, id, gate, done).await? {
                Some(read) => connection = read,
                None => return Ok(()),
            }
        }
    }

    /// Removes the first `done` references, as many as one update takes at once, and renews the gate; the connection as it
    /// is then, or none if the gate is gone.
    async fn unpark(
        &self,
        subscriber: &Subscriber,
        id: &ConnectionId,
        gate: &str,
        mut done: usize,
    ) -> Result<Option<Connection>, Fault> {
        loop {
            let count = done.min(UNPARKED);
            let deadline = self.environment.now().plus(GATE);
            let left = self
                .store
                .unpark(subscriber, id, gate, count, deadline)
                .await?;
            done -= count;
            match left {
                Ok(_) if done > 0 => {}
                left => return Ok(left.ok()),
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
