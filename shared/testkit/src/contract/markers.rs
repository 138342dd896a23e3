//! Markers: what makes a repeated message one event.

use futures::future::join_all;
use protocol::limits::HISTORY_DAYS;
use service::ports::{Logs, Marker};

use super::fixtures::{DAY, Tenant, contended, log, message_id, now, person, unique};

fn marker(sequence: u64) -> Marker {
    Marker {
        sequence,
        content_hash: "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9".to_owned(),
        nonce: unique(),
        at: now(),
    }
}

/// A marker is set once, replaced only by who knows it exactly, and kept as long as its event.
pub async fn markers<S: Logs>(store: &S) {
    let log = log(store).await;
    let (ada, id) = (person("ada"), message_id("m.1:2"));
    let (first, second) = (marker(1), marker(2));
    assert_eq!(store.marker(&log, &ada, &id).await.unwrap(), None);
    let nothing = store.replace_marker(&log, &ada, &id, &first, &second).await;
    assert!(!nothing.unwrap(), "there is none to replace");
    assert_eq!(store.marker(&log, &ada, &id).await.unwrap(), None);

    let set = store.set_marker(&log, &ada, &id, &first).await.unwrap();
    assert_eq!(set, Ok(()));
    for late in [&first, &second] {
        let there = store.set_marker(&log, &ada, &id, late).await.unwrap();
        assert_eq!(there.as_ref(), Err(&first));
        assert_eq!(
            store.marker(&log, &ada, &id).await.unwrap().as_ref(),
            Some(&first)
        );
    }
    let others = [
        Marker {
            sequence: 9,
            ..first.clone()
        },
        Marker {
            nonce: unique(),
            ..first.clone()
        },
    ];
    for other in &others {
        let replaced = store.replace_marker(&log, &ada, &id, other, &second).await;
        assert!(!replaced.unwrap());
        assert_eq!(
            store.marker(&log, &ada, &id).await.unwrap().as_ref(),
            Some(&first)
        );
    }
    let replaced = store.replace_marker(&log, &ada, &id, &first, &second).await;
    assert!(replaced.unwrap());
    assert_eq!(
        store.marker(&log, &ada, &id).await.unwrap().as_ref(),
        Some(&second)
    );
    let again = store
        .replace_marker(&log, &ada, &id, &first, &marker(3))
        .await;
    assert!(!again.unwrap());

    // It is of one log, one sender and one message, and no entry of the log.
    let (bob, next) = (person("bob"), message_id("m.1"));
    let elsewhere = Tenant::new().direct("ada", "bob");
    for (log, sender, id) in [
        (&log, &bob, &id),
        (&log, &ada, &next),
        (&elsewhere, &ada, &id),
    ] {
        let set = store.set_marker(log, sender, id, &first).await.unwrap();
        assert_eq!(set, Ok(()));
    }
    assert_eq!(
        store.marker(&log, &ada, &id).await.unwrap().as_ref(),
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

    let old = Marker {
        at: now().plus_seconds(-(HISTORY_DAYS + 1) * DAY),
        ..marker(4)
    };
    let id = message_id("old");
    store
        .set_marker(&log, &ada, &id, &old)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(store.marker(&log, &ada, &id).await.unwrap(), None);
    let replaced = store.replace_marker(&log, &ada, &id, &old, &first).await;
    assert!(!replaced.unwrap(), "it is absent");
    let set = store.set_marker(&log, &ada, &id, &first).await.unwrap();
    assert_eq!(set, Ok(()), "what is past its time is not in the way");
    assert_eq!(store.marker(&log, &ada, &id).await.unwrap(), Some(first));
}

/// Of many that send the same message at once one sets the marker, and of many that replace it one does.
pub async fn marker_race<S: Logs>(store: &S) {
    let log = log(store).await;
    let (ada, id) = (person("ada"), message_id("m"));
    let markers: Vec<Marker> = (1..=10).map(marker).collect();
    let sets = markers
        .iter()
        .map(|it| contended(async || store.set_marker(&log, &ada, &id, it).await));
    let answers = join_all(sets).await;
    let stands = store.marker(&log, &ada, &id).await.unwrap().unwrap();
    for (marker, answer) in markers.iter().zip(answers) {
        let expected = if *marker == stands {
            Ok(())
        } else {
            Err(stands.clone())
        };
        assert_eq!(answer, expected);
    }
    let others: Vec<&Marker> = markers.iter().filter(|it| **it != stands).collect();
    let (log, ada, id, old) = (&log, &ada, &id, &stands);
    let replaces = others
        .iter()
        .map(|new| contended(async || store.replace_marker(log, ada, id, old, new).await));
    let answers = join_all(replaces).await;
    let stands = store.marker(log, ada, id).await.unwrap().unwrap();
    for (marker, replaced) in others.iter().zip(answers) {
        assert_eq!(replaced, **marker == stands);
    }
}
