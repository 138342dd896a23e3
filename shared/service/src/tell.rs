//! What is told once and never stored as an event: horizons and typing.

use std::collections::BTreeSet;

use protocol::{
    ChannelKey, ConnectionId, LogId, MessageId, ServerMessage, Subscriber, decide::Horizon,
    frame::TypingDestination, limits,
};

use crate::{
    Service, Store,
    ports::{Environment, Fault, Pushes, Reference, Workers},
    push::{Item, Target},
};

/// Pages at most that are read for a message.
const LOOK_BACK: usize = 10;

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Moves a horizon forward; whether it moved. A lower one changes nothing.
    pub(crate) async fn raise(
        &self,
        subscriber: &Subscriber,
        horizon: &Horizon,
    ) -> Result<bool, Fault> {
        let Horizon {
            log,
            status,
            sequence,
        } = horizon;
        match log {
            LogId::Channel(channel) => {
                self.store
                    .raise_horizon(channel, &subscriber.id, *status, *sequence)
                    .await
            }
            LogId::Direct { .. } => {
                self.store
                    .raise_direct_horizon(log, &subscriber.id, *status, *sequence)
                    .await
            }
        }
    }

    /// Tells that a horizon moved: the reader's other connections, and in a conversation the peer.
    pub(crate) async fn tell_horizon(
        &self,
        reader: &Subscriber,
        origin: &ConnectionId,
        horizon: &Horizon,
    ) -> Result<(), Fault> {
        let Horizon {
            log,
            status,
            sequence,
        } = horizon;
        let Some(message_id) = self.message_at(log, *sequence, reader).await? else {
            return Ok(());
        };
        let timestamp = self.environment.now();
        let reference = Reference::Delivery {
            log: log.clone(),
            message_id: message_id.clone(),
            sequence: *sequence,
            status: *status,
            timestamp,
        };
        let mut told = vec![reader.clone()];
        if let LogId::Direct { domain, low, high } = log {
            told.push(Subscriber {
                domain: domain.clone(),
                id: if *low == reader.id { high } else { low }.clone(),
            });
        }
        for subscriber in &told {
            let frame = ServerMessage::Delivery {
                message_id: message_id.clone(),
                status: *status,
                destination: log.destination_for(&subscriber.id),
                sequence: *sequence,
                timestamp,
                duplicate: false,
            };
            self.push_to_all(subscriber, &frame.encode(None), &reference, Some(origin))
                .await?;
        }
        Ok(())
    }

    /// The message at `sequence` of a log, or the last before it; of a conversation one that `reader` read and did not write
    /// if there is one among the last hundred entries.
    ///
    /// # Cost
    /// One read unit for each 4 KiB of up to a hundred entries; as much again where all of them are of other kinds, at most
    /// ten times.
    async fn message_at(
        &self,
        log: &LogId,
        sequence: u64,
        reader: &Subscriber,
    ) -> Result<Option<MessageId>, Fault> {
        let mut before = sequence + 1;
        for _ in 0..LOOK_BACK {
            let slice = self.store.entries_before(log, before, limits::PAGE).await?;
            let messages = slice
                .entries
                .iter()
                .rev()
                .filter_map(|it| it.event.message());
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

    /// Tells the others of a log that `typist` types, or stopped. In a channel of more than the presence limit nobody is
    /// told. It is dropped where it would have to wait: it expires by itself.
    pub(crate) async fn tell_typing(
        &self,
        typist: &Subscriber,
        log: &LogId,
        active: bool,
    ) -> Result<(), Fault> {
        let mut others = match log {
            LogId::Channel(channel) => self.small_channel(channel).await?,
            LogId::Direct { domain, low, high } => [low, high]
                .map(|id| Subscriber {
                    domain: domain.clone(),
                    id: id.clone(),
                })
                .into(),
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
        let item = [Item {
            frame: &frame,
            reference: None,
        }];
        let others: Vec<Subscriber> = others.into_iter().collect();
        let read_at = self.environment.now();
        let connections = self.store.connections_of(&others).await?;
        let targets: Vec<Target> = connections
            .into_iter()
            .flat_map(|(subscriber, connections)| {
                connections.into_iter().map(move |(id, connection)| Target {
                    subscriber: subscriber.clone(),
                    id,
                    connection,
                    read_at,
                })
            })
            .collect();
        let pushes = targets
            .iter()
            .map(|target| Box::pin(self.push(target, &item, None)));
        // Nothing is lost with it.
        let _ = futures::future::join_all(pushes).await;
        Ok(())
    }

    /// The members of a channel that is small enough for its members to be told of each other.
    async fn small_channel(&self, channel: &ChannelKey) -> Result<BTreeSet<Subscriber>, Fault> {
        let roster = self.store.roster(channel).await?;
        let mut members = BTreeSet::new();
        if roster.is_some_and(|it| it.members <= limits::PRESENCE_MEMBERS) {
            self.members_into(channel, &mut members).await?;
        }
        Ok(members)
    }
}
