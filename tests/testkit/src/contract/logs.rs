//! Logs: slots are allocated once, and entries fill slots.

use futures::future::join_all;
use protocol::{
    ConnectionId, EventBody, LeaveReason, LogId, change::LogEntry, limits::CONTENT_BYTES,
};
use service::ports::{AllocateError, Allocation, Logs, Slice};

use super::fixtures::{
    DAY, Tenant, allocation as allocation_of, contended, entry, head, ids, json, lease, log,
    message, message_id, now, person, unique, void,
};

/// Slots are consecutive. A writer that allocates while the lease is free gets it.
pub async fn allocation<S: Logs>(store: &S) {
    let absent = Tenant::new().direct("ada", "bob");
    assert_eq!(store.head(&absent).await.unwrap(), None);
    let refused = store.allocate(&absent, &allocation_of(1, "one")).await;
    assert!(
        matches!(refused, Err(AllocateError::NotActive)),
        "{refused:?}"
    );
    assert_eq!(
        store.head(&absent).await.unwrap(),
        None,
        "allocating creates no log"
    );

    let log = log(store).await;
    let before = head(store, &log).await;
    assert_eq!((before.active, before.sequence, before.sent), (true, 0, 0));
    assert_eq!(before.lease, None);

    let first = allocation_of(1, "one");
    let taken = store.allocate(&log, &first).await.unwrap();
    assert_eq!((taken.active, taken.sequence, taken.sent), (true, 1, 0));
    assert_eq!(taken.lease.as_ref(), Some(&first.lease));
    assert_eq!(taken.allocated_at, first.at);
    assert_eq!(taken.read_cursors, before.read_cursors);
    assert_eq!(head(store, &log).await, taken);

    let second = Allocation {
        at: first.at.plus_seconds(1),
        ..allocation_of(3, "two")
    };
    let further = store.allocate(&log, &second).await.unwrap();
    assert_eq!(further.sequence, 4);
    assert_eq!(further.lease, taken.lease, "another holder has the lease");
    assert_eq!(further.allocated_at, second.at);
    assert_eq!(further.removal_at, None);
    assert_eq!(head(store, &log).await, further);

    let removal = Allocation {
        at: second.at.plus_seconds(1),
        removal: true,
        ..allocation_of(1, "two")
    };
    let removed = store.allocate(&log, &removal).await.unwrap();
    assert_eq!(removed.removal_at, Some(removal.at));
    let later = Allocation {
        at: removal.at.plus_seconds(1),
        ..allocation_of(1, "two")
    };
    let later = store.allocate(&log, &later).await.unwrap();
    assert_eq!(later.removal_at, Some(removal.at), "it stays in the head");
}

/// Of any number of concurrent allocations each gets its own slots, without a gap.
pub async fn concurrent_allocation<S: Logs>(store: &S) {
    let log = log(store).await;
    let asks = (0..60_u64).map(async |n| {
        let allocation = allocation_of(1 + n % 3, &format!("holder {n}"));
        let allocated = contended(async || match store.allocate(&log, &allocation).await {
            Ok(head) => Ok(head),
            Err(AllocateError::Fault(fault)) => Err(fault),
            Err(AllocateError::NotActive) => panic!("the log is active"),
        });
        let head = allocated.await;
        let places = (head.sequence + 1 - allocation.count)..=head.sequence;
        (places.collect::<Vec<_>>(), head.lease.unwrap().holder)
    });
    let answers = join_all(asks).await;
    let mut places: Vec<u64> = answers
        .iter()
        .flat_map(|(places, _)| places.clone())
        .collect();
    places.sort_unstable();
    assert_eq!(places, (1..=120).collect::<Vec<_>>());
    assert_eq!(head(store, &log).await.sequence, 120);
    let holder = &answers[0].1;
    assert!(
        answers.iter().all(|(_, it)| it == holder),
        "one writer got the lease"
    );
}

/// Allocating the last slot closes the log in the same write.
pub async fn closed_log<S: Logs>(store: &S) {
    let log = log(store).await;
    store
        .allocate(&log, &allocation_of(1, "one"))
        .await
        .unwrap();
    let last = Allocation {
        close: true,
        ..allocation_of(1, "one")
    };
    let closed = store.allocate(&log, &last).await.unwrap();
    assert_eq!((closed.active, closed.sequence), (false, 2));
    for again in [last, allocation_of(1, "two")] {
        let refused = store.allocate(&log, &again).await;
        assert!(
            matches!(refused, Err(AllocateError::NotActive)),
            "{refused:?}"
        );
        assert_eq!(head(store, &log).await, closed);
    }
    // The events it already holds can still be pushed.
    let until = now().plus_seconds(60);
    let renewed = store.renew(&log, "one", until, 2).await.unwrap().unwrap();
    assert_eq!((renewed.active, renewed.sent), (false, 2));
    assert!(store.release(&log, "one", 2).await.unwrap());
    // Creating the conversation again does not reopen it.
    store.create_direct(&log, now()).await.unwrap();
    assert!(!head(store, &log).await.active);
}

