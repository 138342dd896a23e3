//! Pushes: what nobody asked for, to one connection, in order and behind its gates.

use core::cell::Cell;
use std::{borrow::Cow, collections::BTreeSet};

use protocol::{ConnectionId, LogId, ServerMessage, Subscriber, Timestamp};

use crate::{
    GATE, POST, Service, Store, backoff,
    gate::Parking,
    ports::{
        Connection, Environment, Fault, Measure, Outcome, ParkedOutcome, Posted, Pushes, Reference,
        Workers,
    },
};

/// How often a throttled post is tried again, while nobody else gets through either, before what is left waits behind a gate.
const IN_VAIN: u32 = 3;
/// How often at all: a client that takes something now and then must not keep the others of its log waiting.
const THROTTLED: u32 = 8;

/// A connection as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Whose.
    pub(crate) subscriber: Subscriber,
    /// Which.
    pub(crate) id: ConnectionId,
    /// What was read.
    pub(crate) connection: Connection,
    /// When.
    pub(crate) read_at: Timestamp,
}

/// One frame, and what stands for it if it has to wait.
#[derive(Clone, Debug)]
pub(crate) struct Item<'a> {
    /// The frame.
    pub(crate) frame: &'a str,
    /// What is parked instead; none for what is not worth it.
    pub(crate) reference: Option<Reference>,
}

/// How far [`Service::push`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// How many of the items are done with: posted, parked, or given up with the connection.
    pub(crate) done: usize,
    /// The last one that the gateway took.
    pub(crate) delivered: Option<usize>,
}

