//! Pushes: what nobody asked for, to one connection, in order and behind its gates.

use std::{borrow::Cow, collections::BTreeSet};

use protocol::{ConnectionId, LogId, ServerMessage, Subscriber, Timestamp};

use crate::{
    GATE, POST, Service, Store, backoff,
    gate::Parking,
    ports::{Connection, Environment, Fault, Measure, Outcome, Posted, Pushes, Reference, Workers},
};

/// How often a throttled post is tried again in vain before what is left waits behind a gate.
pub(crate) const THROTTLED: u32 = 3;

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
    /// Whether it took no more.
    pub(crate) is_throttled: bool,
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Pushes `items` to a connection, one after the other. Given `until`, it begins no post after that, and none after
    /// a throttled one; the rest is then not done.
    pub(crate) async fn push(
        &self,
        target: &Target,
        items: &[Item<'_>],
        until: Option<Timestamp>,
    ) -> Result<Pushed, Fault> {
        let mut target = Cow::Borrowed(target);
        let mut pushed = Pushed {
            done: 0,
            delivered: None,
            is_throttled: false,
        };
        let all = Pushed {
            done: items.len(),
            ..pushed
        };
        let mut throttled = 0;
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
            if until.is_some_and(|until| until <= now) {
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
                Outcome::Delivered => pushed.delivered = Some(pushed.done + count - 1),
                Outcome::Gone => {
                    self.lose(&target).await?;
                    return Ok(all);
                }
                Outcome::Throttled if until.is_some() => {
                    return Ok(Pushed {
                        is_throttled: true,
                        ..pushed
                    });
                }
                // The account's rate, most of the time: who waits a little leaves room for others, and then gets through.
                Outcome::Throttled if throttled < THROTTLED => {
                    let pause = backoff(throttled + 3, target.id.as_str());
                    self.environment.sleep(pause).await;
                    throttled += 1;
                    continue;
                }
                Outcome::Throttled => {
                    self.hold_back(&target, rest).await?;
                    return Ok(Pushed {
                        done: items.len(),
                        ..pushed
                    });
                }
                Outcome::TooLarge | Outcome::Unknown => {
                    let doubtful = rest.iter().take(count);
                    let doubtful = doubtful.filter_map(|it| it.reference.clone());
                    if !self.resync(&target, doubtful).await? {
                        self.hold_back(&target, rest).await?;
                        return Ok(Pushed {
                            done: items.len(),
                            ..pushed
                        });
                    }
                }
            }
            pushed.done += count;
            throttled = 0;
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
    pub(crate) async fn hold_back(&self, target: &Target, rest: &[Item<'_>]) -> Result<(), Fault> {
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
        parked.map(drop)
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
