//! What a subscriber announced, and who tells others: one item beside its connections.
//!
//! # Cost
//!
//! | pattern | requests | units |
//! |---|---|---|
//! | `presence` | GetItem | 1 read per 4 KiB |
//! | `presences` | BatchGetItem, 100 a request | 1 read each per 4 KiB |
//! | `announce` | UpdateItem; a connection's first one fails it and needs TransactWriteItems of 2 | 1 write per KiB; 1 + 4 |
//! | `unannounce` | GetItem, TransactWriteItems of 2 | 1 read, 4 write; 2 read if there is nothing to remove |
//! | `lease_presence`, `release_presence` | UpdateItem | 1 write per KiB, also if the condition fails |

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use protocol::{Announcement, Availability, ConnectionId, Subscriber, Timestamp};
use serde::{Deserialize, Serialize};
use service::ports::{Connections as _, Fault, Gone, PresenceState, Presences, Told};

use crate::{
    DynamoStore, connections,
    items::{json, millis},
    keys::{Item, Key},
    requests::{Repeat, TURNS, Written, decode, pause},
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
    /// As it was sent.
    attributes: String,
    #[serde(with = "millis")]
    at: Timestamp,
}

/// The write that removes a connection's announcement; part of the transaction that removes the connection.
pub(crate) fn removal(subscriber: &Subscriber, connection: &ConnectionId) -> Write {
    Write::update(
        Key::presence(subscriber),
        "REMOVE #announcements.#id ADD #version :one",
    )
    .when("attribute_exists(#announcements.#id)")
    .name("#id", connection.as_str())
    .value(":one", number(1))
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
        subscriber: &Subscriber,
        connection: &ConnectionId,
        announcement: &Announcement,
    ) -> Result<Result<u64, Gone>, Fault> {
        let item = AnnouncementItem {
            availability: announcement.availability,
            status: announcement.status.clone(),
            attributes: announcement.attributes.as_str().to_owned(),
            at: announcement.at,
        };
        // Only a registered connection has an announcement, so one that is there answers for both.
        let again = Write::update(
            Key::presence(subscriber),
            "SET #announcements.#id = :announcement ADD #version :one",
        )
        .when("attribute_exists(#announcements.#id)")
        .name("#id", connection.as_str())
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
            let (write, version) = first(subscriber, connection, &item, stood)?;
            let mark = connections::update(subscriber, connection, "SET #id.#announced = :true")
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

    async fn unannounce(
        &self,
        subscriber: &Subscriber,
        connection: &ConnectionId,
    ) -> Result<Result<Option<u64>, Gone>, Fault> {
        for turn in 1..=TURNS {
            let key = Key::presence(subscriber);
            let item: Option<PresenceItem> = self.get("unannounce", &key, WHAT).await?;
            let item = item.unwrap_or_default();
            if !item.announcements.contains_key(connection.as_str()) {
                let registered = self.connections(subscriber).await?.contains_key(connection);
                return Ok(if registered { Ok(None) } else { Err(Gone) });
            }
            let unmark = connections::update(subscriber, connection, "REMOVE #id.#announced")
                .when("attribute_exists(#id)");
            let next = item.version.saturating_add(1);
            let write = Write::update(key, "REMOVE #announcements.#id SET #version = :next")
                .when("#version = :version AND attribute_exists(#announcements.#id)")
                .name("#id", connection.as_str())
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
        // Repeated after a lost answer it would say that somebody else has the right.
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
        told: Option<&Told>,
    ) -> Result<bool, Fault> {
        let update = match told {
            Some(_) => "SET #pushed = :version, #told = :told REMOVE #lease_holder, #lease_until",
            None => "SET #pushed = :version REMOVE #lease_holder, #lease_until",
        };
        let mut write = Write::update(Key::presence(subscriber), update)
            .when("#lease_holder = :holder")
            .value(":holder", text(holder))
            .value(":version", number(version));
        if let Some(told) = told {
            let told = ToldItem {
                digest: told.digest.clone(),
                version: told.version,
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

/// The write of a connection's first announcement, and the version that it makes.
fn first(
    subscriber: &Subscriber,
    connection: &ConnectionId,
    item: &AnnouncementItem,
    stood: Option<Item>,
) -> Result<(Write, u64), Fault> {
    let key = Key::presence(subscriber);
    let Some(stood) = stood else {
        let announcements = BTreeMap::from([(connection.as_str(), item)]);
        let write = Write::update(
            key,
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
        key,
        "SET #announcements.#id = :announcement, #version = :next",
    )
    .when("#version = :version")
    .name("#id", connection.as_str())
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
            told: self.told.map(|it| Told {
                digest: it.digest,
                version: it.version,
            }),
        })
    }
}