/// What the pushes of a fan-out have in common.
#[derive(Debug)]
pub(crate) struct Pace {
    /// No post begins after this.
    pub(crate) until: Timestamp,
    /// What is throttled after this is not tried again.
    pub(crate) last_try: Timestamp,
    /// Posts that were taken. As long as there are more and more of them, what throttles the others is the account's rate.
    pub(crate) taken: Cell<u64>,
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Pushes `items` to a connection, one after the other, at the pace of a fan-out: what would be too late is not done.
    pub(crate) async fn push(
        &self,
        target: &Target,
        items: &[Item<'_>],
        pace: Option<&Pace>,
    ) -> Result<Pushed, Fault> {
        let mut target = Cow::Borrowed(target);
        let mut pushed = Pushed {
            done: 0,
            delivered: None,
        };
        let all = Pushed {
            done: items.len(),
            ..pushed
        };
        let (mut throttled, mut in_vain, mut taken) = (0, 0, 0);
        let messages: Vec<&str> = items.iter().map(|it| it.frame).collect();
        while let (Some(rest @ [_, ..]), Some(messages)) =
            (items.get(pushed.done..), messages.get(pushed.done..))
        {
            // A gate may have been raised since the connection was read; two seconds is what the contract allows.
            let is_old = target.read_at.plus(POST) < self.environment.now();
            if is_old && !self.refresh(target.to_mut()).await? {
                return Ok(all);
            }
            // Only now: that may have taken long.
            let now = self.environment.now();
            if pace.is_some_and(|it| it.until <= now) {
                return Ok(pushed);
            }
            if target.connection.is_gated(now) {
                match self.park(&target, rest).await? {
                    Parking::Done => {
                        return Ok(Pushed {
                            done: items.len(),
                            ..pushed
                        });
                    }
                    Parking::Changed if self.refresh(target.to_mut()).await? => continue,
                    Parking::Changed => return Ok(all),
                }
            }
            let Posted { count, outcome } = self.post(&target, messages).await;
            match outcome {
                Outcome::Delivered => {
                    pushed.delivered = Some(pushed.done + count - 1);
                    if let Some(pace) = pace {
                        pace.taken.set(pace.taken.get() + 1);
                    }
                }
                Outcome::Gone => {
                    self.lose(&target).await?;
                    return Ok(all);
                }
                Outcome::Throttled => {
                    let taken_now = pace.map_or(0, |it| it.taken.get());
                    if taken_now > taken {
                        (in_vain, taken) = (0, taken_now);
                    }
                    let is_late = pace.is_some_and(|it| it.last_try <= self.environment.now());
                    if in_vain == IN_VAIN || throttled == THROTTLED || is_late {
                        break;
                    }
                    // Who waits a little leaves room for others, and slows down the fan-out whose place it keeps.
                    let pause = backoff(throttled + 3, target.id.as_str());
                    self.environment.sleep(pause).await;
                    (throttled, in_vain) = (throttled + 1, in_vain + 1);
                    continue;
                }
                Outcome::TooLarge | Outcome::Unknown => {
                    let doubtful = rest.iter().take(count);
                    let doubtful = doubtful.filter_map(|it| it.reference.clone());
                    if !self.resync(&target, doubtful).await? {
                        break;
                    }
                }
            }
            pushed.done += count;
            (throttled, in_vain) = (0, 0);
        }
        if let Some(rest @ [_, ..]) = items.get(pushed.done..) {
            self.hold_back(&target, rest).await?;
            pushed.done = items.len();
        }
        Ok(pushed)
    }

    /// Hands messages to a connection, as many of the first ones as go together.
    pub(crate) async fn post(&self, target: &Target, messages: &[&str]) -> Posted {
        let framing = target.connection.framing;
        let posted = self.gateway.post(&target.id, framing, messages).await;
        self.environment.measure(Measure::Post(posted.outcome));
        posted
    }

    /// Reads the connection again; whether it is still there.
    pub(crate) async fn refresh(&self, target: &mut Target) -> Result<bool, Fault> {
        let read_at = self.environment.now();
        // Boxed, as in `lose`: rare, and larger than all else of a push, of which there is one for each receiver.
        let mut connections = Box::pin(self.store.connections(&target.subscriber)).await?;
        match connections.remove(&target.id) {
            Some(connection) => {
                target.connection = connection;
                target.read_at = read_at;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// The connection is gone: forgets it, and it alone.
    pub(crate) async fn lose(&self, target: &Target) -> Result<(), Fault> {
        Box::pin(self.disconnect(&target.subscriber, &target.id)).await
    }

    /// After a post of unknown outcome: it is not repeated, the client is told to look for itself. Whether it was told, if
    /// it has to be.
    pub(crate) async fn resync(
        &self,
        target: &Target,
        doubtful: impl IntoIterator<Item = Reference>,
    ) -> Result<bool, Fault> {
        for reference in loud(doubtful) {
            if let Reference::Resync { log } = reference
                && let Some(message) = self.resync_frame(target, &log).await?
                && self.post(target, &[&message]).await.outcome != Outcome::Delivered
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Tells a client that it may have missed something of a log, now or once it takes something again.
    pub(crate) async fn tell_to_look(&self, target: &Target, log: &LogId) -> Result<(), Fault> {
        let reference = Reference::Resync { log: log.clone() };
        if self.resync(target, [reference.clone()]).await? {
            return Ok(());
        }
        let items = [Item {
            frame: "",
            reference: Some(reference),
        }];
        self.hold_back(target, &items).await
    }

    /// The `resync` frame of a log.
    pub(crate) async fn resync_frame(
        &self,
        target: &Target,
        log: &LogId,
    ) -> Result<Option<String>, Fault> {
        let Some(head) = self.store.head(log).await? else {
            return Ok(None);
        };
        let message = ServerMessage::Resync {
            destination: log.destination_for(&target.subscriber.id),
            last_sequence: self.contiguous_end(log, &head).await?,
        };
        Ok(Some(message.encode(None)))
    }

    /// The client reads too slowly: what is left waits behind a gate as references, of logs one `resync` each, and the
    /// worker tries again.
    async fn hold_back(&self, target: &Target, rest: &[Item<'_>]) -> Result<(), Fault> {
        let gate = format!("throttled-{}", self.environment.fresh_id());
        let deadline = self.environment.now().plus(GATE);
        let Target { subscriber, id, .. } = target;
        if self
            .store
            .raise_gate(subscriber, id, &gate, deadline)
            .await?
            .is_err()
        {
            return Ok(());
        }
        let references = loud(rest.iter().filter_map(|it| it.reference.clone()));
        let parked = self
            .store
            .park(subscriber, id, Some(&gate), &references)
            .await;
        self.start_release(subscriber, id).await?;
        match parked? {
            // So slow that the gate ended and another took over: nothing waits there, and whoever comes next tells it.
            ParkedOutcome::Changed => Err(Fault::Conflict),
            ParkedOutcome::Parked(_) | ParkedOutcome::NotRegistered => Ok(()),
        }
    }
}

/// `references` with those to events replaced by one `resync` for each log.
pub(crate) fn loud(references: impl IntoIterator<Item = Reference>) -> Vec<Reference> {
    let mut seen = BTreeSet::new();
    references
        .into_iter()
        .filter_map(|reference| match reference {
            Reference::Event { log, .. } | Reference::Resync { log } => seen
                .insert(log.clone())
                .then_some(Reference::Resync { log }),
            other => Some(other),
        })
        .collect()
}
