//! Announcements.

use std::collections::BTreeMap;

use protocol::{Announcement, ConnectionKey, Subscriber, Timestamp};
use service::ports::{Fault, Gone, PresenceState, Presences, PublishedPresence};

use super::Memory;

impl Presences for Memory {
    async fn presence(&self, subscriber: &Subscriber) -> Result<PresenceState, Fault> {
        self.read("presence", |state, _| {
            let person = state.person(subscriber);
            person
                .map(|it| it.presence.state.clone())
                .unwrap_or_default()
        })
        .await
    }

    async fn presences(
        &self,
        subscribers: &[Subscriber],
    ) -> Result<BTreeMap<Subscriber, PresenceState>, Fault> {
        let found = self.batch("presences", subscribers, |state, _, subscriber| {
            let presence = &state.person(subscriber)?.presence.state;
            (presence.version > 0).then(|| presence.clone())
        });
        Ok(found.await?.into_iter().collect())
    }

    async fn announce(
        &self,
        key: &ConnectionKey,
        announcement: &Announcement,
    ) -> Result<Result<u64, Gone>, Fault> {
        self.write("announce", |state, _| {
            let person = state.person_mut(&key.subscriber);
            let entry = person.connections.get_mut(&key.id).ok_or(Gone)?;
            entry.announced = true;
            let presence = &mut person.presence.state;
            presence
                .announcements
                .insert(key.id.clone(), announcement.clone());
            presence.version += 1;
            Ok(presence.version)
        })
        .await
    }

    async fn unannounce(&self, key: &ConnectionKey) -> Result<Result<Option<u64>, Gone>, Fault> {
        self.write("unannounce", |state, _| {
            let person = state.person_mut(&key.subscriber);
            let entry = person.connections.get_mut(&key.id).ok_or(Gone)?;
            entry.announced = false;
            let presence = &mut person.presence.state;
            if presence.announcements.remove(&key.id).is_none() {
                return Ok(None);
            }
            presence.version += 1;
            Ok(Some(presence.version))
        })
        .await
    }

    async fn lease_presence(
        &self,
        subscriber: &Subscriber,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<PresenceState>, Fault> {
        self.write("lease_presence", |state, _| {
            let presence = &mut state.person_mut(subscriber).presence;
            let held = presence
                .lease
                .as_ref()
                .is_some_and(|(_, until)| now < *until);
            if held || presence.state.version <= presence.state.pushed {
                return None;
            }
            presence.lease = Some((holder.to_owned(), until));
            Some(presence.state.clone())
        })
        .await
    }

    async fn release_presence(
        &self,
        subscriber: &Subscriber,
        holder: &str,
        version: u64,
        published: Option<&PublishedPresence>,
    ) -> Result<bool, Fault> {
        self.write("release_presence", |state, _| {
            let presence = &mut state.person_mut(subscriber).presence;
            if presence.lease.as_ref().is_some_and(|(it, _)| it == holder) {
                presence.lease = None;
                presence.state.pushed = version;
                if let Some(published) = published {
                    presence.state.published = Some(published.clone());
                }
            }
            presence.state.version == version
        })
        .await
    }
}
