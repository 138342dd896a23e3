//! Direct conversations: the first message creates one, and each peer has read cursors.

use futures::future::join_all;
use protocol::{DeliveryStatus, LogId, ReadCursors, SubscriberId};
use service::ports::{Channels, Logs};

use super::fixtures::{Tenant, allocation, contended, head, ids, log, now, person, walk};

/// A conversation is created once, with a row on both sides, regardless of repeats and concurrent calls.
pub async fn direct_conversation<S: Logs + Channels>(store: &S) {
    let tenant = Tenant::new();
    let (ada, bob) = (tenant.subscriber("ada"), tenant.subscriber("bob"));
    let log = LogId::direct(&bob, &ada.id);
    assert_eq!(store.head(&log).await.unwrap(), None);
    let at = now();
    let at_once = (0..8).map(|_| contended(async || store.create_direct(&log, at).await));
    join_all(at_once).await;
    let made = head(store, &log).await;
    assert_eq!((made.active, made.sequence, made.sent), (true, 0, 0));
    assert_eq!((made.lease, made.allocated_at), (None, at));
    assert!(
        made.read_cursors
            .values()
            .all(|it| *it == ReadCursors::default())
    );
    for (subscriber, peer) in [(&ada, &bob), (&bob, &ada)] {
        let peers = store.conversations(subscriber, None, 10).await.unwrap();
        assert_eq!(peers.items.as_slice(), core::slice::from_ref(&peer.id));
        assert!(!peers.more);
    }

    store.allocate(&log, &allocation(3, "one")).await.unwrap();
    let raised = store
        .raise_direct_read_cursor(&log, &ada.id, DeliveryStatus::Read, 2)
        .await;
    assert!(raised.unwrap());
    let before = head(store, &log).await;
    store
        .create_direct(&log, now().plus_seconds(9))
        .await
        .unwrap();
    assert_eq!(
        head(store, &log).await,
        before,
        "the existing head is unchanged"
    );
    // A conversation does not count as a membership.
    assert_eq!(store.count_memberships(&ada).await.unwrap(), 0);
}

/// A status implies the earlier ones, each read cursor only grows, and the call returns true if the requested cursor
/// moved.
pub async fn direct_read_cursors<S: Logs>(store: &S) {
    use DeliveryStatus::{Displayed, Read, Received};
    let log = log(store).await;
    store.allocate(&log, &allocation(9, "one")).await.unwrap();
    let (ada, bob) = (person("ada"), person("bob"));
    let of = async |id: &SubscriberId| {
        let read_cursors = head(store, &log).await.read_cursors;
        let read_cursors = read_cursors.get(id).copied().unwrap_or_default();
        (
            read_cursors.received,
            read_cursors.displayed,
            read_cursors.read,
        )
    };
    for (status, sequence, moved, then) in [
        (Received, 3, true, (3, 0, 0)),
        (Received, 3, false, (3, 0, 0)),
        (Received, 2, false, (3, 0, 0)),
        (Displayed, 2, true, (3, 2, 0)),
        (Displayed, 5, true, (5, 5, 0)),
        (Received, 4, false, (5, 5, 0)),
        (Read, 1, true, (5, 5, 1)),
        (Read, 7, true, (7, 7, 7)),
        (Displayed, 6, false, (7, 7, 7)),
        (Received, 7, false, (7, 7, 7)),
        (Read, 3, false, (7, 7, 7)),
        (Received, 9, true, (9, 7, 7)),
    ] {
        let raised = store
            .raise_direct_read_cursor(&log, &ada, status, sequence)
            .await;
        assert_eq!(raised.unwrap(), moved, "{status:?} {sequence}");
        assert_eq!(of(&ada).await, then, "{status:?} {sequence}");
        assert_eq!(
            of(&bob).await,
            (0, 0, 0),
            "the peer's cursors are unchanged"
        );
    }
    let before = head(store, &log).await;
    let at_once = (1..=9).rev().map(async |sequence| {
        contended(async || {
            store
                .raise_direct_read_cursor(&log, &bob, Read, sequence)
                .await
        })
        .await
    });
    let moved = join_all(at_once).await;
    assert!(moved.contains(&true));
    assert_eq!(of(&bob).await, (9, 9, 9));
    let after = head(store, &log).await;
    assert_eq!(
        (after.sequence, after.sent, after.lease),
        (before.sequence, before.sent, before.lease)
    );
}

/// A subscriber's conversations in pages, without those of other subscribers.
pub async fn conversations_in_pages<S: Logs + Channels>(store: &S) {
    let tenant = Tenant::new();
    let ada = tenant.subscriber("ada");
    let peers: Vec<SubscriberId> = ids(120).iter().map(|id| person(id)).collect();
    for peer in peers.iter().rev() {
        store
            .create_direct(&LogId::direct(&ada, peer), now())
            .await
            .unwrap();
    }
    for limit in [7, 60, 120, 500] {
        let found = walk(limit, async |after: Option<SubscriberId>| {
            store.conversations(&ada, after.as_ref(), limit).await
        });
        assert_eq!(found.await, peers);
    }
    let nobody = tenant.subscriber("nobody");
    let none = store.conversations(&nobody, None, 10).await.unwrap();
    assert!(none.items.is_empty() && !none.more);
}
