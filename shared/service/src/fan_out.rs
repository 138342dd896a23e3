//! Sending a batch of a log's events to everybody whom it concerns: each frame encoded once, connections at once, one
//! connection's frames one after the other.

use core::pin::pin;
use std::collections::{BTreeMap, BTreeSet};

use futures::{
    Stream, StreamExt as _, TryStreamExt as _, future::OptionFuture, join, stream, try_join,
};
use protocol::{
    ConnectionId, EventBody, LogId, ServerMessage, Subscriber, SubscriberId, Timestamp,
    change::LogEntry, frame::PushedEvent,
};

use crate::{
    Service, Store,
    drain::Holding,
    ports::{Environment, Fault, Measure, Page, Pushes, Receiver, Reference, Workers},
    push::{Item, Target},
};

/// Connections that are posted to at once.
const AT_ONCE: usize = 64;

/// Receivers that are read together: one query of about 100 KB.
const RECIPIENTS: usize = 1_000;

/// Receivers whose connections are read together, in one batch; the first ones are sent to while the next are read.
const GROUP: usize = 100;

/// Groups that are read at once.
const GROUPS_AT_ONCE: usize = 4;

/// Some of those whom a batch concerns, and where the next ones begin.
struct Recipients {
    members: Vec<Receiver>,
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
    member: &'a Receiver,
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
        while let Some(Recipients { members, next }) = recipients {
            let sending = self.send_to(log, holding, &frames, &members, &mut outcome);
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

    /// Sends to all connections of `members`; false if the lease was lost on the way.
    async fn send_to(
        &self,
        log: &LogId,
        holding: &mut Holding,
        frames: &[Frame],
        members: &[Receiver],
        outcome: &mut Outcome,
    ) -> Result<bool, Fault> {
        // Once around, unless the lease runs short: then it is renewed and those that are left come next.
        let until = holding.no_post_after();
        let all = self.connections_of(log, members);
        let mut left = self.send_until(until, all, frames, outcome).await?;
        while !left.is_empty() {
            if !self.renew(log, holding).await? {
                return Ok(false);
            }
            let until = holding.no_post_after();
            let rest = stream::iter(left).map(Ok);
            left = self.send_until(until, rest, frames, outcome).await?;
        }
        Ok(true)
    }

    /// The connections of `members`, each as soon as it is read.
    fn connections_of<'a>(
        &'a self,
        log: &'a LogId,
        members: &'a [Receiver],
    ) -> impl Stream<Item = Result<Reached<'a>, Fault>> {
        stream::iter(members.chunks(GROUP))
            .map(move |group| self.connections_of_group(log, group))
            .buffered(GROUPS_AT_ONCE)
            .map_ok(|group| stream::iter(group).map(Ok))
            .try_flatten()
    }

    async fn connections_of_group<'a>(
        &self,
        log: &LogId,
        members: &'a [Receiver],
    ) -> Result<Vec<Reached<'a>>, Fault> {
        let subscribers: Vec<Subscriber> = members
            .iter()
            .map(|it| Subscriber {
                domain: log.domain().clone(),
                id: it.subscriber.clone(),
            })
            .collect();
        let read_at = self.environment.now();
        let mut connections = self.store.connections_of(&subscribers).await?;
        let mut group = Vec::new();
        for (member, subscriber) in members.iter().zip(subscribers) {
            for (id, connection) in connections.remove(&subscriber).unwrap_or_default() {
                let target = Target {
                    subscriber: subscriber.clone(),
                    id,
                    connection,
                    read_at,
                };
                group.push(Reached {
                    target,
                    member,
                    done: 0,
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
                let recipient = further.reached.member.subscriber.clone();
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
            member,
            done,
        } = &mut reached;
        let items = items_for(frames, member, &target.id, until);
        let items = items.get(*done..).unwrap_or_default();
        let pushed = match self.push(target, items, Some(until)).await {
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

    /// The frames of a batch: each is encoded once for all receivers of a channel, once for each side of a conversation.
    async fn frames(
        &self,
        log: &LogId,
        holding: &Holding,
        batch: &[LogEntry],
    ) -> Result<Vec<Frame>, Fault> {
        let end = batch.last().map_or(holding.sent, |it| it.event.sequence);
        let wire = self.on_the_wire(log, batch).await?;
        let doubtful = batch
            .iter()
            .filter(|it| it.event.sequence <= holding.doubtful)
            .count();
        let mut frames = Vec::new();
        for (side, destination) in log.sides() {
            let resync = |first: u64, last: u64| Frame {
                side: side.clone(),
                first,
                sequence: last,
                text: ServerMessage::Resync {
                    destination: destination.clone(),
                    last_sequence: end,
                }
                .encode(None),
                log: log.clone(),
                is_event: false,
                origin: None,
                from: None,
            };
            if let (Some(first), Some(last)) =
                (batch.first(), batch.get(..doubtful).and_then(<[_]>::last))
            {
                frames.push(resync(first.event.sequence, last.event.sequence));
            }
            for (entry, event) in batch.iter().zip(&wire).skip(doubtful) {
                let sequence = entry.event.sequence;
                let Some(pushed) = PushedEvent::new(destination.clone(), event.clone()) else {
                    frames.push(resync(sequence, sequence));
                    continue;
                };
                frames.push(Frame {
                    side: side.clone(),
                    first: sequence,
                    sequence,
                    text: ServerMessage::Event(pushed).encode(None),
                    log: log.clone(),
                    is_event: true,
                    origin: entry.origin.clone(),
                    from: match &entry.event.body {
                        EventBody::Message { from, .. } => Some(from.clone()),
                        _ => None,
                    },
                });
            }
        }
        Ok(frames)
    }
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
        members: items.into_iter().filter(concerned).collect(),
        next,
    }
}

/// An event as it goes out.
struct Frame {
    /// For which side of a conversation; for all members of a channel.
    side: Option<SubscriberId>,
    /// The first event that it stands for.
    first: u64,
    /// The last one.
    sequence: u64,
    text: String,
    log: LogId,
    /// Whether it stands for its event; for a `resync` else.
    is_event: bool,
    origin: Option<ConnectionId>,
    from: Option<SubscriberId>,
}

impl Frame {
    /// What is parked instead; nobody else pushes the log until then.
    fn reference(&self, until: Timestamp) -> Reference {
        let (log, sequence) = (self.log.clone(), self.sequence);
        if self.is_event {
            Reference::Event {
                log,
                sequence,
                until,
            }
        } else {
            Reference::Resync { log }
        }
    }
}

/// What of `frames` is for this connection, to be pushed until then.
fn items_for<'a>(
    frames: &'a [Frame],
    member: &Receiver,
    id: &ConnectionId,
    until: Timestamp,
) -> Vec<Item<'a>> {
    frames
        .iter()
        .filter(|it| {
            it.side
                .as_ref()
                .is_none_or(|side| *side == member.subscriber)
        })
        .filter(|it| (it.first..=it.sequence).any(|sequence| member.receives(sequence)))
        .filter(|it| it.origin.as_ref() != Some(id))
        .map(|it| Item {
            frame: &it.text,
            reference: Some(it.reference(until)),
        })
        .collect()
}

/// The last message of the peer that this connection of a conversation was handed.
fn newest_from_peer(
    items: &[Item<'_>],
    delivered: Option<usize>,
    frames: &[Frame],
    target: &Target,
) -> Option<u64> {
    let handed = items.get(..=delivered?)?;
    let handed: BTreeSet<u64> = handed
        .iter()
        .filter_map(|it| match it.reference {
            Some(Reference::Event { sequence, .. }) => Some(sequence),
            _ => None,
        })
        .collect();
    frames
        .iter()
        .filter(|it| it.side.is_some() && handed.contains(&it.sequence))
        .filter(|it| {
            it.from
                .as_ref()
                .is_some_and(|from| *from != target.subscriber.id)
        })
        .map(|it| it.sequence)
        .max()
}
