//! Sending a batch of a log's events to everybody whom it concerns: each frame encoded once, connections at once, one
//! connection's frames one after the other.

mod frames;

use core::{pin::pin, time::Duration};
use std::collections::BTreeMap;

use futures::{
    Stream, StreamExt as _, TryStreamExt as _, future::OptionFuture, join, stream, try_join,
};
use protocol::{LogId, Subscriber, SubscriberId, Timestamp, change::LogEntry};

use crate::{
    Service, Store, backoff,
    drain::Holding,
    ports::{Environment, Fault, Measure, Page, Pushes, Receiver, Workers},
    push::{THROTTLED, Target},
};
use frames::{Frame, items_for, newest_from_peer};

/// Connections that are posted to at once.
const AT_ONCE: usize = 64;

/// Receivers that are read together: one query of about 100 KB.
const RECIPIENTS: usize = 1_000;

/// Receivers whose connections are read together, in one batch; the first ones are sent to while the next are read.
const GROUP: usize = 100;

/// Groups that are read at once.
const GROUPS_AT_ONCE: usize = 4;

/// How long those of a page who were throttled are tried again at most; with its patience before, less than a function lives.
const AGAIN: Duration = Duration::from_secs(15);

/// Some of those whom a batch concerns, and where the next ones begin.
struct Recipients {
    receivers: Vec<Receiver>,
    next: Option<SubscriberId>,
}

/// What became of a batch.
pub(crate) enum Sent {
    /// Everybody whom it concerns has had it.
    All,
    /// The lease was lost on the way.
    Lost,
    /// There is no time for more: everybody up to this one has had it.
    Until(SubscriberId),
}

/// What was sent.
#[derive(Default)]
struct Outcome {
    /// To how many connections.
    connections: usize,
    /// The last message of the peer that each side of a conversation was handed.
    received: BTreeMap<SubscriberId, u64>,
}

/// A connection, and how many of its items are done.
struct Reached<'a> {
    target: Target,
    receiver: &'a Receiver,
    done: usize,
    /// How often it was throttled since it last took something.
    throttled: u32,
}

