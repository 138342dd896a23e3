//! Telling others how a subscriber is seen.

use std::collections::BTreeSet;

use core::time::Duration;

use futures::try_join;
use protocol::{
    ChannelKey, ConnectionId, LogId, ServerMessage, Subscriber, digest::sha256_hex, limits,
    model::Presence,
};

use crate::{
    LEASE, Service, Store,
    ports::{Environment, Fault, PresenceState, Pushes, Reference, Told, Workers},
    push::{Item, Target},
};

/// How long a reconnect may take without anybody being told.
const GRACE: Duration = Duration::from_secs(3);
/// Connections at most that are told.
const REACH: usize = 1_000;

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Tells others how `subscriber` is seen, if that changed, once to each connection. One function at a time does so;
    /// if it dies, its lease ends and the job's repeat tells again.
    pub(crate) async fn tell_presence(
        &self,
        subscriber: &Subscriber,
        grace: bool,
    ) -> Result<(), Fault> {
        if grace {
            self.environment.sleep(GRACE).await;
        }
        let holder = self.environment.fresh_id();
        loop {
            let now = self.environment.now();
            let Some(state) = self
                .store
                .lease_presence(subscriber, &holder, now, now.plus(LEASE))
                .await?
            else {
                return Ok(());
            };
            let told = self.tell(subscriber, &state).await?;
            if self
                .store
                .release_presence(subscriber, &holder, state.version, told.as_ref())
                .await?
            {
                return Ok(());
            }
        }
    }

    /// Tells `state` unless it looks the same to others as what they were told before; what they then know.
    async fn tell(
        &self,
        subscriber: &Subscriber,
        state: &PresenceState,
    ) -> Result<Option<Told>, Fault> {
        let presence = Presence::of(&subscriber.id, state.effective());
        let digest =
            |it: &Presence| sha256_hex(serde_json::to_string(it).unwrap_or_default().as_bytes());
        let before = state.told.clone().unwrap_or_else(|| Told {
            digest: digest(&Presence::of(&subscriber.id, None)),
            version: 0,
        });
        let now = digest(&presence);
        if now == before.digest {
            return Ok(state.told.clone());
        }
        let told = Told {
            digest: now,
            version: before.version + 1,
        };
        let frame = ServerMessage::Presence {
            subscriber: presence,
            version: told.version,
        }
        .encode(None);
        let reference = Reference::Presence {
            subscriber: subscriber.clone(),
        };
        self.push_to_reach(subscriber, &frame, &reference).await?;
        Ok(Some(told))
    }

    async fn push_to_reach(
        &self,
        subscriber: &Subscriber,
        frame: &str,
        reference: &Reference,
    ) -> Result<(), Fault> {
        let reach: Vec<Subscriber> = self.reach(subscriber).await?.into_iter().collect();
        let mut reached = 0;
        for some in reach.chunks(limits::PAGE) {
            if reached >= REACH {
                break;
            }
            let read_at = self.environment.now();
            let connections = self.store.connections_of(some).await?;
            let targets: Vec<Target> = connections
                .into_iter()
                .flat_map(|(subscriber, connections)| {
                    connections
                        .into_iter()
                        .map(move |(id, connection): (ConnectionId, _)| Target {
                            subscriber: subscriber.clone(),
                            id,
                            connection,
                            read_at,
                        })
                })
                .take(REACH - reached)
                .collect();
            reached += targets.len();
            let item = [Item {
                frame,
                reference: Some(reference.clone()),
            }];
            let pushes = targets.iter().map(|target| self.push(target, &item, None));
            // A presence that does not arrive is replaced by the next one; the others get theirs.
            for failed in futures::future::join_all(pushes)
                .await
                .into_iter()
                .filter_map(Result::err)
            {
                tracing::warn!(fault = %failed, "a presence was not pushed");
            }
        }
        Ok(())
    }

    /// Who is told: members of the subscriber's channels that are small enough, and its conversations' peers.
    async fn reach(&self, subscriber: &Subscriber) -> Result<BTreeSet<Subscriber>, Fault> {
        let mut reach = BTreeSet::new();
        let in_domain = |id| Subscriber {
            domain: subscriber.domain.clone(),
            id,
        };
        let mut after = None;
        loop {
            let page = self
                .store
                .memberships(subscriber, after.as_ref(), limits::PAGE)
                .await?;
            after = page.items.last().cloned();
            let channels: Vec<ChannelKey> = page
                .items
                .into_iter()
                .map(|id| ChannelKey {
                    domain: subscriber.domain.clone(),
                    id,
                })
                .collect();
            for (channel, roster) in self.store.rosters(&channels).await? {
                if roster.members <= limits::PRESENCE_MEMBERS {
                    self.members_into(&channel, &mut reach).await?;
                }
            }
            if !page.more || reach.len() >= REACH {
                break;
            }
        }
        let mut after = None;
        loop {
            let page = self
                .store
                .conversations(subscriber, after.as_ref(), limits::PAGE)
                .await?;
            after = page.items.last().cloned();
            reach.extend(page.items.into_iter().map(in_domain));
            if !page.more || reach.len() >= REACH {
                break;
            }
        }
        reach.remove(subscriber);
        Ok(reach)
    }

    /// Adds the members of a channel.
    pub(crate) async fn members_into(
        &self,
        channel: &ChannelKey,
        reach: &mut BTreeSet<Subscriber>,
    ) -> Result<(), Fault> {
        let mut after = None;
        loop {
            let page = self
                .store
                .receivers(channel, after.as_ref(), limits::PAGE)
                .await?;
            after = page.items.last().map(|it| it.subscriber.clone());
            reach.extend(
                page.items
                    .into_iter()
                    .filter(|it| it.is_current())
                    .map(|it| Subscriber {
                        domain: channel.domain.clone(),
                        id: it.subscriber,
                    }),
            );
            if !page.more {
                return Ok(());
            }
        }
    }

    /// The invitation to a channel, as long as it is pending.
    pub(crate) async fn invitation_frame(
        &self,
        subscriber: &Subscriber,
        log: &LogId,
    ) -> Result<Option<String>, Fault> {
        let LogId::Channel(channel) = log else {
            return Ok(None);
        };
        let (invitation, profile, roster) = try_join!(
            self.store.invitation(subscriber, &channel.id),
            self.store.profile(channel),
            self.store.roster(channel),
        )?;
        // An invitation outlives its channel.
        let (Some(invitation), Some(profile), true) =
            (invitation, profile, roster.is_some_and(|it| it.open))
        else {
            return Ok(None);
        };
        Ok(Some(
            ServerMessage::Invitation {
                channel_id: channel.id.clone(),
                name: profile.name,
                invite_token: None,
                administrator: false,
                attributes: profile.attributes,
                from: invitation.from,
            }
            .encode(None),
        ))
    }
}
