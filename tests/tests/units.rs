//! The cost of each access pattern of the store, in the capacity units that the engine bills like DynamoDB.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test shows the line, and prints its table"
)]

mod engine;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use engine::Running;
use protocol::{
    Announcement, Availability, ChannelId, ChannelKey, ConnectionId, DeliveryStatus, Domain, Event,
    EventBody, Json, LogId, MessageId, Subscriber, SubscriberId, Timestamp,
    change::{Change, LogEntry, Profile, Replace, Roster, RowChange},
};
use service::Identity;
use service::ports::{
    Allocation, Attached, Channels, Closing, Connection, Connections, Doorbell, ExpiryCheckpoint,
    Framing, Hold, IdempotencyRecord, Jti, Lease, Logs, Minute, Presences, Reauthorization,
    Reference, Registration, SHARDS, Session, SessionId, SessionKey, Sessions, SignedToken,
    SignedTokens, TokenHash, TokenRecord, TokenState, Tokens,
};
use store::DynamoStore;

/// The time after which the test fails instead of hanging.
const DEADLINE: Duration = Duration::from_secs(60);

/// Adds up the capacity that a store's requests consumed, and collects the rows of the table.
#[derive(Clone, Default)]
struct Bill {
    requests: Arc<Mutex<Vec<(&'static str, f64)>>>,
    rows: Arc<Mutex<Vec<Row>>>,
}

struct Row {
    what: String,
    requests: usize,
    expected: f64,
    units: f64,
}

impl Bill {
    fn meter(&self, store: DynamoStore) -> DynamoStore {
        let requests = Arc::clone(&self.requests);
        store.with_meter(Arc::new(move |pattern, units| {
            requests.lock().unwrap().push((pattern, units));
        }))
    }

    /// Adds a row for the requests since the last one. `expected` is the value in the store's own table.
    fn row(&self, what: &str, expected: f64) {
        let requests: Vec<(&str, f64)> = self.requests.lock().unwrap().drain(..).collect();
        let pattern = what.split_whitespace().next().unwrap();
        for (metered, _) in &requests {
            assert_eq!(*metered, pattern, "{what} is metered under another name");
        }
        let units = requests.iter().map(|(_, units)| units).sum();
        let mut rows = self.rows.lock().unwrap();
        rows.push(Row {
            what: what.to_owned(),
            requests: requests.len(),
            expected,
            units,
        });
    }

