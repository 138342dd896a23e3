//! Connections: registering, replacing and forgetting them.

use futures::future::join_all;
use protocol::{
    Announcement, Availability, ConnectionId, DeliveryStatus, Subscriber,
    limits::CONNECTIONS_PER_SUBSCRIBER,
};
use service::ports::{
    Connection, Connections, Framing, Presences, Reference, RegisterError, TokenHash, Tokens,
};

use super::fixtures::{
    Tenant, active_token, connected, connection, contended, ids, json, message_id, now, registered,
    registration as registration_of, token, unique,
};

/// One reference of each kind.
pub(super) fn references(tenant: &Tenant) -> Vec<Reference> {
    let channel = tenant.channel("a.Z-0_~+@:").log();
    let direct = tenant.direct("ada", "b.o~b");
    vec![
        Reference::Event {
            log: channel.clone(),
            sequence: protocol::limits::SEQUENCE,
            until: now(),
        },
        Reference::Resync {
            log: direct.clone(),
        },
        Reference::Delivery {
            log: direct,
            message_id: message_id("m:1"),
            sequence: 7,
            status: DeliveryStatus::Displayed,
            timestamp: now(),
        },
        Reference::Presence {
            subscriber: tenant.subscriber("bob"),
        },
        Reference::Invitation { log: channel },
        Reference::TokenExpiring { at: now() },
    ]
}

/// A registered connection is read back unchanged. A repeated registration does not undo later changes.
pub async fn registration<S: Tokens + Connections>(store: &S) {
    let tenant = Tenant::new();
    let ada = tenant.subscriber("ada");
    assert!(store.connections(&ada).await.unwrap().is_empty());
    let hash = token(store, &ada).await;
    let first = Connection {
        framing: Framing::Sockjs,
        gates: [
            ("connect".to_owned(), now().plus_seconds(30)),
            ("Kf3_a-9=.#b".to_owned(), now()),
        ]
        .into(),
        parked: references(&tenant),
        ..connection(&hash)
    };
    let first = registration_of(&ada, "Lc.1x-9_d=", &first);
    for _ in 0..2 {
        registered(store.register(&first).await).unwrap();
        let found = store.connections(&ada).await.unwrap();
        assert_eq!(found, [(first.id.clone(), first.connection.clone())].into());
        let authorised = store.token_connections(&hash, None, 10).await.unwrap();
        assert_eq!(
            authorised.items.as_slice(),
            core::slice::from_ref(&first.id)
        );
    }

    let until = now().plus_seconds(5);
    let later = store
        .raise_gate(&ada.connection(first.id.clone()), "request", until)
        .await;
    let later = later.unwrap().unwrap();
    registered(store.register(&first).await).unwrap();
    assert_eq!(store.connections(&ada).await.unwrap()[&first.id], later);

    let second = registration_of(&ada, "second", &connection(&hash));
    registered(store.register(&second).await).unwrap();
    let found = store.connections(&ada).await.unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), [&first.id, &second.id]);

    // Concurrent registrations share an entry that the first of them creates.
    let bob = tenant.subscriber("bob");
    let at_once = (0..CONNECTIONS_PER_SUBSCRIBER)
        .map(async |n| connected(store, &bob, &format!("c{n}")).await);
    let mut expected = join_all(at_once).await;
    expected.sort();
    let found = store.connections(&bob).await.unwrap();
    assert!(found.keys().eq(&expected), "{:?}", found.keys());
}

/// Registration fails if the token is unknown, invalidated, or expired when the connection begins.
pub async fn refused_registration<S: Tokens + Connections>(store: &S) {
    let ada = Tenant::new().subscriber("ada");
    let unknown = TokenHash::of(&unique());
    let invalidated = token(store, &ada).await;
    store.invalidate_token(&invalidated, now()).await.unwrap();
    let ends = TokenHash::of(&unique());
    let record = active_token(&ada);
    store.put_token(&ends, &record).await.unwrap();

    let at_its_end = Connection {
        since: record.expires,
        ..connection(&ends)
    };
    for bad in [connection(&unknown), connection(&invalidated), at_its_end] {
        let refused = store.register(&registration_of(&ada, "c", &bad)).await;
        assert!(matches!(refused, Err(RegisterError::Token)), "{refused:?}");
        assert!(store.connections(&ada).await.unwrap().is_empty());
        let authorised = store.token_connections(&bad.token, None, 10).await.unwrap();
        assert!(authorised.items.is_empty());
    }
    let just_before = Connection {
        since: record.expires.plus_seconds(-1),
        ..connection(&ends)
    };
    let registration = registration_of(&ada, "c", &just_before);
    registered(store.register(&registration).await).unwrap();
}

