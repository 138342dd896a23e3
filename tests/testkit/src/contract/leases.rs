//! Leases: which function pushes a log's events, and which logs have unpushed events.

use futures::future::{join, join_all};
use protocol::LogId;
use service::ports::{Head, Lease, Logs, SHARDS};

use super::fixtures::{Tenant, allocation, contended, head, ids, lease, log, now, walk_late};

/// Only its holder renews or releases a lease, and only a caller that knows the old lease exactly takes it over.
pub async fn leases<S: Logs>(store: &S) {
    let absent = Tenant::new().direct("ada", "bob");
    let until = now().plus_seconds(60);
    assert_eq!(store.renew(&absent, "one", until, 0).await.unwrap(), None);
    assert!(!store.release(&absent, "one", 0).await.unwrap());
    let taken = store.take_lease(&absent, None, &lease("one")).await;
    assert_eq!(taken.unwrap(), None);
    assert_eq!(
        store.head(&absent).await.unwrap(),
        None,
        "no call creates the log"
    );

    let log = log(store).await;
    let idle = head(store, &log).await;
    assert_eq!(store.renew(&log, "one", until, 0).await.unwrap(), None);
    assert!(!store.release(&log, "one", 0).await.unwrap());
    let (one, two) = (lease("one"), lease("two"));
    let taken = store.take_lease(&log, Some(&one), &two).await;
    assert_eq!(taken.unwrap(), None);
    assert_eq!(head(store, &log).await, idle);

    // The allocating writer holds the lease. Renewing it records what was pushed.
    let taken = store.allocate(&log, &allocation(2, "one")).await.unwrap();
    assert_eq!(store.renew(&log, "two", until, 2).await.unwrap(), None);
    assert_eq!(head(store, &log).await, taken);
    let renewed = store.renew(&log, "one", until, 1).await.unwrap().unwrap();
    assert_eq!((renewed.sent, renewed.sequence), (1, 2));
    let held = Lease {
        holder: "one".to_owned(),
        until,
    };
    assert_eq!(renewed.lease.as_ref(), Some(&held));
    assert_eq!(head(store, &log).await, renewed);

    // Only the holder releases it, and only if nothing is left to push.
    assert!(!store.release(&log, "two", 2).await.unwrap());
    assert!(
        !store.release(&log, "one", 1).await.unwrap(),
        "one event is not pushed"
    );
    assert_eq!(head(store, &log).await, renewed);
    assert!(store.release(&log, "one", 2).await.unwrap());
    let free = head(store, &log).await;
    assert_eq!((free.lease.as_ref(), free.sent), (None, 2));
    assert!(
        !store.release(&log, "one", 2).await.unwrap(),
        "the lease is free"
    );

    // The lease is taken while it is free, or by a caller that knows both its holder and its time.
    let (two, three) = (lease("two"), lease("three"));
    let taken = store.take_lease(&log, None, &two).await.unwrap();
    let held = Some(two.clone());
    assert_eq!(
        taken,
        Some(Head {
            lease: held,
            ..free
        }),
        "the rest of the head is unchanged"
    );
    assert_eq!(taken, store.head(&log).await.unwrap());
    let taken = store.take_lease(&log, None, &three).await;
    assert_eq!(taken.unwrap(), None);
    let later = Lease {
        until: two.until.plus_seconds(1),
        ..two.clone()
    };
    let foreign = Lease {
        holder: "four".to_owned(),
        ..two.clone()
    };
    for wrong in [&later, &foreign] {
        let taken = store.take_lease(&log, Some(wrong), &three).await;
        assert_eq!(taken.unwrap(), None);
        assert_eq!(head(store, &log).await.lease.as_ref(), Some(&two));
    }
    let taken = store.take_lease(&log, Some(&two), &three).await;
    assert!(taken.unwrap().is_some());
    assert_eq!(head(store, &log).await.lease, Some(three));
    assert_eq!(
        store.renew(&log, "two", until, 2).await.unwrap(),
        None,
        "the lease was handed on"
    );
    assert!(!store.release(&log, "two", 2).await.unwrap());
    let further = store.allocate(&log, &allocation(1, "five")).await.unwrap();
    assert_eq!(further.lease.unwrap().holder, "three");
    assert!(
        !store.release(&log, "three", 2).await.unwrap(),
        "allocated meanwhile"
    );
    assert!(store.release(&log, "three", 3).await.unwrap());
    let again = store.allocate(&log, &allocation(1, "five")).await.unwrap();
    assert_eq!(again.lease.unwrap().holder, "five");
}