/// More logs than one batch takes, in any order, some twice, most of them absent.
pub async fn heads_in_batches<S: Logs>(store: &S) {
    let tenant = Tenant::new();
    let logs: Vec<LogId> = ids(230).iter().map(|id| tenant.direct("ada", id)).collect();
    for log in logs.iter().step_by(23) {
        store.create_direct(log, now()).await.unwrap();
        store.allocate(log, &allocation_of(2, "one")).await.unwrap();
    }
    let asked: Vec<LogId> = logs.iter().rev().chain(&logs[..30]).cloned().collect();
    let found = store.heads(&asked).await.unwrap();
    for (n, log) in logs.iter().enumerate() {
        assert_eq!(found.contains_key(log), n % 23 == 0);
        assert_eq!(found.get(log), store.head(log).await.unwrap().as_ref());
    }
    assert!(store.heads(&[]).await.unwrap().is_empty());
}

/// Every kind of event is read back as it was put. An entry is never overwritten.
pub async fn entries<S: Logs>(store: &S) {
    let log = log(store).await;
    assert_eq!(store.entry(&log, 1).await.unwrap(), None);
    let bodies = [
        EventBody::Message {
            message_id: message_id("m.1"),
            from: person("ada"),
            content: json("null"),
            attributes: Some(json("{}")),
        },
        EventBody::Message {
            message_id: message_id("m.2"),
            from: person("ada"),
            content: json("\"\""),
            attributes: None,
        },
        EventBody::SubscriberJoined {
            subscriber_id: person("bob"),
            administrator: true,
        },
        EventBody::SubscriberJoined {
            subscriber_id: person("cyd"),
            administrator: false,
        },
        EventBody::SubscriberLeft {
            subscriber_id: person("bob"),
            reason: LeaveReason::Left,
        },
        EventBody::SubscriberLeft {
            subscriber_id: person("bob"),
            reason: LeaveReason::Removed,
        },
        EventBody::AdministratorChanged {
            subscriber_id: person("cyd"),
            administrator: true,
        },
        EventBody::ChannelUpdated {
            name: "ünïcödé 😀".to_owned(),
            attributes: json("[1.0]"),
        },
        EventBody::ChannelDeleted,
        EventBody::Void,
    ];
    let mut put = Vec::new();
    for (sequence, body) in (1..).zip(bodies) {
        let entry = LogEntry {
            origin: (sequence % 2 == 0).then(|| ConnectionId("Lc1x-9_d=".to_owned())),
            ..entry(sequence, body)
        };
        assert_eq!(store.put_entry(&log, &entry).await.unwrap(), Ok(()));
        put.push(entry);
    }
    for entry in &put {
        let sequence = entry.event.sequence;
        assert_eq!(
            store.entry(&log, sequence).await.unwrap().as_ref(),
            Some(entry)
        );
        for late in [message(sequence, "1"), entry.clone()] {
            let there = store.put_entry(&log, &late).await.unwrap();
            assert_eq!(there.as_ref(), Err(entry));
        }
    }
    let all = store
        .entries_after(&log, 0, u64::MAX >> 11, 100)
        .await
        .unwrap();
    assert_eq!(all.entries[..], put[..all.entries.len()]);
}

/// Ranges of a log, forwards and backwards, with gaps, in pages.
pub async fn entries_in_pages<S: Logs>(store: &S) {
    let log = log(store).await;
    let mut put = Vec::new();
    // Sequences of several digits, because ordering them as text would give another result. The gaps are at every third
    // slot.
    for sequence in (1..=110).filter(|it| it % 3 != 0) {
        let entry = message(sequence, &sequence.to_string());
        store.put_entry(&log, &entry).await.unwrap().unwrap();
        put.push(entry);
    }
    let within = |after: u64, until: u64| -> Vec<LogEntry> {
        let range = after + 1..=until;
        let within = put.iter().filter(|it| range.contains(&it.event.sequence));
        within.cloned().collect()
    };
    for (after, until) in [
        (0, 110),
        (0, 1_000),
        (4, 5),
        (5, 6),
        (8, 77),
        (110, 200),
        (7, 7),
        (9, 4),
    ] {
        for limit in [1, 7, 100] {
            assert_eq!(
                forwards(store, &log, after, until, limit).await,
                within(after, until)
            );
        }
    }
    for before in [112, 1_000, 111, 76, 2, 1] {
        for limit in [1, 7, 100] {
            assert_eq!(
                backwards(store, &log, before, limit).await,
                within(0, before - 1)
            );
        }
    }
}

