//! The frames of a batch, and which connection gets which of them.

use std::collections::BTreeSet;

use protocol::{
    ConnectionId, LogId, ServerMessage, SubscriberId, Timestamp,
    change::LogEntry,
    wire_event::{PushedEvent, WireEvent},
};

use super::{
    lease::HeldLease,
    post::{Item, Target},
};
use crate::ports::{Receiver, Reference};

/// A frame for some receivers of a log.
pub(super) struct Frame {
    /// The side of a conversation that gets it. `None` for all members of a channel.
    side: Option<SubscriberId>,
    /// The first event that it stands for.
    first: u64,
    /// The last one.
    sequence: u64,
    text: String,
    log: LogId,
    /// True if it is the event itself, false if it is a `resync`.
    is_event: bool,
    /// The connection that caused the event and does not get it.
    origin: Option<ConnectionId>,
    /// The sender, if it is a message.
    from: Option<SubscriberId>,
}

impl Frame {
    /// Returns what is parked in place of the frame. No other function pushes the log before `until`.
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

/// Returns the frames of a batch, whose events on the wire are `wire`. Each is encoded once for all members of a channel, or
/// once for each side of a conversation.
pub(super) fn frames(
    log: &LogId,
    held: &HeldLease,
    batch: &[LogEntry],
    wire: &[WireEvent],
) -> Vec<Frame> {
    let end = batch.last().map_or(held.sent, |entry| entry.event.sequence);
    let doubtful = batch
        .iter()
        .filter(|entry| entry.event.sequence <= held.doubtful)
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
        // Events that another function may have pushed.
        if let (Some(first), Some(last)) =
            (batch.first(), batch.get(..doubtful).and_then(<[_]>::last))
        {
            frames.push(resync(first.event.sequence, last.event.sequence));
        }
        for (entry, event) in batch.iter().zip(wire).skip(doubtful) {
            let sequence = entry.event.sequence;
            let Some(pushed) = PushedEvent::new(destination.clone(), event.clone()) else {
                // Void events that stand side by side share one `resync`.
                match frames.last_mut() {
                    Some(last) if !last.is_event && last.side == side => last.sequence = sequence,
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
    frames
}

/// Returns the frames for one connection, to be pushed before `until`.
pub(super) fn items_for<'a>(
    frames: &'a [Frame],
    receiver: &Receiver,
    id: &ConnectionId,
    until: Timestamp,
) -> Vec<Item<'a>> {
    frames
        .iter()
        .filter(|frame| {
            frame
                .side
                .as_ref()
                .is_none_or(|side| *side == receiver.subscriber)
        })
        .filter(|frame| (frame.first..=frame.sequence).any(|sequence| receiver.receives(sequence)))
        .filter(|frame| frame.origin.as_ref() != Some(id))
        .map(|frame| Item {
            frame: &frame.text,
            reference: Some(frame.reference(until)),
        })
        .collect()
}

/// Returns the last message of the peer that this connection of a conversation was handed, with the conversation.
pub(super) fn newest_from_peer<'a>(
    items: &[Item<'_>],
    delivered: Option<usize>,
    frames: &'a [Frame],
    target: &Target,
) -> Option<(&'a LogId, u64)> {
    let handed: BTreeSet<u64> = items
        .get(..=delivered?)?
        .iter()
        .filter_map(|item| match item.reference {
            Some(Reference::Event { sequence, .. }) => Some(sequence),
            _ => None,
        })
        .collect();
    let recipient = &target.key.subscriber.id;
    frames
        .iter()
        .filter(|frame| frame.side.is_some() && handed.contains(&frame.sequence))
        .filter(|frame| frame.from.as_ref().is_some_and(|from| from != recipient))
        .max_by_key(|frame| frame.sequence)
        .map(|frame| (&frame.log, frame.sequence))
}