/// Of many that take a lease at once one gets it. Releasing and allocating concurrently leaves no event unpushed.
pub async fn lease_race<S: Logs>(store: &S) {
    let log = log(store).await;
    let mut stands: Option<Lease> = None;
    for round in 0..4 {
        let leases: Vec<Lease> = (0..8).map(|n| lease(&format!("{round}-{n}"))).collect();
        let takes = leases
            .iter()
            .map(|new| contended(async || store.take_lease(&log, stands.as_ref(), new).await));
        let taken = join_all(takes).await;
        let now_held = head(store, &log).await.lease;
        for (lease, taken) in leases.iter().zip(taken) {
            assert_eq!(taken.is_some(), now_held.as_ref() == Some(lease));
        }
        assert!(now_held.is_some());
        stands = now_held;
    }
    let mut holder = stands.unwrap().holder;
    for n in 0..8 {
        let sent = head(store, &log).await.sequence;
        let new = format!("writer {n}");
        let allocation = allocation(1, &new);
        let release = contended(async || store.release(&log, &holder, sent).await);
        let (released, allocated) = join(release, store.allocate(&log, &allocation)).await;
        let held_by = allocated.unwrap().lease.unwrap().holder;
        let stands = head(store, &log).await;
        if released {
            assert_eq!(stands.sent, sent);
            assert_eq!(
                held_by, new,
                "an allocation after the release takes the lease"
            );
        } else {
            assert_eq!(
                held_by, holder,
                "a holder that could not release pushes the new event"
            );
        }
        assert_eq!(stands.lease.unwrap().holder, held_by);
        holder = held_by;
    }
}

/// A log that may hold unpushed events is listed in one shard until it is settled. Settling fails if events are
/// unpushed.
pub async fn undrained_logs<S: Logs>(store: &S) {
    let tenant = Tenant::new();
    let mut logs: Vec<LogId> = ids(40).iter().map(|id| tenant.direct("ada", id)).collect();
    for log in &logs {
        store.create_direct(log, now()).await.unwrap();
        store.allocate(log, &allocation(1, "one")).await.unwrap();
    }
    logs.sort();
    eventually_undrained(store, &tenant, &logs).await;
    for log in &logs {
        assert!(!store.settle(log).await.unwrap(), "one event is not pushed");
    }
    eventually_undrained(store, &tenant, &logs).await;

    let kept = logs.split_off(20);
    for log in &logs {
        assert!(store.release(log, "one", 1).await.unwrap());
        assert!(store.settle(log).await.unwrap());
        assert!(store.settle(log).await.unwrap(), "settling again succeeds");
    }
    eventually_undrained(store, &tenant, &kept).await;
    store
        .allocate(&logs[0], &allocation(1, "two"))
        .await
        .unwrap();
    let mut expected = kept.clone();
    expected.push(logs[0].clone());
    expected.sort();
    eventually_undrained(store, &tenant, &expected).await;
}

/// Walks the shards until they list `expected`, because the index may lag.
async fn eventually_undrained<S: Logs>(store: &S, tenant: &Tenant, expected: &[LogId]) {
    let mut found = Vec::new();
    for _ in 0..50 {
        found.clear();
        for shard in 0..SHARDS {
            let listed = walk_late(3, async |after: Option<LogId>| {
                store.undrained(shard, after.as_ref(), 3).await
            });
            let listed = listed.await;
            found.extend(listed.into_iter().filter(|it| *it.domain() == tenant.0));
        }
        found.sort();
        if found == expected {
            return;
        }
    }
    assert_eq!(found, expected);
}