/// How far one of them came.
struct Further<'a> {
    reached: Reached<'a>,
    /// Whether something is left.
    is_left: bool,
    /// The last message of the peer that it was handed.
    received: Option<u64>,
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Sends a batch to everybody whom it concerns, or, where another began it, to those whom that one left; begins no further
    /// page of them once it is `impatient`.
    pub(crate) async fn send(
        &self,
        log: &LogId,
        holding: &mut Holding,
        batch: &[LogEntry],
        impatient: Timestamp,
    ) -> Result<Sent, Fault> {
        let begun = self.environment.now();
        let (midway, ahead) = (holding.midway.take(), holding.ahead.take());
        let first = async {
            match ahead {
                Some(page) => Ok(concerned(page, batch)),
                None => {
                    let after = midway.as_ref().map(|it| &it.after);
                    self.recipients(log, batch, after).await
                }
            }
        };
        let (frames, first) = try_join!(self.frames(log, holding, batch), first)?;
        let mut recipients = Some(first);
        let mut outcome = Outcome::default();
        let mut left = None;
        while let Some(Recipients { receivers, next }) = recipients {
            let sending = self.send_to(log, holding, &frames, &receivers, &mut outcome);
            // The next ones are read while these are sent to.
            let following = OptionFuture::from(
                next.as_ref()
                    .map(|it| self.recipients(log, batch, Some(it))),
            );
            let (sent, following) = join!(sending, following);
            if !sent? {
                return Ok(Sent::Lost);
            }
            if let Some(last) = next.filter(|_| impatient <= self.environment.now()) {
                left = Some(last);
                break;
            }
            recipients = following.transpose()?;
        }
        let took = self.since(begun);
        let Outcome {
            connections,
            received,
        } = outcome;
        self.environment
            .measure(Measure::Fanout { connections, took });
        for (recipient, sequence) in received {
            self.received(log, &recipient, sequence).await?;
        }
        Ok(left.map_or(Sent::All, Sent::Until))
    }

    /// A page of those whom a batch concerns, and where the next one begins.
    async fn recipients(
        &self,
        log: &LogId,
        batch: &[LogEntry],
        after: Option<&SubscriberId>,
    ) -> Result<Recipients, Fault> {
        let page = match log {
            LogId::Channel(channel) => self.store.receivers(channel, after, RECIPIENTS).await?,
            LogId::Direct { low, high, .. } => {
                let both = [low, high].map(|id| Receiver {
                    subscriber: id.clone(),
                    joined: 1,
                    left: None,
                });
                Page {
                    items: both.into(),
                    more: false,
                }
            }
        };
        Ok(concerned(page, batch))
    }

    /// Sends to all connections of `receivers`; false if the lease was lost on the way.
    async fn send_to(
        &self,
        log: &LogId,
        holding: &mut Holding,
        frames: &[Frame],
        receivers: &[Receiver],
        outcome: &mut Outcome,
    ) -> Result<bool, Fault> {
        // Once around, unless the lease runs short, which is then renewed, or posts were throttled: whose were, come again after
        // all others. As long as that gets any of them further it is the account's rate; once it does not, they read too slowly.
        let until = holding.no_post_after();
        let all = self.connections_of(log, receivers);
        let mut left = self.send_until(until, all, frames, outcome).await?;
        let last_try = self.environment.now().plus(AGAIN);
        let mut in_vain = 0;
        while !left.is_empty() {
            if holding.no_post_after() <= self.environment.now()
                && !self.renew(log, holding).await?
            {
                return Ok(false);
            }
            if in_vain >= THROTTLED || last_try <= self.environment.now() {
                let throttled: Vec<_> = left.extract_if(.., |it| it.throttled > 0).collect();
                outcome.connections += throttled.len();
                self.hold_all_back(throttled, frames).await?;
            }
            let until = holding.no_post_after();
            let before = progress(&left);
            let rest = stream::iter(left).map(Ok);
            left = self.send_until(until, rest, frames, outcome).await?;
            in_vain = if progress(&left) == before {
                in_vain + 1
            } else {
                0
            };
        }
        Ok(true)
    }

    /// Has what is left for connections wait behind gates.
    async fn hold_all_back(
        &self,
        throttled: Vec<Reached<'_>>,
        frames: &[Frame],
    ) -> Result<(), Fault> {
        let until = self.environment.now();
        stream::iter(throttled)
            .map(Ok)
            .try_for_each_concurrent(AT_ONCE, |it| async move {
                let items = items_for(frames, it.receiver, &it.target.id, until);
                let rest = items.get(it.done..).unwrap_or_default();
                let held_back = self.hold_back(&it.target, rest).await;
                self.unless_corrupt(&it.target, held_back).await.map(drop)
            })
            .await
    }

    /// One connection's entry must not keep a whole log: it is dropped, and comes back with a new one.
    async fn unless_corrupt<T>(
        &self,
        target: &Target,
        result: Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        match result {
            Err(Fault::Corrupt(what)) => {
                tracing::error!(%what, connection = %target.id, "cannot be pushed to; dropped");
                self.drop_target(target).await?;
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    /// The connections of `receivers`, each as soon as it is read.
    fn connections_of<'a>(
        &'a self,
        log: &'a LogId,
        receivers: &'a [Receiver],
    ) -> impl Stream<Item = Result<Reached<'a>, Fault>> {
        // Of one size: after a full one and a rest of one, everything would wait for the full one.
        let groups = receivers.len().div_ceil(GROUP).max(1);
        let size = receivers.len().div_ceil(groups).max(1);
        stream::iter(receivers.chunks(size))
            .map(move |group| self.connections_of_group(log, group))
            .buffered(GROUPS_AT_ONCE)
            .map_ok(|group| stream::iter(group).map(Ok))
            .try_flatten()
    }

    async fn connections_of_group<'a>(
        &self,
        log: &LogId,
        receivers: &'a [Receiver],
    ) -> Result<Vec<Reached<'a>>, Fault> {
        let subscribers: Vec<Subscriber> = receivers
            .iter()
            .map(|it| Subscriber {
                domain: log.domain().clone(),
                id: it.subscriber.clone(),
            })
            .collect();
        let read_at = self.environment.now();
        let mut connections = self.store.connections_of(&subscribers).await?;
        let mut group = Vec::new();
        for (receiver, subscriber) in receivers.iter().zip(subscribers) {
            for (id, connection) in connections.remove(&subscriber).unwrap_or_default() {
                let target = Target {
                    subscriber: subscriber.clone(),
                    id,
                    connection,
                    read_at,
                };
                group.push(Reached {
                    target,
                    receiver,
                    done: 0,
                    throttled: 0,
                });
            }
        }
        Ok(group)
    }

    /// Sends to connections as far as it comes until then; those for which something is left.
    async fn send_until<'a>(
        &self,
        until: Timestamp,
        connections: impl Stream<Item = Result<Reached<'a>, Fault>>,
        frames: &[Frame],
        outcome: &mut Outcome,
    ) -> Result<Vec<Reached<'a>>, Fault> {
        let mut sent = pin!(
            connections
                .map(|it| Box::pin(async move { self.push_left(it?, frames, until).await }))
                .buffer_unordered(AT_ONCE)
        );
        let mut left = Vec::new();
        let mut failed = None;
        while let Some(result) = sent.next().await {
            let further = match result {
                Ok(further) => further,
                // The others get theirs; the lease is then not given back, and who takes over tells everybody.
                Err(fault) => {
                    failed = Some(fault);
                    continue;
                }
            };
            if let Some(sequence) = further.received {
                let recipient = further.reached.receiver.subscriber.clone();
                let newest = outcome.received.entry(recipient).or_insert(0);
                *newest = sequence.max(*newest);
            }
            if further.is_left {
                left.push(further.reached);
            } else {
                outcome.connections += 1;
            }
        }
        failed.map_or(Ok(left), Err)
    }

    /// Pushes what is left for one connection, as far as it comes until then.
    async fn push_left<'a>(
        &self,
        mut reached: Reached<'a>,
        frames: &[Frame],
        until: Timestamp,
    ) -> Result<Further<'a>, Fault> {
        let Reached {
            target,
            receiver,
            done,
            throttled,
        } = &mut reached;
        let items = items_for(frames, receiver, &target.id, until);
        let items = items.get(*done..).unwrap_or_default();
        let pushed = self.push(target, items, Some(until)).await;
        let Some(pushed) = self.unless_corrupt(target, pushed).await? else {
            return Ok(Further {
                is_left: false,
                received: None,
                reached,
            });
        };
        let received = newest_from_peer(items, pushed.delivered, frames, target);
        *done += pushed.done;
        if pushed.done > 0 {
            *throttled = 0;
        }
        if pushed.is_throttled {
            // Before the next takes its place: so the whole fan-out slows down.
            let pause = backoff(*throttled + 3, target.id.as_str());
            self.environment.sleep(pause).await;
            *throttled += 1;
        }
        Ok(Further {
            is_left: pushed.done < items.len(),
            received,
            reached,
        })
    }
}

/// How many are left, and how much of the batch they have: it changes with every item that is done.
fn progress(left: &[Reached<'_>]) -> (usize, usize) {
    (left.len(), left.iter().map(|it| it.done).sum())
}

/// Those of a page whom a batch concerns, and where the next page begins.
fn concerned(page: Page<Receiver>, batch: &[LogEntry]) -> Recipients {
    let Page { items, more } = page;
    let next = items
        .last()
        .filter(|_| more)
        .map(|it| it.subscriber.clone());
    let concerned = |it: &Receiver| batch.iter().any(|entry| it.receives(entry.event.sequence));
    Recipients {
        receivers: items.into_iter().filter(concerned).collect(),
        next,
    }
}
