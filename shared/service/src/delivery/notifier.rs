//! Pushing frames that are no events of a log to the connections of subscribers, and delivering receipts.
//!
//! Delivering a receipt is a push itself, which may release what was parked for the sender's connection, and so bring further
//! receipts. [`Notifier::deliver`] works them off in a loop. The loop ends because each receipt moves a read cursor forward, and
//! a cursor never passes the end of its log.

use std::collections::BTreeSet;

use protocol::{
    ChannelKey, ConnectionId, DeliveryStatus, LogId, MessageId, ServerMessage, Subscriber,
    SubscriberId, change::LogEntry, limits,
};

use super::{
    post::{Item, Sender, Target},
    push::Pushed,
    receipts::Receipts,
};
use crate::{
    Store, pages,
    parts::part,
    ports::{Environment, Fault, Pushes, Reference, Workers},
};

part! {
    /// Pushes what is no event of a log: receipts, read cursors, typing, presence.
    Notifier
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Notifier<'_, S, G, W, E> {
    /// Pushes `received` to the senders of the messages that `receipts` names.
    pub(crate) async fn deliver(&self, mut receipts: Receipts) -> Result<(), Fault> {
        while let Some((log, recipient, sequence)) = receipts.pop() {
            let further = self.received(&log, &recipient, sequence).await?;
            receipts.merge(further);
        }
        Ok(())
    }

    /// Notes that `recipient` was handed the conversation up to `sequence`, and pushes that to the sender if it is new. Only
    /// messages that the peer wrote count.
    ///
    /// The cursor is stored first. If the function dies after that, the sender does not get this status. It never gets one
    /// twice.
    async fn received(
        &self,
        log: &LogId,
        recipient: &SubscriberId,
        sequence: u64,
    ) -> Result<Receipts, Fault> {
        let nothing_new = Receipts::default();
        let LogId::Direct { domain, low, high } = log else {
            return Ok(nothing_new);
        };
        let store = self.ports.store;
        let sender = if low == recipient { high } else { low };
        let known = store
            .head(log)
            .await?
            .and_then(|head| head.read_cursors.get(recipient).map(|it| it.received))
            .unwrap_or(0);
        if sequence <= known {
            return Ok(nothing_new);
        }
        let slice = store
            .entries_before(log, sequence + 1, limits::PAGE)
            .await?;
        let Some((message_id, sequence)) = last_message(&slice.entries, sender) else {
            return Ok(nothing_new);
        };
        let status = DeliveryStatus::Received;
        let moved = store
            .raise_direct_read_cursor(log, recipient, status, sequence)
            .await?;
        if !moved {
            return Ok(nothing_new);
        }
        let timestamp = self.ports.environment.now();
        let reference = Reference::Delivery {
            log: log.clone(),
            message_id: message_id.clone(),
            sequence,
            status,
            timestamp,
        };
        let sender = domain.subscriber(sender.clone());
        let frame = ServerMessage::Delivery {
            message_id,
            status,
            destination: log.destination_for(&sender.id),
            sequence,
            timestamp,
            duplicate: false,
        }
        .encode(None);
        self.push_to_all(&sender, &frame, &reference, None).await
    }

    /// Pushes a frame to every connection of a subscriber but `origin`, to all at the same time.
    pub(super) async fn push_to_all(
        &self,
        subscriber: &Subscriber,
        frame: &str,
        reference: &Reference,
        origin: Option<&ConnectionId>,
    ) -> Result<Receipts, Fault> {
        let read_at = self.ports.environment.now();
        let mut connections = self.ports.store.connections(subscriber).await?;
        if let Some(origin) = origin {
            connections.remove(origin);
        }
        let item = Item {
            frame,
            reference: Some(reference.clone()),
        };
        let targets: Vec<Target> = connections
            .into_iter()
            .map(|(id, connection)| Target {
                key: subscriber.connection(id),
                connection,
                read_at,
            })
            .collect();
        // Each push runs to its end: one that fails must not break off the others half-way.
        let (receipts, faults) = self.push_to_targets(&targets, &item).await;
        match faults.into_iter().next() {
            Some(fault) => Err(fault),
            None => Ok(receipts),
        }
    }

    /// Reads the connections of `subscribers`, at most `limit` of them.
    pub(crate) async fn targets_of(
        &self,
        subscribers: &[Subscriber],
        limit: usize,
    ) -> Result<Vec<Target>, Fault> {
        let read_at = self.ports.environment.now();
        let connections = self.ports.store.connections_of(subscribers).await?;
        Ok(connections
            .into_iter()
            .flat_map(|(subscriber, connections)| {
                connections.into_iter().map(move |(id, connection)| Target {
                    key: subscriber.connection(id),
                    connection,
                    read_at,
                })
            })
            .take(limit)
            .collect())
    }

    /// Pushes one item to many connections at the same time. Returns the receipts and the faults.
    pub(crate) async fn push_to_targets(
        &self,
        targets: &[Target],
        item: &Item<'_>,
    ) -> (Receipts, Vec<Fault>) {
        let sender = Sender::of(self.ports);
        let items = std::slice::from_ref(item);
        let pushes = targets
            .iter()
            .map(|target| Box::pin(sender.push(target, items, None)));
        let (mut receipts, mut faults) = (Receipts::default(), Vec::new());
        for pushed in futures::future::join_all(pushes).await {
            match pushed {
                Ok(Pushed { receipts: more, .. }) => receipts.merge(more),
                Err(fault) => faults.push(fault),
            }
        }
        (receipts, faults)
    }

    /// Returns the current members of a channel.
    pub(crate) async fn members(
        &self,
        channel: &ChannelKey,
    ) -> Result<BTreeSet<Subscriber>, Fault> {
        let store = self.ports.store;
        let receivers = pages::all(
            |after| async move { store.receivers(channel, after.as_ref(), limits::PAGE).await },
            |receiver| receiver.subscriber.clone(),
        )
        .await?;
        Ok(receivers
            .into_iter()
            .filter(|receiver| receiver.is_current())
            .map(|receiver| channel.domain.subscriber(receiver.subscriber))
            .collect())
    }
}

/// Returns the last message that `sender` wrote.
fn last_message(entries: &[LogEntry], sender: &SubscriberId) -> Option<(MessageId, u64)> {
    entries
        .iter()
        .rev()
        .find_map(|entry| match entry.event.message() {
            Some((message_id, from)) if from == sender => {
                Some((message_id.clone(), entry.event.sequence))
            }
            _ => None,
        })
}
