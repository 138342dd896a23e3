//! Notices that are pushed once and are no events: read cursors, typing, invitations.

use std::collections::BTreeSet;

use protocol::{
    ChannelKey, ConnectionId, LogId, MessageId, ServerMessage, Subscriber, decision::ReadCursor,
    limits, server_message::TypingDestination,
};

use super::{
    notifier::Notifier,
    post::{Item, Sender},
    receipts::Receipts,
};
use crate::{
    Store,
    ports::{Environment, Fault, Pushes, Reference, Workers},
};

/// Pages of entries that are read at most to find the message at a read cursor.
const LOOK_BACK: usize = 10;

impl<S: Store, G: Pushes, W: Workers, E: Environment> Notifier<'_, S, G, W, E> {
    /// Moves a read cursor forward. Returns false if it was there or further already.
    pub(crate) async fn raise(
        &self,
        subscriber: &Subscriber,
        cursor: &ReadCursor,
    ) -> Result<bool, Fault> {
        let ReadCursor {
            log,
            status,
            sequence,
        } = cursor;
        let store = self.ports.store;
        match log {
            LogId::Channel(channel) => {
                store
                    .raise_read_cursor(channel, &subscriber.id, *status, *sequence)
                    .await
            }
            LogId::Direct { .. } => {
                store
                    .raise_direct_read_cursor(log, &subscriber.id, *status, *sequence)
                    .await
            }
        }
    }

    /// Pushes a moved read cursor to the reader's other connections, and in a conversation to the peer.
    pub(crate) async fn publish_read_cursor(
        &self,
        reader: &Subscriber,
        origin: &ConnectionId,
        cursor: &ReadCursor,
    ) -> Result<(), Fault> {
        let ReadCursor {
            log,
            status,
            sequence,
        } = cursor;
        let Some(message_id) = self.message_at(log, *sequence, reader).await? else {
            return Ok(());
        };
        let timestamp = self.ports.environment.now();
        let reference = Reference::Delivery {
            log: log.clone(),
            message_id: message_id.clone(),
            sequence: *sequence,
            status: *status,
            timestamp,
        };
        let mut receivers = vec![reader.clone()];
        if let LogId::Direct { domain, low, high } = log {
            let peer = if *low == reader.id { high } else { low };
            receivers.push(domain.subscriber(peer.clone()));
        }
        let mut receipts = Receipts::default();
        for subscriber in &receivers {
            let frame = ServerMessage::Delivery {
                message_id: message_id.clone(),
                status: *status,
                destination: log.destination_for(&subscriber.id),
                sequence: *sequence,
                timestamp,
                duplicate: false,
            };
            let pushed = self
                .push_to_all(subscriber, &frame.encode(None), &reference, Some(origin))
                .await?;
            receipts.merge(pushed);
        }
        self.deliver(receipts).await
    }

    /// Returns the message at `sequence` of a log, or the last one before it. In a conversation, prefers a message that
    /// `reader` did not write, if there is one among the last hundred entries.
    ///
    /// # Cost
    /// One read unit for each 4 KiB of up to a hundred entries. As much again if all of them are of other kinds, at most ten
    /// times.
    async fn message_at(
        &self,
        log: &LogId,
        sequence: u64,
        reader: &Subscriber,
    ) -> Result<Option<MessageId>, Fault> {
        let mut before = sequence + 1;
        for _ in 0..LOOK_BACK {
            let slice = self
                .ports
                .store
                .entries_before(log, before, limits::PAGE)
                .await?;
            let messages = slice
                .entries
                .iter()
                .rev()
                .filter_map(|entry| entry.event.message());
            let by_peer = messages
                .clone()
                .find(|(_, from)| matches!(log, LogId::Channel(_)) || **from != reader.id);
            if let Some((message_id, _)) = by_peer.or_else(|| messages.clone().next()) {
                return Ok(Some(message_id.clone()));
            }
            match slice.entries.first() {
                Some(first) => before = first.event.sequence,
                None => break,
            }
        }
        Ok(None)
    }

    /// Pushes to the other subscribers of a log that `typist` types or stopped. In a channel above the presence limit
    /// it is not pushed. It is never parked, because it expires by itself.
    pub(crate) async fn publish_typing(
        &self,
        typist: &Subscriber,
        log: &LogId,
        active: bool,
    ) -> Result<(), Fault> {
        let mut others = match log {
            LogId::Channel(channel) => self.members_if_few(channel).await?,
            LogId::Direct { domain, low, high } => {
                [low, high].map(|id| domain.subscriber(id.clone())).into()
            }
        };
        others.remove(typist);
        let frame = ServerMessage::Typing {
            destination: TypingDestination {
                channel_id: match log {
                    LogId::Channel(channel) => Some(channel.id.clone()),
                    LogId::Direct { .. } => None,
                },
                subscriber_id: typist.id.clone(),
            },
            active,
        }
        .encode(None);
        let item = Item {
            frame: &frame,
            reference: None,
        };
        let others: Vec<Subscriber> = others.into_iter().collect();
        let targets = self.targets_of(&others, usize::MAX).await?;
        // A lost typing notice is no fault. Its receipts count all the same.
        let (receipts, _) = self.push_to_targets(&targets, &item).await;
        self.deliver(receipts).await
    }

    /// Pushes an invitation to every connection of the invited subscriber. Returns false if it is not pending any more.
    pub(crate) async fn publish_invitation(
        &self,
        subscriber: &Subscriber,
        log: &LogId,
    ) -> Result<bool, Fault> {
        let frame = Sender::of(self.ports)
            .invitation_frame(subscriber, log)
            .await?;
        let Some(frame) = frame else {
            return Ok(false);
        };
        let reference = Reference::Invitation { log: log.clone() };
        let receipts = self
            .push_to_all(subscriber, &frame, &reference, None)
            .await?;
        self.deliver(receipts).await?;
        Ok(true)
    }

    /// Returns the members of a channel that is small enough for presence and typing. Otherwise returns an empty set.
    async fn members_if_few(&self, channel: &ChannelKey) -> Result<BTreeSet<Subscriber>, Fault> {
        let roster = self.ports.store.roster(channel).await?;
        if roster.is_some_and(|roster| roster.members <= limits::PRESENCE_MEMBERS) {
            self.members(channel).await
        } else {
            Ok(BTreeSet::new())
        }
    }
}
