//! The lease of the request that sends a client's messages.

use futures::future::join_all;
use service::ports::{Attached, Lease, Sessions};

use super::Line;
use crate::contract::fixtures::contended;

/// One sender at a time, while the session is open. The lease is apart from the receiver's, and keeps nothing alive.
pub async fn session_senders<S: Sessions>(store: &S) {
    let line = Line::new();
    let begin = async |holder: &str, until: i64, at: i64| {
        let lease = line.lease(holder, until);
        let begun = store.begin_sending(&line.key, &lease, line.at(at)).await;
        begun.unwrap()
    };
    let end = async |holder: &str| store.end_sending(&line.key, holder).await.unwrap();
    end("one").await;
    assert_eq!(begin("one", 20, 0).await, Attached::Absent);
    assert_eq!(store.session(&line.key).await.unwrap(), None);

    let first = line.begin(store, "first").await;
    let Attached::Held(sending) = begin("two", 10, 0).await else {
        panic!("no other request sends");
    };
    assert_eq!(sending.sender, Some(line.lease("two", 10)));
    assert_eq!(
        (&sending.lease, sending.alive_until),
        (&first.lease, first.alive_until)
    );
    assert_eq!(
        begin("three", 20, 9).await,
        Attached::Stands(sending.clone())
    );
    let Attached::Held(renewed) = begin("two", 12, 1).await else {
        panic!("the same holder may begin again");
    };
    assert_eq!(renewed.sender, Some(line.lease("two", 12)));

    // The receiver's changes leave the sender's lease as it is.
    line.renew(store, &line.hold("one", 0, &[], 20))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(line.read(store).await.sender, Some(line.lease("two", 12)));

    // Only the holder ends it, once or twice.
    end("three").await;
    assert!(line.read(store).await.sender.is_some());
    for _ in 0..2 {
        end("two").await;
        assert_eq!(line.read(store).await.sender, None);
    }

    // A sender that died blocks others until its lease ends.
    assert!(matches!(begin("three", 20, 10).await, Attached::Held(_)));
    assert!(matches!(begin("four", 30, 19).await, Attached::Stands(_)));
    assert!(matches!(begin("four", 24, 20).await, Attached::Held(_)));
    end("three").await;
    assert_eq!(line.read(store).await.sender, Some(line.lease("four", 24)));

    // Nothing is sent to a session that is closing or dead. The next life has no sender.
    line.close(store, 4_401, 21).await;
    assert!(matches!(begin("five", 30, 24).await, Attached::Stands(it) if it.closing.is_some()));
    assert!(
        matches!(begin("six", 40, 25).await, Attached::Stands(it) if !it.is_alive(line.at(25)))
    );
    let second = line.fresh("second", line.lease("one", 60));
    let begun = store.begin_session(&line.key, &second, line.at(25)).await;
    assert!(begun.unwrap());
    assert_eq!(line.read(store).await.sender, None);
}

/// Of many that send at once one succeeds.
pub async fn session_sender_race<S: Sessions>(store: &S) {
    let line = Line::new();
    line.begin(store, "first").await;
    let leases: Vec<Lease> = (0..8).map(|n| line.lease(&format!("s{n}"), 20)).collect();
    let begins = leases
        .iter()
        .map(|lease| contended(async || store.begin_sending(&line.key, lease, line.at(1)).await));
    let begun = join_all(begins).await;
    let held = begun.iter().filter(|it| matches!(it, Attached::Held(_)));
    assert_eq!(held.count(), 1);
}