async fn announce<S: Presences>(store: &S, subscriber: &Subscriber, id: &ConnectionId) -> u64 {
    let announcement = Announcement {
        availability: Availability::Available,
        status: "here".to_owned(),
        attributes: json("{}"),
        at: now(),
    };
    let announced = store
        .announce(&subscriber.connection(id.clone()), &announcement)
        .await;
    announced.unwrap().unwrap()
}

/// Forgetting returns the entry as it was, exactly once, and removes its announcement. The row under the token stays.
pub async fn forgetting<S: Tokens + Connections + Presences>(store: &S) {
    let tenant = Tenant::new();
    let ada = tenant.subscriber("ada");
    let hash = token(store, &ada).await;
    let entry = Connection {
        gates: [("g".to_owned(), now())].into(),
        parked: references(&tenant),
        ..connection(&hash)
    };
    let gone = registration_of(&ada, "gone", &entry);
    registered(store.register(&gone).await).unwrap();
    let stays = connected(store, &ada, "stays").await;
    announce(store, &ada, &stays).await;
    let version = announce(store, &ada, &gone.id).await;

    let forgotten = store
        .forget(&ada.connection(gone.id.clone()))
        .await
        .unwrap()
        .unwrap();
    let expected = Connection {
        announced: true,
        ..entry
    };
    assert_eq!(forgotten, expected);
    let presence = store.presence(&ada).await.unwrap();
    assert_eq!(presence.announcements.keys().collect::<Vec<_>>(), [&stays]);
    assert!(presence.version > version, "the change must be published");
    for _ in 0..2 {
        assert_eq!(
            store
                .forget(&ada.connection(gone.id.clone()))
                .await
                .unwrap(),
            None
        );
        assert_eq!(store.presence(&ada).await.unwrap(), presence);
        let found = store.connections(&ada).await.unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), [&stays]);
        let authorised = store.token_connections(&hash, None, 10).await.unwrap();
        assert_eq!(authorised.items.as_slice(), core::slice::from_ref(&gone.id));
    }

    let silent = connected(store, &ada, "silent").await;
    assert!(
        store
            .forget(&ada.connection(silent.clone()))
            .await
            .unwrap()
            .is_some()
    );
    let unchanged = store.presence(&ada).await.unwrap();
    assert_eq!(unchanged, presence, "no announcement, so no new version");

    let stranger = tenant.subscriber("stranger");
    assert_eq!(
        store
            .forget(&stranger.connection(gone.id.clone()))
            .await
            .unwrap(),
        None
    );

    // Of many concurrent calls exactly one returns the entry.
    let at_once =
        (0..8).map(|_| contended(async || store.forget(&ada.connection(stays.clone())).await));
    let seen = join_all(at_once).await;
    assert_eq!(seen.iter().flatten().count(), 1);
}

/// More subscribers than one batch takes, in any order, some twice, most of them not connected.
pub async fn connections_in_batches<S: Tokens + Connections>(store: &S) {
    let tenant = Tenant::new();
    let people: Vec<Subscriber> = ids(230).iter().map(|id| tenant.subscriber(id)).collect();
    for subscriber in people.iter().step_by(10) {
        connected(store, subscriber, "one").await;
        connected(store, subscriber, "two").await;
    }
    let asked: Vec<Subscriber> = people.iter().rev().chain(&people[..30]).cloned().collect();
    let found = store.connections_of(&asked).await.unwrap();
    for (n, subscriber) in people.iter().enumerate() {
        let connections = found.get(subscriber).cloned().unwrap_or_default();
        assert_eq!(connections.len(), if n % 10 == 0 { 2 } else { 0 });
        if n % 50 == 0 {
            assert_eq!(connections, store.connections(subscriber).await.unwrap());
        }
    }
    assert!(store.connections_of(&[]).await.unwrap().is_empty());
}
