//! Announcements, and the lease to publish them.

use futures::future::join_all;
use protocol::{Announcement, Availability, ConnectionId, Subscriber};
use service::ports::{Connections, Gone, PresenceState, Presences, PublishedPresence, Tokens};

use super::fixtures::{Tenant, connected, contended, ids, json, now};

fn announcement(status: &str) -> Announcement {
    Announcement {
        availability: Availability::Dnd,
        status: status.to_owned(),
        attributes: json(r#"{ "n": 12345678901234567890.10, "a":1,"a":2 }"#),
        at: now(),
    }
}

/// Only registered connections announce. Each change is a new version. Withdrawing an absent announcement is not a
/// change.
pub async fn announcements<S: Tokens + Connections + Presences>(store: &S) {
    let tenant = Tenant::new();
    let ada = tenant.subscriber("ada");
    let default = PresenceState::default();
    assert_eq!(store.presence(&ada).await.unwrap(), default);
    let nobody = ConnectionId("never there".to_owned());
    let first = announcement("first");
    assert_eq!(
        store
            .announce(&ada.connection(nobody.clone()), &first)
            .await
            .unwrap(),
        Err(Gone)
    );
    assert_eq!(
        store
            .unannounce(&ada.connection(nobody.clone()))
            .await
            .unwrap(),
        Err(Gone)
    );
    assert_eq!(store.presence(&ada).await.unwrap(), default);

    let (one, two) = (
        connected(store, &ada, "o.n-e=").await,
        connected(store, &ada, "two").await,
    );
    assert_eq!(
        store
            .unannounce(&ada.connection(one.clone()))
            .await
            .unwrap(),
        Ok(None)
    );
    let mut version = store.presence(&ada).await.unwrap().version;
    let second = Announcement {
        availability: Availability::Available,
        ..announcement("ünïcödé 😀")
    };
    let third = announcement("");
    for (id, announcement) in [(&one, &first), (&two, &second), (&one, &third)] {
        let new = store
            .announce(&ada.connection(id.clone()), announcement)
            .await
            .unwrap()
            .unwrap();
        assert!(new > version);
        version = new;
        let state = store.presence(&ada).await.unwrap();
        assert_eq!(state.version, version);
        assert_eq!(state.announcements.get(id), Some(announcement));
        assert!(store.connections(&ada).await.unwrap()[id].announced);
    }
    let state = store.presence(&ada).await.unwrap();
    let expected = [(one.clone(), third), (two.clone(), second.clone())];
    assert_eq!(state.announcements, expected.into());

    let taken = store
        .unannounce(&ada.connection(one.clone()))
        .await
        .unwrap()
        .unwrap();
    assert!(taken.is_some_and(|new| new > version));
    let state = store.presence(&ada).await.unwrap();
    assert_eq!(Some(state.version), taken);
    assert_eq!(state.announcements, [(two.clone(), second)].into());
    let connections = store.connections(&ada).await.unwrap();
    assert!(!connections[&one].announced && connections[&two].announced);
    assert_eq!(
        store
            .unannounce(&ada.connection(one.clone()))
            .await
            .unwrap(),
        Ok(None)
    );
    assert_eq!(store.presence(&ada).await.unwrap(), state);

    store.forget(&ada.connection(two.clone())).await.unwrap();
    let late = store
        .announce(&ada.connection(two.clone()), &first)
        .await
        .unwrap();
    assert_eq!(late, Err(Gone), "a forgotten connection announces nothing");
    assert!(store.presence(&ada).await.unwrap().announcements.is_empty());
    assert!(!store.connections(&ada).await.unwrap().contains_key(&two));
}

/// One worker at a time publishes, only unpublished changes, and records them only while it still holds the lease.
pub async fn presence_leases<S: Tokens + Connections + Presences>(store: &S) {
    let ada = Tenant::new().subscriber("ada");
    let at = now();
    let lease = async |holder: &str, after: i64| {
        let begins = at.plus_seconds(after);
        let until = begins.plus_seconds(10);
        contended(async || store.lease_presence(&ada, holder, begins, until).await).await
    };
    assert_eq!(lease("one", 0).await, None, "nothing is unpublished");
    let id = connected(store, &ada, "c").await;
    assert_eq!(
        lease("one", 0).await,
        None,
        "a connection without an announcement publishes nothing"
    );
    let announce = async |status: &str| {
        let announced = store
            .announce(&ada.connection(id.clone()), &announcement(status))
            .await;
        announced.unwrap().unwrap()
    };

    let release = async |holder: &str, version, told: Option<&PublishedPresence>| {
        contended(async || store.release_presence(&ada, holder, version, told).await).await
    };
    let told = |version| PublishedPresence {
        digest: format!("5feceb66{version}"),
        version,
    };

    let version = announce("here").await;
    let state = lease("one", 0).await.unwrap();
    assert_eq!((state.version, state.pushed < version), (version, true));
    assert_eq!(state.published, None);
    assert_eq!(state, store.presence(&ada).await.unwrap());
    assert_eq!(lease("two", 9).await, None);
    assert!(release("two", version, Some(&told(1))).await);
    let unchanged = store.presence(&ada).await.unwrap();
    assert_eq!(unchanged, state, "only the holder records");
    assert_eq!(lease("two", 9).await, None, "only the holder releases");

    assert!(lease("two", 11).await.is_some(), "the lease ends by itself");
    let newer = announce("still here").await;
    assert!(!release("two", version, Some(&told(1))).await);
    let noted = store.presence(&ada).await.unwrap();
    assert_eq!((noted.pushed, noted.published), (version, Some(told(1))));
    assert_eq!(lease("three", 11).await.unwrap().version, newer);
    assert!(release("three", newer, None).await);
    let noted = store.presence(&ada).await.unwrap();
    let same = (newer, Some(told(1)));
    assert_eq!(
        (noted.pushed, noted.published),
        same,
        "the published presence is unchanged"
    );
    assert_eq!(lease("four", 60).await, None, "everything is published");

    let newest = announce("away").await;
    let holders = (0..8).map(async |n| lease(&format!("holder {n}"), 60).await);
    let leased = join_all(holders).await;
    assert_eq!(leased.iter().flatten().count(), 1);
    store.forget(&ada.connection(id.clone())).await.unwrap();
    let state = store.presence(&ada).await.unwrap();
    assert!(state.version > newest && state.announcements.is_empty());
}

/// More subscribers than one batch takes, in any order, some twice, most of them without an announcement.
pub async fn presences_in_batches<S: Tokens + Connections + Presences>(store: &S) {
    let tenant = Tenant::new();
    let people: Vec<Subscriber> = ids(230).iter().map(|id| tenant.subscriber(id)).collect();
    for subscriber in people.iter().step_by(23) {
        let id = connected(store, subscriber, "c").await;
        let announced = store
            .announce(&subscriber.connection(id.clone()), &announcement("here"))
            .await;
        announced.unwrap().unwrap();
    }
    let asked: Vec<Subscriber> = people.iter().rev().chain(&people[..30]).cloned().collect();
    let found = store.presences(&asked).await.unwrap();
    for (n, subscriber) in people.iter().enumerate() {
        let state = found.get(subscriber).cloned().unwrap_or_default();
        assert_eq!(state.announcements.len(), usize::from(n % 23 == 0));
        assert!(n % 23 != 0 || state == store.presence(subscriber).await.unwrap());
    }
    assert!(store.presences(&[]).await.unwrap().is_empty());
}
