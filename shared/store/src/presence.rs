//! The announcements of a subscriber, and the lease to publish its presence. They are one item beside its connections.
//!
//! # Cost
//!
//! | pattern | requests | units |
//! |---|---|---|
//! | `presence` | GetItem | 1 read per 4 KiB |
//! | `presences` | BatchGetItem, 100 a request | 1 read each per 4 KiB |
//! | `announce` | UpdateItem | 1 write per KiB |
//! | `announce`, a connection's first | UpdateItem that fails, TransactWriteItems of 2 | 1 + 4 write |
//! | `unannounce` | GetItem, TransactWriteItems of 2 | 1 read, 4 write |
//! | `unannounce`, nothing to remove | 2 GetItem | 2 read |
//! | `lease_presence`, `release_presence` | UpdateItem | 1 write per KiB, also if the condition fails |

pub(crate) mod removal;

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use protocol::{Announcement, Availability, ConnectionId, ConnectionKey, Subscriber, Timestamp};
use serde::{Deserialize, Serialize};
use service::ports::{Connections as _, Fault, Gone, PresenceState, Presences, PublishedPresence};

use crate::{
    DynamoStore,
    client::Repeat,
    connections::item::update,
    items::{json, millis},
    keys::{Item, Key},
    requests::{TURNS, Written, decode, pause},
    write::{Write, map, number, text},
};

const WHAT: &str = "a presence";

#[derive(Default, Serialize, Deserialize)]
struct PresenceItem {
    #[serde(default)]
    announcements: BTreeMap<String, AnnouncementItem>,
    #[serde(default)]
    version: u64,
    #[serde(default)]
    pushed: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told: Option<ToldItem>,
}

#[derive(Serialize, Deserialize)]
struct ToldItem {
    digest: String,
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct AnnouncementItem {
    availability: Availability,
    status: String,
    /// The JSON text that the client sent.
    attributes: String,
    #[serde(with = "millis")]
    at: Timestamp,
}

impl Presences for DynamoStore {
    async fn presence(&self, subscriber: &Subscriber) -> Result<PresenceState, Fault> {
        let key = Key::presence(subscriber);
        let item: Option<PresenceItem> = self.get("presence", &key, WHAT).await?;
        item.unwrap_or_default().state()
    }

    async fn presences(
        &self,
        subscribers: &[Subscriber],
    ) -> Result<BTreeMap<Subscriber, PresenceState>, Fault> {
        let wanted = subscribers
            .iter()
            .map(|subscriber| (subscriber.clone(), Key::presence(subscriber)));
        let items = self.batch("presences", wanted).await?;
        items
            .into_iter()
            .map(|(subscriber, item)| Ok((subscriber, state(item)?)))
            .collect()
    }

    async fn announce(
        &self,
        key: &ConnectionKey,
        announcement: &Announcement,
    ) -> Result<Result<u64, Gone>, Fault> {
        let item = AnnouncementItem {
            availability: announcement.availability,
            status: announcement.status.clone(),
            attributes: announcement.attributes.as_str().to_owned(),
            at: announcement.at,
        };
        // Only a registered connection has an announcement. An existing announcement therefore shows that the connection
        // is registered.
        let again = Write::update(
            Key::presence(&key.subscriber),
            "SET #announcements.#id = :announcement ADD #version :one",
        )
        .when("attribute_exists(#announcements.#id)")
        .name("#id", key.id.as_str())
        .value(":announcement", map(&item)?)
        .value(":one", number(1));
        for turn in 1..=TURNS {
            let written = self
                .write("announce", &again, ReturnValue::AllNew, Repeat::Safe)
                .await?;
            let stood = match written {
                Written::Done(item) => return Ok(Ok(state(item)?.version)),
                Written::Stood(stood) => stood,
            };
            // The connection has no announcement yet: add the first and mark the connection in one transaction.
            let (write, version) = first(key, &item, stood)?;
            let mark = update(key, "SET #id.#announced = :true")
                .when("attribute_exists(#id)")
                .value(":true", AttributeValue::Bool(true));
            match self.transact("announce", &[mark, write]).await? {
                Ok(()) => return Ok(Ok(version)),
                Err(cancelled) if cancelled.stood(0).is_some() => return Ok(Err(Gone)),
                Err(_) => pause(turn).await,
            }
        }
        Err(Fault::Conflict)
    }

