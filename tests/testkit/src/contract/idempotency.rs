//! Idempotency records: they make a repeated message one event.

use futures::future::join_all;
use protocol::limits::HISTORY_DAYS;
use service::ports::{IdempotencyRecord, Logs};

use super::fixtures::{DAY, Tenant, contended, log, message_id, now, person, unique};

fn record(sequence: u64) -> IdempotencyRecord {
    IdempotencyRecord {
        sequence,
        content_hash: "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9".to_owned(),
        nonce: unique(),
        at: now(),
    }
}

/// A record is set once, is replaced only by a caller that knows it exactly, and is kept as long as its event.
pub async fn idempotency_records<S: Logs>(store: &S) {
    let log = log(store).await;
    let (ada, id) = (person("ada"), message_id("m.1:2"));
    let (first, second) = (record(1), record(2));
    assert_eq!(
        store.idempotency_record(&log, &ada, &id).await.unwrap(),
        None
    );
    let nothing = store
        .replace_idempotency_record(&log, &ada, &id, &first, &second)
        .await;
    assert!(!nothing.unwrap(), "there is no record to replace");
    assert_eq!(
        store.idempotency_record(&log, &ada, &id).await.unwrap(),
        None
    );

    let set = store
        .set_idempotency_record(&log, &ada, &id, &first)
        .await
        .unwrap();
    assert_eq!(set, Ok(()));
    for late in [&first, &second] {
        let there = store
            .set_idempotency_record(&log, &ada, &id, late)
            .await
            .unwrap();
        assert_eq!(there.as_ref(), Err(&first));
        assert_eq!(
            store
                .idempotency_record(&log, &ada, &id)
                .await
                .unwrap()
                .as_ref(),
            Some(&first)
        );
    }
    let others = [
        IdempotencyRecord {
            sequence: 9,
            ..first.clone()
        },
        IdempotencyRecord {
            nonce: unique(),
            ..first.clone()
        },
    ];
    for other in &others {
        let replaced = store
            .replace_idempotency_record(&log, &ada, &id, other, &second)
            .await;
        assert!(!replaced.unwrap());
        assert_eq!(
            store
                .idempotency_record(&log, &ada, &id)
                .await
                .unwrap()
                .as_ref(),
            Some(&first)
        );
    }
    let replaced = store
        .replace_idempotency_record(&log, &ada, &id, &first, &second)
        .await;
    assert!(replaced.unwrap());
    assert_eq!(
        store
            .idempotency_record(&log, &ada, &id)
            .await
            .unwrap()
            .as_ref(),
        Some(&second)
    );
    let again = store
        .replace_idempotency_record(&log, &ada, &id, &first, &record(3))
        .await;
    assert!(!again.unwrap());

    // It belongs to one log, one sender and one message, and is not an entry of the log.
    let (bob, next) = (person("bob"), message_id("m.1"));
    let elsewhere = Tenant::new().direct("ada", "bob");
    for (log, sender, id) in [
        (&log, &bob, &id),
        (&log, &ada, &next),
        (&elsewhere, &ada, &id),
    ] {
        let set = store
            .set_idempotency_record(log, sender, id, &first)
            .await
            .unwrap();
        assert_eq!(set, Ok(()));
    }
    assert_eq!(
        store
            .idempotency_record(&log, &ada, &id)
            .await
            .unwrap()
            .as_ref(),
        Some(&second)
    );
    for log in [&log, &elsewhere] {
        assert_eq!(
            store.entries_after(log, 0, 100, 10).await.unwrap().entries,
            []
        );
        assert_eq!(
            store.entries_before(log, 100, 10).await.unwrap().entries,
            []
        );
    }

    let old = IdempotencyRecord {
        at: now().plus_seconds(-(HISTORY_DAYS + 1) * DAY),
        ..record(4)
    };
    let id = message_id("old");
    store
        .set_idempotency_record(&log, &ada, &id, &old)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        store.idempotency_record(&log, &ada, &id).await.unwrap(),
        None
    );
    let replaced = store
        .replace_idempotency_record(&log, &ada, &id, &old, &first)
        .await;
    assert!(!replaced.unwrap(), "the record is absent");
    let set = store
        .set_idempotency_record(&log, &ada, &id, &first)
        .await
        .unwrap();
    assert_eq!(set, Ok(()), "an expired record does not block");
    assert_eq!(
        store.idempotency_record(&log, &ada, &id).await.unwrap(),
        Some(first)
    );
}

/// Of many senders of the same message one sets the record, and of many that replace it one succeeds.
pub async fn idempotency_record_race<S: Logs>(store: &S) {
    let log = log(store).await;
    let (ada, id) = (person("ada"), message_id("m"));
    let idempotency_records: Vec<IdempotencyRecord> = (1..=10).map(record).collect();
    let sets = idempotency_records
        .iter()
        .map(|it| contended(async || store.set_idempotency_record(&log, &ada, &id, it).await));
    let answers = join_all(sets).await;
    let stands = store
        .idempotency_record(&log, &ada, &id)
        .await
        .unwrap()
        .unwrap();
    for (record, answer) in idempotency_records.iter().zip(answers) {
        let expected = if *record == stands {
            Ok(())
        } else {
            Err(stands.clone())
        };
        assert_eq!(answer, expected);
    }
    let others: Vec<&IdempotencyRecord> = idempotency_records
        .iter()
        .filter(|it| **it != stands)
        .collect();
    let (log, ada, id, old) = (&log, &ada, &id, &stands);
    let replaces = others.iter().map(|new| {
        contended(async || {
            store
                .replace_idempotency_record(log, ada, id, old, new)
                .await
        })
    });
    let answers = join_all(replaces).await;
    let stands = store
        .idempotency_record(log, ada, id)
        .await
        .unwrap()
        .unwrap();
    for (record, replaced) in others.iter().zip(answers) {
        assert_eq!(replaced, **record == stands);
    }
}
