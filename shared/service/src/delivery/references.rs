//! References: what is parked in place of a frame, and the frame that each stands for.

use std::collections::BTreeSet;

use futures::try_join;
use protocol::{
    Event, EventBody, LogId, ServerMessage, Subscriber, change::LogEntry, model::Presence,
    wire_event::PushedEvent,
};

use super::post::{Sender, Target};
use crate::{
    Store,
    log::history::LogReader,
    ports::{Environment, Fault, Outcome, Pushes, Reference, Workers},
};

impl<S: Store, G: Pushes, W: Workers, E: Environment> Sender<'_, S, G, W, E> {
    /// Returns the frame that a reference stands for now, or `None` if it stands for nothing any more.
    pub(super) async fn frame_of(
        &self,
        target: &Target,
        reference: &Reference,
    ) -> Result<Option<String>, Fault> {
        let subscriber = &target.key.subscriber;
        match reference {
            Reference::Resync { log } => self.resync_frame(target, log).await,
            Reference::Event { log, sequence, .. } => {
                self.event_frame(target, log, *sequence).await
            }
            Reference::Delivery {
                log,
                message_id,
                sequence,
                status,
                timestamp,
            } => {
                let delivery = ServerMessage::Delivery {
                    message_id: message_id.clone(),
                    status: *status,
                    destination: log.destination_for(&subscriber.id),
                    sequence: *sequence,
                    timestamp: *timestamp,
                    duplicate: false,
                };
                Ok(Some(delivery.encode(None)))
            }
            Reference::Presence { subscriber } => {
                let state = self.ports.store.presence(subscriber).await?;
                let presence = ServerMessage::Presence {
                    subscriber: Presence::of(&subscriber.id, state.effective()),
                    version: state.published.map_or(0, |published| published.version),
                };
                Ok(Some(presence.encode(None)))
            }
            Reference::Invitation { log } => self.invitation_frame(subscriber, log).await,
            Reference::TokenExpiring { at } => Ok((target.connection.ends_at == *at).then(|| {
                let token_expires_at = *at;
                ServerMessage::TokenExpiring { token_expires_at }.encode(None)
            })),
        }
    }

    async fn event_frame(
        &self,
        target: &Target,
        log: &LogId,
        sequence: u64,
    ) -> Result<Option<String>, Fault> {
        let entry = match self.ports.store.entry(log, sequence).await? {
            // A void event is not pushed, and an event past its time to live is gone.
            Some(LogEntry {
                event:
                    Event {
                        body: EventBody::Void,
                        ..
                    },
                ..
            })
            | None => return self.resync_frame(target, log).await,
            Some(entry) => entry,
        };
        let mut events = LogReader::of(self.ports)
            .on_the_wire(log, std::slice::from_ref(&entry))
            .await?;
        let destination = log.destination_for(&target.key.subscriber.id);
        Ok(events
            .pop()
            .and_then(|event| PushedEvent::new(destination, event))
            .map(|pushed| ServerMessage::Event(pushed).encode(None)))
    }

    /// After a post of unknown outcome: posts a `resync` for each log of `doubtful` instead of repeating the post. Returns true
    /// if the client got all of them.
    pub(crate) async fn resync(
        &self,
        target: &Target,
        doubtful: impl IntoIterator<Item = Reference>,
    ) -> Result<bool, Fault> {
        for reference in collapsed_to_resyncs(doubtful) {
            if let Reference::Resync { log } = reference
                && let Some(message) = self.resync_frame(target, &log).await?
                && self.post(target, &[&message]).await.outcome != Outcome::Delivered
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the `resync` frame of a log, or `None` if there is no such log.
    pub(super) async fn resync_frame(
        &self,
        target: &Target,
        log: &LogId,
    ) -> Result<Option<String>, Fault> {
        let Some(head) = self.ports.store.head(log).await? else {
            return Ok(None);
        };
        let message = ServerMessage::Resync {
            destination: log.destination_for(&target.key.subscriber.id),
            last_sequence: LogReader::of(self.ports).contiguous_end(log, &head).await?,
        };
        Ok(Some(message.encode(None)))
    }

    /// Returns the invitation to a channel as a frame, or `None` if it is not pending any more.
    pub(crate) async fn invitation_frame(
        &self,
        subscriber: &Subscriber,
        log: &LogId,
    ) -> Result<Option<String>, Fault> {
        let LogId::Channel(channel) = log else {
            return Ok(None);
        };
        let store = self.ports.store;
        let (invitation, profile, roster) = try_join!(
            store.invitation(subscriber, &channel.id),
            store.profile(channel),
            store.roster(channel),
        )?;
        // An invitation outlives its channel.
        let is_open = roster.is_some_and(|roster| roster.open);
        let (Some(invitation), Some(profile), true) = (invitation, profile, is_open) else {
            return Ok(None);
        };
        let invitation = ServerMessage::Invitation {
            channel_id: channel.id.clone(),
            name: profile.name,
            invite_token: None,
            administrator: false,
            attributes: profile.attributes,
            from: invitation.from,
        };
        Ok(Some(invitation.encode(None)))
    }
}

/// Replaces references to events by one `resync` for each log. The others stay as they are.
pub(super) fn collapsed_to_resyncs(
    references: impl IntoIterator<Item = Reference>,
) -> Vec<Reference> {
    let mut seen = BTreeSet::new();
    references
        .into_iter()
        .filter_map(|reference| match reference {
            Reference::Event { log, .. } | Reference::Resync { log } => seen
                .insert(log.clone())
                .then_some(Reference::Resync { log }),
            other => Some(other),
        })
        .collect()
}
