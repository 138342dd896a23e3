//! `received`: the service handed a direct message to a connection of its recipient.

use protocol::{
    ConnectionId, DeliveryStatus, LogId, MessageId, ServerMessage, Subscriber, SubscriberId,
    change::LogEntry, limits,
};

use crate::{
    Service, Store,
    ports::{Environment, Fault, Pushes, Reference, Workers},
    push::{Item, Target},
};

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Notes that `recipient` was handed the conversation up to `sequence`, and tells the sender if that is news. Only
    /// messages count that the peer wrote.
    ///
    /// The horizon is stored first: if this dies after it, the sender is not told this status, but never told it twice.
    pub(crate) async fn received(
        &self,
        log: &LogId,
        recipient: &SubscriberId,
        sequence: u64,
    ) -> Result<(), Fault> {
        let LogId::Direct { domain, low, high } = log else {
            return Ok(());
        };
        let sender = if low == recipient { high } else { low };
        let known = self
            .store
            .head(log)
            .await?
            .and_then(|head| head.horizons.get(recipient).map(|it| it.received))
            .unwrap_or(0);
        if sequence <= known {
            return Ok(());
        }
        let slice = self
            .store
            .entries_before(log, sequence + 1, limits::PAGE)
            .await?;
        let Some((message_id, sequence)) = last_message(&slice.entries, sender) else {
            return Ok(());
        };
        let moved = self
            .store
            .raise_direct_horizon(log, recipient, DeliveryStatus::Received, sequence)
            .await?;
        if !moved {
            return Ok(());
        }
        let reference = Reference::Delivery {
            log: log.clone(),
            message_id: message_id.clone(),
            sequence,
            status: DeliveryStatus::Received,
            timestamp: self.environment.now(),
        };
        let sender = Subscriber {
            domain: domain.clone(),
            id: sender.clone(),
        };
        let frame = ServerMessage::Delivery {
            message_id,
            status: DeliveryStatus::Received,
            destination: log.destination_for(&sender.id),
            sequence,
            timestamp: self.environment.now(),
            duplicate: false,
        }
        .encode(None);
        self.push_to_all(&sender, &frame, &reference, None).await
    }

    /// If `reference` is a message of the peer, its being posted means that it was received.
    pub(crate) async fn note_received(
        &self,
        target: &Target,
        reference: &Reference,
    ) -> Result<(), Fault> {
        match reference {
            Reference::Event {
                log: log @ LogId::Direct { .. },
                sequence,
                ..
            } => self.received(log, &target.subscriber.id, *sequence).await,
            _ => Ok(()),
        }
    }

    /// Pushes one frame to every connection of a subscriber but `origin`, all at once.
    pub(crate) async fn push_to_all(
        &self,
        subscriber: &Subscriber,
        frame: &str,
        reference: &Reference,
        origin: Option<&ConnectionId>,
    ) -> Result<(), Fault> {
        let read_at = self.environment.now();
        let mut connections = self.store.connections(subscriber).await?;
        if let Some(origin) = origin {
            connections.remove(origin);
        }
        let item = [Item {
            frame,
            reference: Some(reference.clone()),
        }];
        let pushes = connections.into_iter().map(|(id, connection)| {
            let target = Target {
                subscriber: subscriber.clone(),
                id,
                connection,
                read_at,
            };
            let item = &item;
            // Boxed: a push may take over what waits, which may be a message, whose sender is then pushed to.
            async move { Box::pin(self.push(&target, item, None)).await }
        });
        // All of them to their ends: one that fails must not break off the others half-way.
        let pushed = futures::future::join_all(pushes).await;
        pushed.into_iter().try_for_each(|it| it.map(drop))
    }
}

/// The last message that `sender` wrote.
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