async fn forwards<S: Logs>(
    store: &S,
    log: &LogId,
    after: u64,
    until: u64,
    limit: usize,
) -> Vec<LogEntry> {
    let mut all: Vec<LogEntry> = Vec::new();
    loop {
        let from = all.last().map_or(after, |it| it.event.sequence);
        let slice = store.entries_after(log, from, until, limit).await.unwrap();
        assert_fits(&slice, limit, all.is_empty());
        all.extend(slice.entries);
        if !slice.more {
            return all;
        }
    }
}

async fn backwards<S: Logs>(store: &S, log: &LogId, before: u64, limit: usize) -> Vec<LogEntry> {
    let mut all: Vec<LogEntry> = Vec::new();
    loop {
        let to = all.first().map_or(before, |it| it.event.sequence);
        let slice = store.entries_before(log, to, limit).await.unwrap();
        assert_fits(&slice, limit, all.is_empty());
        all.splice(..0, slice.entries);
        if !slice.more {
            return all;
        }
    }
}

fn assert_fits(slice: &Slice, limit: usize, first: bool) {
    assert!(slice.entries.len() <= limit, "at most `limit` entries");
    let ascending = slice.entries.is_sorted_by_key(|it| it.event.sequence);
    assert!(ascending, "ascending, also when read backwards");
    assert!(
        !slice.entries.is_empty() || (first && !slice.more),
        "the previous page announced more"
    );
}

/// A range larger than one database response (1 MB) is never silently truncated.
pub async fn heavy_pages<S: Logs>(store: &S) {
    let log = log(store).await;
    let mut put = Vec::new();
    for sequence in 1..=90 {
        let entry = message(sequence, &format!("\"{}\"", "x".repeat(CONTENT_BYTES - 2)));
        store.put_entry(&log, &entry).await.unwrap().unwrap();
        put.push(entry);
    }
    assert!(forwards(store, &log, 0, 90, 100).await == put);
    assert!(backwards(store, &log, 91, 100).await == put);
}

/// An entry older than the history limit is absent, even if it was not yet removed.
pub async fn expired_entries<S: Logs>(store: &S) {
    let log = log(store).await;
    let kept = protocol::limits::HISTORY_DAYS * DAY;
    for (sequence, age) in [(1, kept + DAY), (2, kept + 60), (3, kept - DAY), (4, 0)] {
        let mut entry = void(sequence);
        entry.event.timestamp = now().plus_seconds(-age);
        store.put_entry(&log, &entry).await.unwrap().unwrap();
    }
    let there: Vec<u64> = forwards(store, &log, 0, 10, 100)
        .await
        .iter()
        .map(|it| it.event.sequence)
        .collect();
    assert_eq!(there, [3, 4]);
    assert_eq!(backwards(store, &log, 10, 100).await.len(), 2);
    assert_eq!(backwards(store, &log, 10, 1).await.len(), 2);
    for (sequence, stands) in [(1, false), (2, false), (3, true), (4, true)] {
        let found = store.entry(&log, sequence).await.unwrap();
        assert_eq!(found.is_some(), stands, "{sequence}");
    }
}

/// Of many that put an entry into one slot one succeeds, and all others learn which entry it holds.
pub async fn entry_race<S: Logs>(store: &S) {
    let log = log(store).await;
    for sequence in 1..=5 {
        let entries: Vec<LogEntry> = (0..8).map(|_| entry(sequence, EventBody::Void)).collect();
        let puts = entries
            .iter()
            .map(|it| contended(async || store.put_entry(&log, it).await));
        let answers = join_all(puts).await;
        let stands = store.entry(&log, sequence).await.unwrap().unwrap();
        for (entry, answer) in entries.iter().zip(answers) {
            let expected = if *entry == stands {
                Ok(())
            } else {
                Err(stands.clone())
            };
            assert_eq!(answer, expected);
        }
    }
    // A lease and its holder do not affect entries.
    let other = lease(&unique());
    let taken = store.take_lease(&log, None, &other).await;
    assert!(taken.unwrap().is_some());
    assert_eq!(store.put_entry(&log, &void(6)).await.unwrap(), Ok(()));
}
