//! Receipts: a connection of the recipient was handed a direct message, so the sender may get `received`.
//!
//! Pushing and releasing return receipts as data. [`Notifier`](super::notifier::Notifier) delivers them.

use std::collections::BTreeMap;

use protocol::{LogId, SubscriberId};

use crate::ports::Reference;

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

    /// Removes and returns one of them: the conversation, the recipient, and the highest sequence.
    pub(super) fn pop(&mut self) -> Option<(LogId, SubscriberId, u64)> {
        let ((log, recipient), sequence) = self.0.pop_first()?;
        Some((log, recipient, sequence))
    }
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
