//! Sending a batch of a log's events to everybody whom it concerns: each frame encoded once, connections at once, one
//! connection's frames one after the other.

mod frames;

use core::{cell::Cell, pin::pin, time::Duration};
use std::collections::BTreeMap;

use futures::{Stream, StreamExt as _, TryStreamExt as _, future::OptionFuture, join, stream};
use protocol::{LogId, Subscriber, SubscriberId, Timestamp, change::LogEntry};

use crate::{
    Service, Store,
    drain::Holding,
    ports::{Environment, Fault, Measure, Page, Pushes, Receiver, Workers},
    push::{Pace, Target},
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

/// Posts at most that the events of a batch are to one page of receivers: some ten seconds of a handler, which may be in its
/// third by then and has to end within 29. More of a batch would cost less to read for, but who is stopped by force leaves
/// everybody in doubt.
const POSTS: usize = 16_000;

/// How long what is throttled of a page is tried again, from its beginning: a function has to live on for as long after its
/// patience is at an end.
const AGAIN: Duration = Duration::from_secs(5);

/// Some of those whom a batch concerns, and where the next ones begin.
struct Recipients {
    receivers: Vec<Receiver>,
    next: Option<SubscriberId>,
}

/// What became of a batch.
pub(crate) enum Sent {
    /// Everybody whom it concerns has had it, up to this event.
    All(u64),
    /// The lease was lost on the way.
    Lost,
    /// There is no time for more: everybody up to this one has had it.
    Until {
        /// The batch's last event.
        through: u64,
        /// The last receiver who has had it.
        after: SubscriberId,
    },
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
    /// page of them once it is `impatient`. Of a large channel only as much of the batch as a page can be sent in time.
    pub(crate) async fn send(
        &self,
        log: &LogId,
        holding: &mut Holding,
        batch: &[LogEntry],
        impatient: Timestamp,
    ) -> Result<Sent, Fault> {
        let begun = self.environment.now();
        let (midway, ahead) = (holding.midway.take(), holding.ahead.take());
        let first = match ahead {
            Some(page) => concerned(page, batch),
            None => {
                let after = midway.as_ref().map(|it| &it.after);
                self.recipients(log, batch, after).await?
            }
        };
        let batch = match POSTS.checked_div(first.receivers.len()) {
            // What another began is sent as that one cut it.
            Some(most) if midway.is_none() => batch.get(..most.max(1)).unwrap_or(batch),
            _ => batch,
        };
        let Some(through) = batch.last().map(|it| it.event.sequence) else {
            return Ok(Sent::All(holding.sent));
        };
        let frames = self.frames(log, holding, batch).await?;
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
        Ok(match left {
            Some(after) => Sent::Until { through, after },
            None => Sent::All(through),
        })
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
        // Once around, unless the lease runs short: then it is renewed and those that are left come next.
        let mut pace = Pace {
            until: holding.no_post_after(),
            last_try: self.environment.now().plus(AGAIN),
            taken: Cell::new(0),
        };
        let all = self.connections_of(log, receivers);
        let mut left = self.send_until(&pace, all, frames, outcome).await?;
        while !left.is_empty() {
            if !self.renew(log, holding).await? {
                return Ok(false);
            }
            pace.until = holding.no_post_after();
            let rest = stream::iter(left).map(Ok);
            left = self.send_until(&pace, rest, frames, outcome).await?;
        }
        Ok(true)
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
                });
            }
        }
        Ok(group)
    }

    /// Sends to connections as far as the pace lets it; those for which something is left.
    async fn send_until<'a>(
        &self,
        pace: &Pace,
        connections: impl Stream<Item = Result<Reached<'a>, Fault>>,
        frames: &[Frame],
        outcome: &mut Outcome,
    ) -> Result<Vec<Reached<'a>>, Fault> {
        let mut sent = pin!(
            connections
                .map(|it| Box::pin(async move { self.push_left(it?, frames, pace).await }))
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

    /// Pushes what is left for one connection, as far as the pace lets it.
    async fn push_left<'a>(
        &self,
        mut reached: Reached<'a>,
        frames: &[Frame],
        pace: &Pace,
    ) -> Result<Further<'a>, Fault> {
        let Reached {
            target,
            receiver,
            done,
        } = &mut reached;
        let items = items_for(frames, receiver, &target.id, pace.until);
        let items = items.get(*done..).unwrap_or_default();
        let pushed = match self.push(target, items, Some(pace)).await {
            // One connection's entry must not keep a whole log: it comes back with a new one.
            Err(Fault::Corrupt(what)) => {
                tracing::error!(%what, connection = %target.id, "cannot be pushed to; dropped");
                self.drop_target(target).await?;
                return Ok(Further {
                    is_left: false,
                    received: None,
                    reached,
                });
            }
            pushed => pushed?,
        };
        let received = newest_from_peer(items, pushed.delivered, frames, target);
        *done += pushed.done;
        Ok(Further {
            is_left: pushed.done < items.len(),
            received,
            reached,
        })
    }
}

/// Those of a page whom a batch concerns, and where the next page begins.
fn concerned(page: Page<Receiver>, batch: &[LogEntry]) -> Recipients {
    let next = page.next().map(|it| it.subscriber.clone());
    let concerned = |it: &Receiver| batch.iter().any(|entry| it.receives(entry.event.sequence));
    Recipients {
        receivers: page.items.into_iter().filter(concerned).collect(),
        next,
    }
}