    fn settle(&self) {
        let rows = self.rows.lock().unwrap();
        println!("| access pattern | requests | units |\n|---|---|---|");
        for row in rows.iter() {
            println!("| {} | {} | {} |", row.what, row.requests, row.units);
        }
        for row in rows.iter() {
            assert!(
                (row.units - row.expected).abs() < f64::EPSILON,
                "{} costs {} units, expected {}",
                row.what,
                row.units,
                row.expected
            );
        }
    }
}

fn subscriber(id: &str) -> Subscriber {
    Subscriber {
        domain: Domain::parse("d").unwrap(),
        id: SubscriberId::parse(id).unwrap(),
    }
}

fn channel(id: &str) -> ChannelKey {
    ChannelKey {
        domain: Domain::parse("d").unwrap(),
        id: ChannelId::parse(id).unwrap(),
    }
}

/// Returns the same time in every run. A number is billed by its significant digits, so a time that ends with zeros is a byte
/// shorter. Near a whole KiB that would save a unit in one run of a hundred. No time to live is past at this time.
fn now() -> Timestamp {
    Timestamp::from_millis(4_102_444_812_345)
}

fn message(sequence: u64, bytes: usize) -> LogEntry {
    let content = format!("\"{}\"", "x".repeat(bytes));
    LogEntry {
        event: Event {
            sequence,
            timestamp: now(),
            body: EventBody::Message {
                message_id: MessageId::parse("m").unwrap(),
                from: SubscriberId::parse("a").unwrap(),
                content: Json::parse(&content).unwrap(),
                attributes: None,
            },
        },
        nonce: "nonce".to_owned(),
        origin: None,
    }
}

#[tokio::test]
async fn access_pattern_costs_match_store() {
    tokio::time::timeout(DEADLINE, async {
        let running = Running::start(&[], 1).await.unwrap();
        let bill = Bill::default();
        let store = bill.meter(running.store.clone());
        tokens_and_connections(&store, &bill).await;
        signed_tokens(&store, &bill).await;
        announcements(&store, &bill).await;
        channels(&store, &bill).await;
        rows(&store, &bill).await;
        heads(&store, &bill).await;
        entries(&store, &bill).await;
        sessions(&store, &bill).await;
        running.stop().await;
        bill.settle();
    })
    .await
    .unwrap();
}

async fn tokens_and_connections(store: &DynamoStore, bill: &Bill) {
    let (who, id, now) = (subscriber("a"), ConnectionId("c1".to_owned()), now());
    let hash = TokenHash::of("token");
    let token = TokenRecord {
        subscriber: who.clone(),
        state: TokenState::Active,
        issued: now,
        expires: now.plus_seconds(3_600),
    };
    store.put_token(&hash, &token).await.unwrap();
    bill.row("put_token", 3.0);
    store.token(&hash).await.unwrap();
    bill.row("token", 1.0);
    let registration = |id: &str| Registration {
        subscriber: who.clone(),
        id: ConnectionId(id.to_owned()),
        connection: Connection {
            token: hash.clone(),
            framing: Framing::Raw,
            since: now,
            ends_at: now.plus_seconds(3_600),
            gates: BTreeMap::new(),
            parked: Vec::new(),
            announced: false,
        },
    };
    store.register(&registration("c0")).await.unwrap();
    bill.row("register (the subscriber's first)", 7.0);
    store.register(&registration("c1")).await.unwrap();
    bill.row("register", 7.0);
    store.connections(&who).await.unwrap();
    bill.row("connections", 1.0);
    let many = [who.clone(), subscriber("b")];
    store.connections_of(&many).await.unwrap();
    bill.row("connections_of (2)", 2.0);
    let until = now.plus_seconds(5);
    store
        .raise_gate(&who.connection(id.clone()), "g", until)
        .await
        .unwrap()
        .unwrap();
    bill.row("raise_gate", 1.0);
    let reference = Reference::Resync {
        log: channel("c").log(),
    };
    store
        .park(
            &who.connection(id.clone()),
            Some("g"),
            core::slice::from_ref(&reference),
        )
        .await
        .unwrap();
    bill.row("park", 1.0);
    store
        .unpark(&who.connection(id.clone()), "g", 1, until)
        .await
        .unwrap()
        .unwrap();
    bill.row("unpark", 1.0);
    let references = vec![reference; 200];
    store
        .park(&who.connection(id.clone()), Some("g"), &references)
        .await
        .unwrap();
    bill.row("park (200)", 12.0);
    let left = store
        .unpark(&who.connection(id.clone()), "g", 200, until)
        .await
        .unwrap();
    assert!(left.unwrap().parked.is_empty());
    bill.row("unpark (200)", 12.0);
    let gates = BTreeMap::from([("g".to_owned(), until)]);
    let taken = store
        .take_gate(&who.connection(id.clone()), &gates, ("h", until), &[])
        .await;
    assert!(taken.unwrap().is_some());
    bill.row("take_gate", 1.0);
    assert!(
        store
            .lower_gate(&who.connection(id.clone()), "h", None)
            .await
            .unwrap()
    );
    bill.row("lower_gate", 1.0);
    store.token_connections(&hash, None, 10).await.unwrap();
    bill.row("token_connections (2)", 1.0);
    assert!(store.has_token_connection(&hash, &id).await.unwrap());
    bill.row("has_token_connection", 1.0);
    store.tokens_of(&who, None, 10).await.unwrap();
    bill.row("tokens_of (1)", 1.0);
    let fresh = TokenHash::of("fresh");
    store.put_token(&fresh, &token).await.unwrap();
    bill.row("put_token", 3.0);
    let reauthorization = Reauthorization {
        subscriber: who.clone(),
        id: id.clone(),
        old: hash.clone(),
        new: fresh.clone(),
        at: now,
        ends_at: now.plus_seconds(1_800),
    };
    store.reauthorize(&reauthorization).await.unwrap();
    bill.row("reauthorize", 10.0);
    store
        .forget(&who.connection(id.clone()))
        .await
        .unwrap()
        .unwrap();
    bill.row("forget", 1.0);
    store.forget_token_connection(&fresh, &id).await.unwrap();
    bill.row("forget_token_connection", 2.0);
    store.forget_token_connection(&fresh, &id).await.unwrap();
    bill.row("forget_token_connection (again)", 1.0);
    let minute = Minute::of(token.expires);
    let page = store.ending(minute, None, 10).await.unwrap();
    assert_eq!(page.items.len(), 3, "two tokens and a connection");
    bill.row("ending (3)", 0.5);
    let checkpoint = ExpiryCheckpoint {
        minute,
        warned: now,
    };
    store.set_expiry_checkpoint(&checkpoint).await.unwrap();
    bill.row("set_expiry_checkpoint", 1.0);
    store.expiry_checkpoint().await.unwrap().unwrap();
    bill.row("expiry_checkpoint", 1.0);
}

async fn signed_tokens(store: &DynamoStore, bill: &Bill) {
    let (who, now) = (subscriber("s"), now());
    let jti = Jti::new("https://issuer.example", "one");
    let signed = |text: &str, jti: Option<&Jti>| SignedToken {
        hash: TokenHash::of_signed(text),
        subscriber: who.clone(),
        begins: now,
        expires: now.plus_seconds(3_600),
        jti: jti.cloned(),
    };
    let registration = |id: &str, token: &SignedToken| Registration {
        subscriber: who.clone(),
        id: ConnectionId(id.to_owned()),
        connection: Connection {
            token: token.hash.clone(),
            framing: Framing::Raw,
            since: now,
            ends_at: now.plus_seconds(3_600),
            gates: BTreeMap::new(),
            parked: Vec::new(),
            announced: false,
        },
    };
    let (plain, named) = (signed("plain", None), signed("named", Some(&jti)));
    let first = registration("s0", &plain);
    store
        .register_signed(&first, &plain.first_use())
        .await
        .unwrap();
    bill.row(
        "register_signed (first; the failed attempt is not metered)",
        10.0,
    );
    let second = registration("s1", &named);
    store
        .register_signed(&second, &named.first_use())
        .await
        .unwrap();
    bill.row("register_signed", 14.0);
    let again = registration("s2", &named);
    store
        .register_signed(&again, &named.first_use())
        .await
        .unwrap();
    bill.row("register_signed (a token that was used)", 13.0);
    let fresh = signed("fresh", Some(&jti));
    let reauthorization = Reauthorization {
        subscriber: who.clone(),
        id: second.id,
        old: named.hash.clone(),
        new: fresh.hash.clone(),
        at: now,
        ends_at: now.plus_seconds(1_800),
    };
    let used = fresh.first_use();
    store
        .reauthorize_signed(&reauthorization, &used)
        .await
        .unwrap();
    bill.row("reauthorize_signed", 17.0);
    store
        .refuse_signed(&signed("unused", None), now)
        .await
        .unwrap();
    bill.row("refuse_signed", 2.0);
    store.refuse_signed(&named, now).await.unwrap();
    bill.row("refuse_signed (a token that was used)", 3.0);
    store.refuse_jti(&jti, fresh.expires).await.unwrap();
    bill.row("refuse_jti", 1.0);
    assert!(store.is_jti_refused(&jti).await.unwrap());
    bill.row("is_jti_refused", 1.0);
    let found = store.tokens_with_jti(&jti, None, 10).await.unwrap();
    assert_eq!(found.items.len(), 2);
    bill.row("tokens_with_jti (2)", 1.0);
}

async fn announcements(store: &DynamoStore, bill: &Bill) {
    let (who, id, now) = (subscriber("a"), ConnectionId("c0".to_owned()), now());
    let announcement = Announcement {
        availability: Availability::Available,
        status: "here".to_owned(),
        attributes: Json::empty_object(),
        at: now,
    };
    for (what, units) in [
        ("announce (first; the failed attempt is not metered)", 4.0),
        ("announce", 1.0),
    ] {
        store
            .announce(&who.connection(id.clone()), &announcement)
            .await
            .unwrap()
            .unwrap();
        bill.row(what, units);
    }
    store.presence(&who).await.unwrap();
    bill.row("presence", 1.0);
    store.presences(core::slice::from_ref(&who)).await.unwrap();
    bill.row("presences (1)", 1.0);
    let until = now.plus_seconds(5);
    let state = store.lease_presence(&who, "h", now, until).await.unwrap();
    bill.row("lease_presence", 1.0);
    let version = state.unwrap().version;
    assert!(
        store
            .release_presence(&who, "h", version, None)
            .await
            .unwrap()
    );
    bill.row("release_presence", 1.0);
    store
        .unannounce(&who.connection(id.clone()))
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    bill.row("unannounce", 5.0);
    store
        .announce(&who.connection(id.clone()), &announcement)
        .await
        .unwrap()
        .unwrap();
    bill.row("announce (again; the failed attempt is not metered)", 4.0);
    store
        .forget(&who.connection(id.clone()))
        .await
        .unwrap()
        .unwrap();
    bill.row("forget (announced; the failed attempt is not metered)", 4.0);
    let invalidated = store.invalidate_token(&TokenHash::of("token"), now).await;
    assert!(invalidated.unwrap().is_some());
    bill.row("invalidate_token", 3.0);
    store.settle_token(&TokenHash::of("token")).await.unwrap();
    bill.row("settle_token", 2.0);
}

async fn channels(store: &DynamoStore, bill: &Bill) {
    let (key, now) = (channel("c"), now());
    let (a, b) = (
        SubscriberId::parse("a").unwrap(),
        SubscriberId::parse("b").unwrap(),
    );
    let roster = |members, version| Roster {
        open: true,
        members,
        administrators: 1,
        version,
    };
    let joined = |sequence, subscriber: &SubscriberId| LogEntry {
        event: Event {
            sequence,
            timestamp: now,
            body: EventBody::SubscriberJoined {
                subscriber_id: subscriber.clone(),
                administrator: sequence == 1,
            },
        },
        nonce: "nonce".to_owned(),
        origin: None,
    };
    let empty = Change {
        channel: key.clone(),
        at: now,
        entries: Vec::new(),
        head: None,
        roster: None,
        profile: None,
        rows: Vec::new(),
    };
    let create = Change {
        entries: vec![joined(1, &a)],
        head: Some(1),
        roster: Some(Replace {
            expect: None,
            to: roster(1, 1),
        }),
        profile: Some(Replace {
            expect: None,
            to: Profile {
                name: "name".to_owned(),
                attributes: Json::empty_object(),
                invite_hash: None,
                creator: Some(a.clone()),
                version: 1,
            },
        }),
        rows: vec![RowChange::Joined {
            subscriber: a.clone(),
            administrator: true,
            sequence: 1,
        }],
        ..empty.clone()
    };
    store.change(&create).await.unwrap();
    bill.row("change (create)", 17.0);
    let invite = Change {
        rows: vec![
            RowChange::Administers {
                subscriber: a.clone(),
                joined: 1,
            },
            RowChange::Invited {
                subscriber: b.clone(),
                from: Some(a.clone()),
            },
        ],
        ..empty.clone()
    };
    store.change(&invite).await.unwrap();
    bill.row("change (invite)", 6.0);
    let member = subscriber("b");
    store.invitation(&member, &key.id).await.unwrap().unwrap();
    bill.row("invitation", 1.0);
    store.invitations(&member, None, 10).await.unwrap();
    bill.row("invitations (1)", 1.0);
    let join = Change {
        entries: vec![joined(2, &b)],
        roster: Some(Replace {
            expect: Some(1),
            to: roster(2, 2),
        }),
        rows: vec![RowChange::Joined {
            subscriber: b.clone(),
            administrator: false,
            sequence: 2,
        }],
        ..empty.clone()
    };
    store.change(&join).await.unwrap();
    bill.row("change (join)", 12.0);
    let promote = Change {
        rows: vec![RowChange::Administrator {
            subscriber: b.clone(),
            joined: 2,
            administrator: true,
        }],
        ..empty.clone()
    };
    store.change(&promote).await.unwrap();
    bill.row("change (administrator)", 2.0);
    let leave = Change {
        entries: vec![message(3, 0)],
        roster: Some(Replace {
            expect: Some(2),
            to: roster(1, 3),
        }),
        rows: vec![RowChange::Left {
            subscriber: b,
            administrator: true,
            joined: 2,
            sequence: 3,
        }],
        ..empty
    };
    store.change(&leave).await.unwrap();
    bill.row("change (leave)", 12.0);
}

async fn rows(store: &DynamoStore, bill: &Bill) {
    let (key, who) = (channel("c"), subscriber("a"));
    store.profile(&key).await.unwrap().unwrap();
    bill.row("profile", 1.0);
    store.roster(&key).await.unwrap().unwrap();
    bill.row("roster", 1.0);
    store.member(&key, &who.id).await.unwrap().unwrap();
    bill.row("member", 1.0);
    let keys = [key.clone(), channel("absent")];
    store.profiles(&keys).await.unwrap();
    bill.row("profiles (2)", 2.0);
    store.rosters(&keys).await.unwrap();
    bill.row("rosters (2)", 2.0);
    store.member_of(&keys, &who.id).await.unwrap();
    bill.row("member_of (2)", 2.0);
    store.members(&key, None, 10).await.unwrap();
    bill.row("members (2)", 1.0);
    store.receivers(&key, None, 10).await.unwrap();
    bill.row("receivers (2)", 1.0);
    store.seniors(&key, 10).await.unwrap();
    bill.row("seniors (1)", 1.0);
    store.memberships(&who, None, 10).await.unwrap();
    bill.row("memberships (1)", 1.0);
    store.count_memberships(&who).await.unwrap();
    bill.row("count_memberships (1)", 1.0);
    for (status, units) in [
        (DeliveryStatus::Displayed, 1.0),
        (DeliveryStatus::Read, 1.0),
    ] {
        assert!(
            store
                .raise_read_cursor(&key, &who.id, status, 2)
                .await
                .unwrap()
        );
        bill.row("raise_read_cursor", units);
    }
}

async fn heads(store: &DynamoStore, bill: &Bill) {
    let (who, now) = (subscriber("a"), now());
    let log = LogId::direct(&who, &SubscriberId::parse("b").unwrap());
    let lease = |holder: &str| Lease {
        holder: holder.to_owned(),
        until: now.plus_seconds(10),
    };
    let allocation = Allocation {
        count: 1,
        at: now,
        lease: lease("h"),
        close: false,
        removal: false,
    };
    store.create_direct(&log, now).await.unwrap();
    bill.row("create_direct", 3.0);
    store.conversations(&who, None, 10).await.unwrap();
    bill.row("conversations (1)", 1.0);
    store.allocate(&log, &allocation).await.unwrap();
    bill.row("allocate (after a drain)", 2.0);
    store.allocate(&log, &allocation).await.unwrap();
    bill.row("allocate", 1.0);
    store.head(&log).await.unwrap().unwrap();
    bill.row("head", 1.0);
    store.heads(core::slice::from_ref(&log)).await.unwrap();
    bill.row("heads (1)", 1.0);
    let until = now.plus_seconds(20);
    store.renew(&log, "h", until, 1).await.unwrap().unwrap();
    bill.row("renew", 1.0);
    assert!(store.release(&log, "h", 2).await.unwrap());
    bill.row("release", 1.0);
    let taken = store.take_lease(&log, None, &lease("i")).await;
    assert!(taken.unwrap().is_some());
    bill.row("take_lease", 1.0);
    let mut found = 0;
    for shard in 0..SHARDS {
        let page = store.undrained(shard, None, 10).await.unwrap();
        found += page.items.len();
        bill.requests
            .lock()
            .unwrap()
            .retain(|(_, units)| *units > 0.5);
    }
    assert_eq!(found, 2);
    bill.requests.lock().unwrap().clear();
    store.undrained(0, None, 10).await.unwrap();
    bill.row("undrained", 0.5);
    for status in [DeliveryStatus::Received, DeliveryStatus::Read] {
        assert!(
            store
                .raise_direct_read_cursor(&log, &who.id, status, 1)
                .await
                .unwrap()
        );
        bill.row("raise_direct_read_cursor", 1.0);
    }
    assert!(store.settle(&log).await.unwrap());
    bill.row("settle", 2.0);
}

async fn entries(store: &DynamoStore, bill: &Bill) {
    let log = channel("e").log();
    let sender = SubscriberId::parse("a").unwrap();
    let id = MessageId::parse("m").unwrap();
    let record = |nonce: &str| IdempotencyRecord {
        sequence: 1,
        content_hash: "0".repeat(64),
        nonce: nonce.to_owned(),
        at: now(),
    };
    let old = record("old");
    store
        .set_idempotency_record(&log, &sender, &id, &old)
        .await
        .unwrap()
        .unwrap();
    bill.row("set_idempotency_record", 1.0);
    let new = record("new");
    let replaced = store.replace_idempotency_record(&log, &sender, &id, &old, &new);
    assert!(replaced.await.unwrap());
    bill.row("replace_idempotency_record", 1.0);
    store
        .idempotency_record(&log, &sender, &id)
        .await
        .unwrap()
        .unwrap();
    bill.row("idempotency_record", 1.0);
    for (sequence, bytes, units) in [(1, 100, 1.0), (2, 16 * 1024 - 2, 17.0)] {
        store
            .put_entry(&log, &message(sequence, bytes))
            .await
            .unwrap()
            .unwrap();
        bill.row(&format!("put_entry ({bytes} bytes)"), units);
    }
    store.entry(&log, 1).await.unwrap().unwrap();
    bill.row("entry (100 bytes)", 1.0);
    store.entry(&log, 2).await.unwrap().unwrap();
    bill.row("entry (16382 bytes)", 5.0);
    let slice = store.entries_after(&log, 0, 1, 50).await.unwrap();
    assert_eq!(slice.entries.len(), 1);
    bill.row("entries_after (1 of 100 bytes)", 1.0);
    let slice = store.entries_before(&log, 2, 50).await.unwrap();
    assert_eq!(slice.entries.len(), 1);
    bill.row("entries_before (1 of 100 bytes)", 1.0);
    entries_behind_expired(store, bill).await;
}

/// Reads skip expired entries that are not deleted yet. Reading each of them would cost half a unit per entry.
async fn entries_behind_expired(store: &DynamoStore, bill: &Bill) {
    let log = channel("old").log();
    let expired = Timestamp::from_millis(1_600_000_000_123);
    for sequence in 1..=1_010 {
        let mut entry = message(sequence, 2_000);
        if sequence <= 1_000 {
            entry.event.timestamp = expired;
        }
        store.put_entry(&log, &entry).await.unwrap().unwrap();
    }
    bill.requests.lock().unwrap().clear();
    for (limit, units) in [(1, 24.0), (50, 53.0)] {
        let slice = store.entries_after(&log, 0, 1_010, limit).await.unwrap();
        let first = slice.entries.first().unwrap();
        assert_eq!(first.event.sequence, 1_001);
        assert_eq!(slice.entries.len(), limit.min(10));
        bill.row(
            &format!("entries_after ({limit}, after 1,000 expired entries)"),
            units,
        );
    }
    let slice = store.entries_before(&log, 1_011, 50).await.unwrap();
    assert_eq!((slice.entries.len(), slice.more), (10, false));
    bill.row("entries_before (10, after 1,000 expired entries)", 27.0);
}

async fn sessions(store: &DynamoStore, bill: &Bill) {
    let now = now();
    let token = TokenHash::of("of a session");
    let id = SessionId {
        key: SessionKey::of(&token, "session"),
        incarnation: "0123456789ab".to_owned(),
    };
    let lease = |holder: &str, seconds: i64| Lease {
        holder: holder.to_owned(),
        until: now.plus_seconds(seconds),
    };
    let identity = Identity {
        subscriber: subscriber("a"),
        token: token.clone(),
        token_expires: now.plus_seconds(3_600),
        jti: None,
        framing: Framing::Session,
    };
    let session = Session::new(id.incarnation.clone(), identity, lease("one", 20));
    assert!(store.begin_session(&id.key, &session, now).await.unwrap());
    bill.row("begin_session", 2.0);
    store.session(&id.key).await.unwrap().unwrap();
    bill.row("session", 1.0);
    let bell = Doorbell {
        key: id.key.clone(),
        holder: "one".to_owned(),
        token,
        connection: ConnectionId("c1".to_owned()),
    };
    assert!(store.set_doorbell(&bell).await.unwrap());
    bill.row("set_doorbell", 1.0);
    store.push_to_session(&id, &["message"], now).await.unwrap();
    bill.row("push_to_session", 1.0);
    let hold = |seen: u64, written: usize, bytes: usize| Hold {
        holder: "one".to_owned(),
        seen,
        written,
        bytes,
        until: now.plus_seconds(5),
        now,
    };
    let held = store.hold_session(&id.key, &hold(0, 1, 7)).await.unwrap();
    assert!(held.unwrap().outbox.is_empty());
    bill.row("hold_session", 1.0);
    let large = "x".repeat(2_048);
    store.push_to_session(&id, &[&large], now).await.unwrap();
    bill.row("push_to_session (2 KiB)", 3.0);
    assert!(
        store
            .release_session(&id.key, &hold(1, 1, 2_048))
            .await
            .unwrap()
    );
    bill.row("release_session (2 KiB)", 3.0);
    store.attach(&id.key, &lease("two", 20), now).await.unwrap();
    bill.row("attach", 1.0);
    let sender = lease("three", 20);
    let sending = store.begin_sending(&id.key, &sender, now).await.unwrap();
    assert!(matches!(sending, Attached::Held(_)));
    bill.row("begin_sending", 1.0);
    store.end_sending(&id.key, "three").await.unwrap();
    bill.row("end_sending", 1.0);
    let closing = Closing {
        code: 4_401,
        reason: "token-invalidated".to_owned(),
    };
    store.close_session(&id, &closing, now).await.unwrap();
    bill.row("close_session", 1.0);
    let minute = Minute::of(session.alive_until);
    let due = store.due_sessions(minute, None, 10).await.unwrap();
    assert!(due.items == std::slice::from_ref(&id.key));
    bill.row("due_sessions (1)", 0.5);
    store.postpone_session(&id, minute.plus(1)).await.unwrap();
    bill.row("postpone_session", 3.0);
    store
        .forget_session(&id, now.plus_seconds(60))
        .await
        .unwrap();
    bill.row("forget_session", 2.0);
}
