//! Sending a batch of a log's events to every subscriber that it concerns. Each frame is encoded once. Connections are sent to
//! at the same time, the frames of one connection one after the other.

use core::{cell::Cell, pin::pin, time::Duration};

use futures::{Stream, StreamExt as _, TryStreamExt as _, future::OptionFuture, join, stream};
use protocol::{LogId, Subscriber, SubscriberId, Timestamp, change::LogEntry};

use super::{
    frames::{Frame, frames, items_for, newest_from_peer},
    lease::{HeldLease, LogPusher},
    post::{Sender, Target},
    push::Pace,
    receipts::Receipts,
};
use crate::{
    Store,
    log::history::LogReader,
    ports::{Environment, Fault, Measure, Midway, Page, Pushes, Receiver, Workers},
};

/// Connections that are posted to at the same time.
const AT_ONCE: usize = 64;

/// Receivers that are read together: one query of about 100 KB.
const RECIPIENTS: usize = 1_000;

/// Receivers whose connections are read together, in one batch. The first ones are sent to while the next are read.
const GROUP: usize = 100;

/// Groups that are read at the same time.
const GROUPS_AT_ONCE: usize = 4;

/// Posts that the events of a batch are to one page of receivers at most. They take a handler some ten seconds. It may be in its
/// third second by then, and has to end within 29. A larger part of a batch would save reads, but a function that is stopped by
/// force leaves every receiver with a `resync`.
const POSTS: usize = 16_000;

/// How long throttled posts to a page are repeated, from the page's beginning. A function has to live on for this long after its
/// patience has ended.
const RETRIES: Duration = Duration::from_secs(5);

/// A page of the receivers of a batch.
struct Recipients {
    receivers: Vec<Receiver>,
    /// Where the next page begins.
    next: Option<SubscriberId>,
}

/// The result of sending a batch.
pub(crate) enum Sent {
    /// Every receiver has it, up to the event `through`.
    All { through: u64, receipts: Receipts },
    /// Another function holds the lease by now.
    Lost,
    /// There is no time for more pages of receivers.
    Until { midway: Midway, receipts: Receipts },
}

/// What was sent so far.
#[derive(Default)]
struct Progress {
    connections: usize,
    receipts: Receipts,
}

/// A connection of a receiver, and how many of its items are done.
struct Reached<'a> {
    target: Target,
    receiver: &'a Receiver,
    done: usize,
}

