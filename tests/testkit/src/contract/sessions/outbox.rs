//! A session's outbox: its order, its limits, and concurrent pushes.

use futures::future::join_all;
use service::ports::{OUTBOX_BYTES, OUTBOX_MESSAGES, Pushed, Sessions};

use super::Line;
use crate::contract::fixtures::contended;

/// Messages wait in order, and each is removed once, after it was written.
pub async fn session_outbox<S: Sessions>(store: &S) {
    let line = Line::new();
    assert_eq!(line.push(store, &["none"]).await, Pushed::Gone);
    line.begin(store, "first").await;
    let waiting = Pushed::Waiting(None);
    assert_eq!(line.push(store, &["a", "\"\\é\u{2028}😀"]).await, waiting);
    assert_eq!(line.push(store, &["c"]).await, waiting);
    let all = ["a", "\"\\é\u{2028}😀", "c"];
    assert_eq!(line.read(store).await.outbox, all);

    let hold = line.hold("one", 0, &all[..2], 21);
    for _ in 0..2 {
        let held = store.hold_session(&line.key, &hold).await.unwrap().unwrap();
        assert_eq!((held.outbox, held.removed), (vec!["c".to_owned()], 2));
    }
    let stale = line
        .renew(store, &line.hold("one", 0, &["c"], 30))
        .await
        .unwrap();
    assert_eq!(stale, None, "the outbox has changed");
    assert_eq!(line.push(store, &["d"]).await, waiting);
    let released = line
        .give_up(store, &line.hold("one", 2, &["c"], 5))
        .await
        .unwrap();
    assert!(released);
    let left = line.read(store).await;
    assert_eq!((left.outbox, left.removed), (vec!["d".to_owned()], 3));

    // Pushed while no receiver is attached. A push to a dead session fails.
    assert_eq!(line.push(store, &["e"]).await, waiting);
    let id = line.id("first");
    let dead = store.push_to_session(&id, &["f"], line.at(5)).await;
    assert_eq!(dead.unwrap(), Pushed::Gone);
    assert_eq!(line.read(store).await.outbox, ["d", "e"]);
}

/// Concurrent pushes are all stored, each contiguous, in one order.
pub async fn session_push_race<S: Sessions>(store: &S) {
    let line = Line::new();
    line.begin(store, "first").await;
    let pairs: Vec<[String; 2]> = (0..20)
        .map(|n| [format!("{n}a"), format!("{n}b")])
        .collect();
    let pushes = pairs.iter().map(|[a, b]| {
        contended(async || {
            let id = line.id("first");
            store.push_to_session(&id, &[a, b], line.start).await
        })
    });
    for pushed in join_all(pushes).await {
        assert_eq!(pushed, Pushed::Waiting(None));
    }
    let waiting = line.read(store).await.outbox;
    let mut found: Vec<&[String]> = waiting.chunks(2).collect();
    found.sort();
    let mut expected: Vec<&[String]> = pairs.iter().map(<[String; 2]>::as_slice).collect();
    expected.sort();
    assert_eq!(found, expected);
}

/// An outbox has a limit of messages and of bytes. Removing messages makes room again.
pub async fn session_outbox_full<S: Sessions>(store: &S) {
    let line = Line::new();
    line.begin(store, "first").await;
    let waiting = Pushed::Waiting(None);
    let many = vec!["x"; OUTBOX_MESSAGES - 1];
    assert_eq!(line.push(store, &many).await, waiting);
    assert_eq!(line.push(store, &["y", "z"]).await, Pushed::Full);
    assert_eq!(line.push(store, &["y"]).await, waiting);
    assert_eq!(line.push(store, &["z"]).await, Pushed::Full);
    let mut written = many.clone();
    written.push("y");
    let held = line
        .renew(store, &line.hold("one", 0, &written, 20))
        .await
        .unwrap();
    assert!(held.unwrap().outbox.is_empty());

    let half = "h".repeat(OUTBOX_BYTES / 2);
    assert_eq!(line.push(store, &[&half]).await, waiting);
    assert_eq!(line.push(store, &[&half]).await, waiting);
    assert_eq!(line.push(store, &["z"]).await, Pushed::Full);
    let seen = u64::try_from(OUTBOX_MESSAGES).unwrap();
    let held = line
        .renew(store, &line.hold("one", seen, &[&half], 20))
        .await
        .unwrap();
    assert_eq!(held.unwrap().outbox.len(), 1);
    assert_eq!(line.push(store, &[&half]).await, waiting);
    assert_eq!(line.push(store, &[&half]).await, Pushed::Full);
}
