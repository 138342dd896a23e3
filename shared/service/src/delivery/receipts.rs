//! Receipts: a connection of the recipient was handed a direct message, so the sender may get `received`.
//!
//! Pushing and releasing return receipts as data. Delivering one is a push itself, which may release what was parked for the
//! sender's connection, and so bring further receipts. [`Notifier::deliver`] works them off in a loop. The loop ends because
//! each receipt moves a read cursor forward, and a cursor never passes the end of its log.

use std::collections::BTreeMap;

use protocol::{
    ConnectionId, DeliveryStatus, LogId, MessageId, ServerMessage, Subscriber, SubscriberId,
    change::LogEntry, limits,
};

use super::{post::Target, push::Item};
use crate::{
    Store,
    parts::part,
    ports::{Environment, Fault, Pushes, Reference, Workers},
};

part! {
    /// Pushes what is no event of a log: receipts, read cursors, typing, presence.
    Notifier
}

/// How far recipients were handed direct messages: the highest sequence of each conversation and recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "the senders of the messages wait for `received`"]
pub(crate) struct Receipts(BTreeMap<(LogId, SubscriberId), u64>);

impl Receipts {
    /// Notes that `recipient` was handed the conversation up to `sequence`.
    pub(crate) fn note(&mut self, log: &LogId, recipient: &SubscriberId, sequence: u64) {
        let newest = self.0.entry((log.clone(), recipient.clone())).or_insert(0);
        *newest = sequence.max(*newest);
    }

    /// Notes that the frame of `reference` was posted. Only messages of a direct conversation bring a receipt.
    pub(crate) fn note_posted(&mut self, recipient: &SubscriberId, reference: &Reference) {
        if let Reference::Event {
            log: log @ LogId::Direct { .. },
            sequence,
            ..
        } = reference
        {
            self.note(log, recipient, *sequence);
        }
    }

    /// Adds the receipts of another push.
    pub(crate) fn merge(&mut self, other: Self) {
        for ((log, recipient), sequence) in other.0 {
            self.note(&log, &recipient, sequence);
        }
    }
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Notifier<'_, S, G, W, E> {
    /// Pushes `received` to the senders of the messages that `receipts` names.
    pub(crate) async fn deliver(&self, mut receipts: Receipts) -> Result<(), Fault> {
        while let Some(((log, recipient), sequence)) = receipts.0.pop_first() {
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

#[cfg(test)]
mod tests {
    use protocol::{Domain, Timestamp};

    use super::*;

    #[test]
    fn receipts_keep_highest_sequence_per_recipient() {
        let domain = Domain::parse("d").unwrap();
        let [ann, bob] = ["ann", "bob"].map(|id| SubscriberId::parse(id).unwrap());
        let log = LogId::direct(&domain.subscriber(ann.clone()), &bob);
        let event = |sequence| Reference::Event {
            log: log.clone(),
            sequence,
            until: Timestamp::from_millis(0),
        };
        let (mut receipts, mut further) = (Receipts::default(), Receipts::default());
        receipts.note_posted(&bob, &event(7));
        receipts.note_posted(&bob, &event(5));
        receipts.note_posted(&bob, &Reference::Resync { log: log.clone() });
        further.note_posted(&bob, &event(9));
        further.note_posted(&ann, &event(2));
        receipts.merge(further);
        let expected = [((log.clone(), ann), 2), ((log.clone(), bob), 9)];
        assert_eq!(receipts, Receipts(expected.into()));
    }
}