/// How far the push to one connection came.
struct PushedTo<'a> {
    reached: Reached<'a>,
    is_left: bool,
    receipts: Receipts,
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> LogPusher<'_, S, G, W, E> {
    /// Sends a batch to every receiver. If another invocation began the batch, sends it to the receivers that it left. Begins no
    /// further page of receivers after `impatient`. In a large channel, sends only as much of the batch as one page can get in
    /// time.
    pub(super) async fn send(
        &self,
        log: &LogId,
        held: &mut HeldLease,
        batch: &[LogEntry],
        impatient: Timestamp,
    ) -> Result<Sent, Fault> {
        let begun = self.ports.environment.now();
        let (midway, ahead) = (held.midway.take(), held.ahead.take());
        let first = match ahead {
            Some(page) => concerned(page, batch),
            None => {
                let after = midway.as_ref().map(|midway| &midway.after);
                self.recipients(log, batch, after).await?
            }
        };
        let batch = match POSTS.checked_div(first.receivers.len()) {
            // A batch that another invocation began keeps its end.
            Some(most) if midway.is_none() => batch.get(..most.max(1)).unwrap_or(batch),
            _ => batch,
        };
        let Some(through) = batch.last().map(|entry| entry.event.sequence) else {
            return Ok(Sent::All {
                through: held.sent,
                receipts: Receipts::default(),
            });
        };
        let wire = LogReader::of(self.ports).on_the_wire(log, batch).await?;
        let frames = frames(log, held, batch, &wire);
        let mut recipients = Some(first);
        let mut progress = Progress::default();
        let mut left = None;
        while let Some(Recipients { receivers, next }) = recipients {
            let sending = self.send_to(log, held, &frames, &receivers, &mut progress);
            // The next page is read while this one is sent to.
            let following = OptionFuture::from(
                next.as_ref()
                    .map(|after| self.recipients(log, batch, Some(after))),
            );
            let (is_held, following) = join!(sending, following);
            if !is_held? {
                return Ok(Sent::Lost);
            }
            if let Some(last) = next.filter(|_| impatient <= self.ports.environment.now()) {
                left = Some(last);
                break;
            }
            recipients = following.transpose()?;
        }
        let took = self.ports.since(begun);
        let Progress {
            connections,
            receipts,
        } = progress;
        self.ports
            .environment
            .measure(Measure::Fanout { connections, took });
        Ok(match left {
            Some(after) => Sent::Until {
                midway: Midway {
                    through,
                    after,
                    doubtful: held.doubtful,
                },
                receipts,
            },
            None => Sent::All { through, receipts },
        })
    }

    /// Reads a page of the receivers of a batch.
    async fn recipients(
        &self,
        log: &LogId,
        batch: &[LogEntry],
        after: Option<&SubscriberId>,
    ) -> Result<Recipients, Fault> {
        let page = match log {
            LogId::Channel(channel) => {
                let store = self.ports.store;
                store.receivers(channel, after, RECIPIENTS).await?
            }
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

    /// Sends to all connections of `receivers`. Returns false if another function holds the lease by now.
    async fn send_to(
        &self,
        log: &LogId,
        held: &mut HeldLease,
        frames: &[Frame],
        receivers: &[Receiver],
        progress: &mut Progress,
    ) -> Result<bool, Fault> {
        let mut pace = Pace {
            until: held.no_post_after(),
            last_retry: self.ports.environment.now().plus(RETRIES),
            taken: Cell::new(0),
        };
        let all = self.connections_of(log, receivers);
        let mut left = self.send_until(&pace, all, frames, progress).await?;
        // Connections are left if the lease runs short. It is renewed, and they come next.
        while !left.is_empty() {
            if !self.renew(log, held).await? {
                return Ok(false);
            }
            pace.until = held.no_post_after();
            let rest = stream::iter(left).map(Ok);
            left = self.send_until(&pace, rest, frames, progress).await?;
        }
        Ok(true)
    }

    /// Returns the connections of `receivers`, each as soon as it is read.
    fn connections_of<'a>(
        &'a self,
        log: &'a LogId,
        receivers: &'a [Receiver],
    ) -> impl Stream<Item = Result<Reached<'a>, Fault>> {
        // Groups of one size: with a full group and a rest of one, everything would wait for the full one.
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
            .map(|receiver| log.domain().subscriber(receiver.subscriber.clone()))
            .collect();
        let read_at = self.ports.environment.now();
        let mut connections = self.ports.store.connections_of(&subscribers).await?;
        let mut group = Vec::new();
        for (receiver, subscriber) in receivers.iter().zip(subscribers) {
            for (id, connection) in connections.remove(&subscriber).unwrap_or_default() {
                let target = Target {
                    key: subscriber.connection(id),
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

    /// Sends to connections as far as the pace allows. Returns those for which items are left.
    async fn send_until<'a>(
        &self,
        pace: &Pace,
        connections: impl Stream<Item = Result<Reached<'a>, Fault>>,
        frames: &[Frame],
        progress: &mut Progress,
    ) -> Result<Vec<Reached<'a>>, Fault> {
        let mut sent = pin!(
            connections
                .map(|reached| {
                    Box::pin(async move { self.push_left(reached?, frames, pace).await })
                })
                .buffer_unordered(AT_ONCE)
        );
        let mut left = Vec::new();
        let mut failed = None;
        while let Some(result) = sent.next().await {
            let pushed = match result {
                Ok(pushed) => pushed,
                // The other connections get their items. The lease is then not given back, and the function that takes it
                // over posts a `resync` to every receiver.
                Err(fault) => {
                    failed = Some(fault);
                    continue;
                }
            };
            progress.receipts.merge(pushed.receipts);
            if pushed.is_left {
                left.push(pushed.reached);
            } else {
                progress.connections += 1;
            }
        }
        failed.map_or(Ok(left), Err)
    }

    /// Pushes the items that are left for one connection, as far as the pace allows.
    async fn push_left<'a>(
        &self,
        mut reached: Reached<'a>,
        frames: &[Frame],
        pace: &Pace,
    ) -> Result<PushedTo<'a>, Fault> {
        let Reached {
            target,
            receiver,
            done,
        } = &mut reached;
        let items = items_for(frames, receiver, &target.key.id, pace.until);
        let items = items.get(*done..).unwrap_or_default();
        let sender = Sender::of(self.ports);
        let pushed = match sender.push(target, items, Some(pace)).await {
            // One corrupt connection must not keep the log from all others. Its client connects again.
            Err(Fault::Corrupt(what)) => {
                tracing::error!(%what, connection = %target.key.id, "connection closed: its item is corrupt");
                sender.close(target).await?;
                return Ok(PushedTo {
                    is_left: false,
                    receipts: Receipts::default(),
                    reached,
                });
            }
            pushed => pushed?,
        };
        let mut receipts = pushed.receipts;
        if let Some((log, sequence)) = newest_from_peer(items, pushed.delivered, frames, target) {
            receipts.note(log, &receiver.subscriber, sequence);
        }
        *done += pushed.done;
        Ok(PushedTo {
            is_left: pushed.done < items.len(),
            receipts,
            reached,
        })
    }
}

/// Returns the receivers of a page that a batch concerns, and where the next page begins.
fn concerned(page: Page<Receiver>, batch: &[LogEntry]) -> Recipients {
    let next = page.next().map(|receiver| receiver.subscriber.clone());
    let is_concerned = |receiver: &Receiver| {
        batch
            .iter()
            .any(|entry| receiver.receives(entry.event.sequence))
    };
    Recipients {
        receivers: page.items.into_iter().filter(is_concerned).collect(),
        next,
    }
}
