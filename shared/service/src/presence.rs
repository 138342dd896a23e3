//! Publishing a subscriber's presence to those who may see it.

use core::time::Duration;
use std::{collections::BTreeSet, pin::pin};

use futures::TryStreamExt as _;
use protocol::{
    ChannelKey, ServerMessage, Subscriber, digest::sha256_hex, limits, model::Presence,
};

use crate::{
    Store,
    delivery::{notifier::Notifier, post::Item},
    pages::pages,
    parts::part,
    ports::{Environment, Fault, PresenceState, PublishedPresence, Pushes, Reference, Workers},
    timing::LEASE,
};

/// A reconnect within this time after a connection's end is not published.
const GRACE: Duration = Duration::from_secs(3);
/// Connections that are sent a presence at most.
const REACH: usize = 1_000;

part! {
    /// Publishes presence.
    PresencePublisher
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> PresencePublisher<'_, S, G, W, E> {
    /// Publishes the presence of `subscriber` if it changed, once to each connection. With `grace`, waits for a reconnect first.
    ///
    /// One function at a time does this. If it dies, its lease ends, and the repeat of its job publishes again.
    pub(crate) async fn publish(&self, subscriber: &Subscriber, grace: bool) -> Result<(), Fault> {
        let (store, environment) = (self.ports.store, self.ports.environment);
        if grace {
            environment.sleep(GRACE).await;
        }
        let holder = environment.fresh_id();
        loop {
            let now = environment.now();
            let leased = store.lease_presence(subscriber, &holder, now, now.plus(LEASE));
            let Some(state) = leased.await? else {
                return Ok(());
            };
            let published = self.publish_state(subscriber, &state).await?;
            let is_newest = store
                .release_presence(subscriber, &holder, state.version, published.as_ref())
                .await?;
            if is_newest {
                return Ok(());
            }
        }
    }

    /// Publishes `state`, unless it looks the same to others as the last published presence. Returns what is published by then.
    async fn publish_state(
        &self,
        subscriber: &Subscriber,
        state: &PresenceState,
    ) -> Result<Option<PublishedPresence>, Fault> {
        let presence = Presence::of(&subscriber.id, state.effective());
        let digest = |presence: &Presence| {
            let text = serde_json::to_string(presence).unwrap_or_default();
            sha256_hex(text.as_bytes())
        };
        let before = state
            .published
            .clone()
            .unwrap_or_else(|| PublishedPresence {
                digest: digest(&Presence::of(&subscriber.id, None)),
                version: 0,
            });
        let now = digest(&presence);
        if now == before.digest {
            return Ok(state.published.clone());
        }
        let published = PublishedPresence {
            digest: now,
            version: before.version + 1,
        };
        let frame = ServerMessage::Presence {
            subscriber: presence,
            version: published.version,
        }
        .encode(None);
        self.push_to_reach(subscriber, &frame).await?;
        Ok(Some(published))
    }

    async fn push_to_reach(&self, subscriber: &Subscriber, frame: &str) -> Result<(), Fault> {
        let notifier = Notifier::of(self.ports);
        let item = Item {
            frame,
            reference: Some(Reference::Presence {
                subscriber: subscriber.clone(),
            }),
        };
        let reach: Vec<Subscriber> = self.reach(subscriber).await?.into_iter().collect();
        let mut reached = 0;
        for some in reach.chunks(limits::PAGE) {
            if reached >= REACH {
                break;
            }
            let targets = notifier.targets_of(some, REACH - reached).await?;
            reached += targets.len();
            let (receipts, faults) = notifier.push_to_targets(&targets, &item).await;
            // A lost presence is replaced by the next one. The push to the other connections goes on.
            for fault in faults {
                tracing::warn!(%fault, "presence push failed");
            }
            notifier.deliver(receipts).await?;
        }
        Ok(())
    }

    /// Returns who may see the presence: members of the subscriber's channels that are small enough, and the peers of its
    /// conversations.
    async fn reach(&self, subscriber: &Subscriber) -> Result<BTreeSet<Subscriber>, Fault> {
        let (store, domain) = (self.ports.store, &subscriber.domain);
        let notifier = Notifier::of(self.ports);
        let mut reach = BTreeSet::new();
        let mut memberships = pin!(pages(
            |after| async move {
                store
                    .memberships(subscriber, after.as_ref(), limits::PAGE)
                    .await
            },
            Clone::clone,
        ));
        while let Some(page) = memberships.try_next().await? {
            let channels: Vec<ChannelKey> = page.into_iter().map(|id| domain.channel(id)).collect();
            for (channel, roster) in store.rosters(&channels).await? {
                if roster.members <= limits::PRESENCE_MEMBERS {
                    reach.extend(notifier.members(&channel).await?);
                }
            }
            if reach.len() >= REACH {
                break;
            }
        }
        let mut conversations = pin!(pages(
            |after| async move {
                store
                    .conversations(subscriber, after.as_ref(), limits::PAGE)
                    .await
            },
            Clone::clone,
        ));
        while let Some(page) = conversations.try_next().await? {
            reach.extend(page.into_iter().map(|id| domain.subscriber(id)));
            if reach.len() >= REACH {
                break;
            }
        }
        reach.remove(subscriber);
        Ok(reach)
    }
}
