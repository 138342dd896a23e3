//! What goes out: the events of a batch as frames, and which of them are for whom.

use std::collections::BTreeSet;

use protocol::{
    ConnectionId, LogId, ServerMessage, SubscriberId, Timestamp, change::LogEntry,
    frame::PushedEvent,
};

use crate::{
    Service, Store,
    drain::Holding,
    ports::{Environment, Fault, Pushes, Receiver, Reference, Workers},
    push::{Item, Target},
};

/// An event as it goes out.
pub(super) struct Frame {
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

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// The frames of a batch: each is encoded once for all receivers of a channel, once for each side of a conversation.
    pub(super) async fn frames(
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
                    // One for all that stand side by side: they say the same.
                    match frames.last_mut() {
                        Some(last) if !last.is_event && last.side == side => {
                            last.sequence = sequence
                        }
                        _ => frames.push(resync(sequence, sequence)),
                    }
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
                    from: entry.event.message().map(|(_, from)| from.clone()),
                });
            }
        }
        Ok(frames)
    }
}

/// What of `frames` is for this connection, to be pushed until then.
pub(super) fn items_for<'a>(
    frames: &'a [Frame],
    receiver: &Receiver,
    id: &ConnectionId,
    until: Timestamp,
) -> Vec<Item<'a>> {
    frames
        .iter()
        .filter(|it| {
            it.side
                .as_ref()
                .is_none_or(|side| *side == receiver.subscriber)
        })
        .filter(|it| (it.first..=it.sequence).any(|sequence| receiver.receives(sequence)))
        .filter(|it| it.origin.as_ref() != Some(id))
        .map(|it| Item {
            frame: &it.text,
            reference: Some(it.reference(until)),
        })
        .collect()
}

/// The last message of the peer that this connection of a conversation was handed.
pub(super) fn newest_from_peer(
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
