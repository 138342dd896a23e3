//! Helpers that the suites share.

use core::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use protocol::{
    ChannelId, ChannelKey, ConnectionId, Domain, Event, EventBody, Json, LogId, MessageId,
    Subscriber, SubscriberId, Timestamp,
    change::{Change, LogEntry, Profile, Replace, Roster, RowChange},
};
use service::ports::{
    Allocation, Connection, Connections, Fault, Framing, Head, Lease, Logs, Page, RegisterError,
    Registration, TokenHash, TokenRecord, TokenState, Tokens,
};

use crate::clock::pause;

/// The wall clock's time, by which the suites judge times to live.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp::from_millis(i64::try_from(since.unwrap().as_millis()).unwrap())
}

pub(super) const DAY: i64 = 24 * 60 * 60;

/// A name that no run has used.
pub(super) fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    format!(
        "{:x}-{:x}-{:x}",
        since.unwrap().as_nanos(),
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A tenant with a domain of its own.
pub(super) struct Tenant(pub(super) Domain);

impl Tenant {
    pub(super) fn new() -> Self {
        Self(Domain::parse(&unique()).unwrap())
    }

    pub(super) fn subscriber(&self, id: &str) -> Subscriber {
        Subscriber {
            domain: self.0.clone(),
            id: person(id),
        }
    }

    pub(super) fn channel(&self, id: &str) -> ChannelKey {
        ChannelKey {
            domain: self.0.clone(),
            id: ChannelId::parse(id).unwrap(),
        }
    }

    pub(super) fn direct(&self, one: &str, other: &str) -> LogId {
        LogId::direct(&self.subscriber(one), &person(other))
    }
}

pub(super) fn person(id: &str) -> SubscriberId {
    SubscriberId::parse(id).unwrap()
}

pub(super) fn message_id(id: &str) -> MessageId {
    MessageId::parse(id).unwrap()
}

pub(super) fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

/// `count` ids in order, of different lengths, and more than fit a page of any kind.
pub(super) fn ids(count: usize) -> Vec<String> {
    let mut ids: Vec<String> = (0..count)
        .map(|n| format!("{}{n}", ["x", "X", "x-", "x.y:"][n % 4]))
        .collect();
    ids.sort();
    ids
}

pub(super) fn active_token(subscriber: &Subscriber) -> TokenRecord {
    TokenRecord {
        subscriber: subscriber.clone(),
        state: TokenState::Active,
        issued: now(),
        expires: now().plus_seconds(3_600),
    }
}

/// Stores a new token of the subscriber.
pub(super) async fn token<S: Tokens>(store: &S, subscriber: &Subscriber) -> TokenHash {
    let hash = TokenHash::of(&unique());
    let record = active_token(subscriber);
    store.put_token(&hash, &record).await.unwrap();
    hash
}

pub(super) fn connection(token: &TokenHash) -> Connection {
    Connection {
        token: token.clone(),
        framing: Framing::Raw,
        since: now(),
        ends_at: now().plus_seconds(3_600),
        gates: [].into(),
        parked: Vec::new(),
        announced: false,
    }
}

pub(super) fn registration(
    subscriber: &Subscriber,
    id: &str,
    connection: &Connection,
) -> Registration {
    Registration {
        subscriber: subscriber.clone(),
        id: ConnectionId(id.to_owned()),
        connection: connection.clone(),
    }
}

/// Registers a connection under a new token.
pub(super) async fn connected<S: Tokens + Connections>(
    store: &S,
    subscriber: &Subscriber,
    id: &str,
) -> ConnectionId {
    let token = token(store, subscriber).await;
    let registration = registration(subscriber, id, &connection(&token));
    contended(async || registered(store.register(&registration).await)).await;
    registration.id
}

/// Unwraps a registration whose token is valid.
pub(super) fn registered(answer: Result<(), RegisterError>) -> Result<(), Fault> {
    match answer {
        Ok(()) => Ok(()),
        Err(RegisterError::Fault(fault)) => Err(fault),
        Err(RegisterError::Token) => panic!("the token is valid"),
    }
}

/// Retries a write after conflicts and refusals.
pub(super) async fn contended<T>(mut attempt: impl AsyncFnMut() -> Result<T, Fault>) -> T {
    for _ in 0..1_000 {
        match attempt().await {
            Ok(value) => return value,
            Err(Fault::Conflict | Fault::Refused(_)) => pause().await,
            Err(fault) => panic!("{fault}"),
        }
    }
    panic!("every attempt was refused or conflicted");
}

/// Reads all pages from the first. Fails if a page is longer than `limit`, or if a page that announces more is the
/// last.
pub(super) async fn walk<T: Clone>(
    limit: usize,
    mut next: impl AsyncFnMut(Option<T>) -> Result<Page<T>, Fault>,
) -> Vec<T> {
    walk_late(limit, async |after: Option<T>| {
        let first = after.is_none();
        let page = next(after).await?;
        assert!(
            !page.items.is_empty() || (first && !page.more),
            "the previous page announced more"
        );
        Ok(page)
    })
    .await
}

/// As [`walk`], for an index that may lag: what a page announced may have moved before the next page is read.
pub(super) async fn walk_late<T: Clone>(
    limit: usize,
    mut next: impl AsyncFnMut(Option<T>) -> Result<Page<T>, Fault>,
) -> Vec<T> {
    let mut all: Vec<T> = Vec::new();
    loop {
        let page = next(all.last().cloned()).await.unwrap();
        assert!(page.items.len() <= limit, "a page is longer than its limit");
        assert!(
            !page.items.is_empty() || !page.more,
            "an empty page announces more"
        );
        all.extend(page.items);
        if !page.more {
            return all;
        }
    }
}

pub(super) fn lease(holder: &str) -> Lease {
    Lease {
        holder: holder.to_owned(),
        until: now().plus_seconds(10),
    }
}

pub(super) fn allocation(count: u64, holder: &str) -> Allocation {
    Allocation {
        count,
        at: now(),
        lease: lease(holder),
        close: false,
        removal: false,
    }
}

/// The log of a new conversation.
pub(super) async fn log<S: Logs>(store: &S) -> LogId {
    let log = Tenant::new().direct("ada", "bob");
    store.create_direct(&log, now()).await.unwrap();
    log
}

pub(super) async fn head<S: Logs>(store: &S, log: &LogId) -> Head {
    store.head(log).await.unwrap().unwrap()
}

pub(super) fn entry(sequence: u64, body: EventBody) -> LogEntry {
    LogEntry {
        event: Event {
            sequence,
            timestamp: now(),
            body,
        },
        nonce: unique(),
        origin: None,
    }
}

pub(super) fn message(sequence: u64, content: &str) -> LogEntry {
    let body = EventBody::Message {
        message_id: message_id(&format!("m-{sequence}")),
        from: person("ada"),
        content: json(content),
        attributes: None,
    };
    entry(sequence, body)
}

pub(super) fn void(sequence: u64) -> LogEntry {
    entry(sequence, EventBody::Void)
}

pub(super) fn joined(id: &str, sequence: u64) -> RowChange {
    RowChange::Joined {
        subscriber: person(id),
        administrator: false,
        sequence,
    }
}

pub(super) fn left(id: &str, joined: u64, sequence: u64) -> RowChange {
    RowChange::Left {
        subscriber: person(id),
        administrator: false,
        joined,
        sequence,
    }
}

/// A change of rows only.
pub(super) fn rows(channel: &ChannelKey, rows: Vec<RowChange>) -> Change {
    Change::of_rows(channel.clone(), now(), rows)
}

pub(super) fn roster(version: u64) -> Roster {
    Roster {
        open: true,
        members: 1,
        administrators: 1,
        version,
    }
}

pub(super) fn profile(version: u64) -> Profile {
    Profile {
        name: format!("name {version}"),
        attributes: json("{}"),
        invite_hash: None,
        creator: None,
        version,
    }
}

/// Creates a channel: `ada` joins it as its administrator with its first event.
pub(super) fn creation(channel: &ChannelKey) -> Change {
    let body = EventBody::SubscriberJoined {
        subscriber_id: person("ada"),
        administrator: true,
    };
    Change {
        entries: vec![entry(1, body)],
        head: Some(1),
        roster: Some(Replace {
            expect: None,
            to: roster(1),
        }),
        profile: Some(Replace {
            expect: None,
            to: profile(1),
        }),
        ..rows(
            channel,
            vec![RowChange::Joined {
                subscriber: person("ada"),
                administrator: true,
                sequence: 1,
            }],
        )
    }
}