    async fn unannounce(&self, key: &ConnectionKey) -> Result<Result<Option<u64>, Gone>, Fault> {
        for turn in 1..=TURNS {
            let item_key = Key::presence(&key.subscriber);
            let item: Option<PresenceItem> = self.get("unannounce", &item_key, WHAT).await?;
            let item = item.unwrap_or_default();
            if !item.announcements.contains_key(key.id.as_str()) {
                let registered = self
                    .connections(&key.subscriber)
                    .await?
                    .contains_key(&key.id);
                return Ok(if registered { Ok(None) } else { Err(Gone) });
            }
            let unmark = update(key, "REMOVE #id.#announced").when("attribute_exists(#id)");
            let next = item.version.saturating_add(1);
            let write = Write::update(item_key, "REMOVE #announcements.#id SET #version = :next")
                .when("#version = :version AND attribute_exists(#announcements.#id)")
                .name("#id", key.id.as_str())
                .value(":version", number(item.version))
                .value(":next", number(next));
            match self.transact("unannounce", &[unmark, write]).await? {
                Ok(()) => return Ok(Ok(Some(next))),
                Err(_) => pause(turn).await,
            }
        }
        Err(Fault::Conflict)
    }

    async fn lease_presence(
        &self,
        subscriber: &Subscriber,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<PresenceState>, Fault> {
        let write = Write::update(
            Key::presence(subscriber),
            "SET #lease_holder = :holder, #lease_until = :until",
        )
        .when("#version > #pushed AND (attribute_not_exists(#lease_until) OR #lease_until <= :now)")
        .value(":holder", text(holder))
        .value(":until", number(until.millis()))
        .value(":now", number(now.millis()));
        // Never repeated: after a lost response the second attempt would report that another function has the lease.
        let written = self
            .write("lease_presence", &write, ReturnValue::AllNew, Repeat::Never)
            .await?;
        match written {
            Written::Done(item) => state(item).map(Some),
            Written::Stood(_) => Ok(None),
        }
    }

    async fn release_presence(
        &self,
        subscriber: &Subscriber,
        holder: &str,
        version: u64,
        published: Option<&PublishedPresence>,
    ) -> Result<bool, Fault> {
        let update = match published {
            Some(_) => "SET #pushed = :version, #told = :told REMOVE #lease_holder, #lease_until",
            None => "SET #pushed = :version REMOVE #lease_holder, #lease_until",
        };
        let mut write = Write::update(Key::presence(subscriber), update)
            .when("#lease_holder = :holder")
            .value(":holder", text(holder))
            .value(":version", number(version));
        if let Some(published) = published {
            let told = ToldItem {
                digest: published.digest.clone(),
                version: published.version,
            };
            write = write.value(":told", map(&told)?);
        }
        let written = self
            .write(
                "release_presence",
                &write,
                ReturnValue::AllNew,
                Repeat::Safe,
            )
            .await?;
        let newest = match written {
            Written::Done(item) | Written::Stood(Some(item)) => state(item)?.version,
            Written::Stood(None) => 0,
        };
        Ok(version >= newest)
    }
}

/// Returns the write of a connection's first announcement, and the version of the presence after it.
fn first(
    key: &ConnectionKey,
    item: &AnnouncementItem,
    stood: Option<Item>,
) -> Result<(Write, u64), Fault> {
    let item_key = Key::presence(&key.subscriber);
    let Some(stood) = stood else {
        let announcements = BTreeMap::from([(key.id.as_str(), item)]);
        let write = Write::update(
            item_key,
            "SET #announcements = :announcements, #version = :one, #pushed = :zero, #v = :one",
        )
        .when("attribute_not_exists(#version)")
        .value(":announcements", map(&announcements)?)
        .value(":one", number(1))
        .value(":zero", number(0));
        return Ok((write, 1));
    };
    let version = decode::<PresenceItem>(stood, WHAT)?.version;
    let next = version.saturating_add(1);
    let write = Write::update(
        item_key,
        "SET #announcements.#id = :announcement, #version = :next",
    )
    .when("#version = :version")
    .name("#id", key.id.as_str())
    .value(":announcement", map(item)?)
    .value(":version", number(version))
    .value(":next", number(next));
    Ok((write, next))
}

fn state(item: Item) -> Result<PresenceState, Fault> {
    decode::<PresenceItem>(item, WHAT)?.state()
}

impl PresenceItem {
    fn state(self) -> Result<PresenceState, Fault> {
        let announcements = self
            .announcements
            .into_iter()
            .map(|(id, it)| {
                let announcement = Announcement {
                    availability: it.availability,
                    status: it.status,
                    attributes: json(&it.attributes, WHAT)?,
                    at: it.at,
                };
                Ok((ConnectionId(id), announcement))
            })
            .collect::<Result<_, Fault>>()?;
        Ok(PresenceState {
            announcements,
            version: self.version,
            pushed: self.pushed,
            published: self.told.map(|it| PublishedPresence {
                digest: it.digest,
                version: it.version,
            }),
        })
    }
}
