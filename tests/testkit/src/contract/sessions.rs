//! SockJS sessions over HTTP.

use futures::future::join_all;
use protocol::{ConnectionId, Timestamp};
use service::{
    Identity,
    ports::{
        Attached, Closing, Doorbell, Fault, Framing, Hold, LINGER, Lease, Minute, Pushed, Session,
        SessionId, SessionKey, Sessions, TokenHash,
    },
};

use super::fixtures::{Tenant, contended, now, unique, walk_late};

mod outbox;
mod sender;

pub use outbox::{session_outbox, session_outbox_full, session_push_race};
pub use sender::{session_sender_race, session_senders};

/// One session, and the calls that a suite makes on it.
struct Line {
    key: SessionKey,
    identity: Identity,
    /// The whole second in which the suite began.
    start: Timestamp,
}

impl Line {
    fn new() -> Self {
        let token = TokenHash::of(&unique());
        Self {
            key: SessionKey::of(&token, "session"),
            identity: Identity {
                subscriber: Tenant::new().subscriber("ada"),
                token,
                token_expires: now().plus_seconds(3_600),
                jti: None,
                framing: Framing::Session,
            },
            start: now(),
        }
    }

    fn at(&self, seconds: i64) -> Timestamp {
        self.start.plus_seconds(seconds)
    }

    fn lease(&self, holder: &str, seconds: i64) -> Lease {
        Lease {
            holder: holder.to_owned(),
            until: self.at(seconds),
        }
    }

    fn id(&self, incarnation: &str) -> SessionId {
        SessionId {
            key: self.key.clone(),
            incarnation: incarnation.to_owned(),
        }
    }

    fn fresh(&self, incarnation: &str, lease: Lease) -> Session {
        Session::new(incarnation.to_owned(), self.identity.clone(), lease)
    }

    /// Begins with the receiver `one` attached for 20 seconds.
    async fn begin<S: Sessions>(&self, store: &S, incarnation: &str) -> Session {
        let session = self.fresh(incarnation, self.lease("one", 20));
        assert!(
            store
                .begin_session(&self.key, &session, self.start)
                .await
                .unwrap()
        );
        session
    }

    fn hold(&self, holder: &str, seen: u64, written: &[&str], seconds: i64) -> Hold {
        Hold {
            holder: holder.to_owned(),
            seen,
            written: written.len(),
            bytes: written.iter().map(|it| it.len()).sum(),
            until: self.at(seconds),
            now: self.start,
        }
    }

    async fn renew<S: Sessions>(&self, store: &S, hold: &Hold) -> Result<Option<Session>, Fault> {
        store.hold_session(&self.key, hold).await
    }

    async fn give_up<S: Sessions>(&self, store: &S, hold: &Hold) -> Result<bool, Fault> {
        store.release_session(&self.key, hold).await
    }

    async fn close<S: Sessions>(&self, store: &S, code: u16, at: i64) -> Option<ConnectionId> {
        let (id, closing) = (self.id("first"), closing(code));
        let closed = store.close_session(&id, &closing, self.at(at)).await;
        closed.unwrap()
    }

    async fn push<S: Sessions>(&self, store: &S, messages: &[&str]) -> Pushed {
        let id = self.id("first");
        store
            .push_to_session(&id, messages, self.start)
            .await
            .unwrap()
    }

    async fn read<S: Sessions>(&self, store: &S) -> Session {
        store.session(&self.key).await.unwrap().unwrap()
    }
}

fn closing(code: u16) -> Closing {
    Closing {
        code,
        reason: format!("reason \"{code}\""),
    }
}

/// A session begins only if none is alive, and once. The next life has another incarnation.
pub async fn session_begins<S: Sessions>(store: &S) {
    let line = Line::new();
    assert_eq!(store.session(&line.key).await.unwrap(), None);
    let first = line.begin(store, "first").await;
    assert_eq!(line.read(store).await, first);
    assert!(first.is_open(line.at(24)) && !first.is_alive(line.at(20).plus(LINGER)));

    let again = store.begin_session(&line.key, &first, line.start).await;
    assert!(again.unwrap(), "a repeat succeeds too");
    let second = line.fresh("second", line.lease("two", 60));
    let begin = store.begin_session(&line.key, &second, line.at(24)).await;
    assert!(!begin.unwrap(), "another life is alive");
    assert_eq!(line.read(store).await, first);
    let dead = line.at(25);
    let begin = store.begin_session(&line.key, &second, dead).await;
    assert!(begin.unwrap());
    assert_eq!(line.read(store).await, second);

    // Nothing addressed to the first life reaches the second.
    let first = line.id("first");
    assert_eq!(
        store
            .push_to_session(&first, &["late"], dead)
            .await
            .unwrap(),
        Pushed::Gone
    );
    let closed = store.close_session(&first, &closing(3_000), dead).await;
    assert_eq!(closed.unwrap(), None);
    store.forget_session(&first, line.at(9_999)).await.unwrap();
    assert_eq!(line.read(store).await, second);
}

/// Of many that begin a session at once, one succeeds.
pub async fn session_begin_race<S: Sessions>(store: &S) {
    for _ in 0..4 {
        let line = Line::new();
        let lives: Vec<Session> = (0..8)
            .map(|n| line.fresh(&format!("life{n}"), line.lease("one", 20)))
            .collect();
        let begins = lives
            .iter()
            .map(|it| contended(async || store.begin_session(&line.key, it, line.start).await));
        let begun = join_all(begins).await;
        let stands = line.read(store).await;
        for (life, begun) in lives.iter().zip(begun) {
            assert_eq!(begun, *life == stands);
        }
    }
}

/// One receiver at a time: it attaches while no other is attached, and only it releases.
pub async fn session_receivers<S: Sessions>(store: &S) {
    let line = Line::new();
    let attach = async |holder: &str, until: i64, at: i64| {
        let lease = line.lease(holder, until);
        store.attach(&line.key, &lease, line.at(at)).await.unwrap()
    };
    assert_eq!(attach("one", 20, 0).await, Attached::Absent);
    assert_eq!(store.session(&line.key).await.unwrap(), None);
    let first = line.begin(store, "first").await;
    let stands = attach("two", 40, 19).await;
    assert_eq!(stands, Attached::Stands(first.clone()), "`one` is attached");
    let Attached::Held(same) = attach("one", 21, 1).await else {
        panic!("the same holder may attach again");
    };
    assert_eq!(same.lease, Some(line.lease("one", 21)));

    // Only the attached receiver renews and gives up.
    let other = line
        .renew(store, &line.hold("two", 0, &[], 50))
        .await
        .unwrap();
    assert_eq!(other, None);
    let other = line
        .give_up(store, &line.hold("two", 0, &[], 5))
        .await
        .unwrap();
    assert!(!other);
    let held = line
        .renew(store, &line.hold("one", 0, &[], 30))
        .await
        .unwrap();
    let held = held.unwrap();
    assert_eq!(held.lease, Some(line.lease("one", 30)));
    assert_eq!(held.alive_until, line.at(30).plus(LINGER));
    assert_eq!(line.read(store).await, held);
    for _ in 0..2 {
        let released = line
            .give_up(store, &line.hold("one", 0, &[], 12))
            .await
            .unwrap();
        assert!(released);
    }
    let released = line.read(store).await;
    assert_eq!((released.lease, released.alive_until), (None, line.at(12)));
    let again = line
        .renew(store, &line.hold("one", 0, &[], 30))
        .await
        .unwrap();
    assert_eq!(again, None, "it was given up");

    // Free after the release, then leased until its end, then free again.
    let Attached::Held(second) = attach("two", 20, 11).await else {
        panic!("no receiver was attached");
    };
    assert_eq!(second.lease, Some(line.lease("two", 20)));
    assert!(matches!(attach("one", 40, 19).await, Attached::Stands(_)));
    assert!(matches!(attach("three", 40, 20).await, Attached::Held(_)));
    let late = line
        .renew(store, &line.hold("two", 0, &[], 60))
        .await
        .unwrap();
    assert_eq!(late, None, "it was taken over");
    assert!(
        matches!(attach("four", 90, 45).await, Attached::Stands(it) if !it.is_alive(line.at(45)))
    );
    // Other receivers consider it dead from then on, so a renewal must fail.
    let late = Hold {
        now: line.at(45),
        ..line.hold("three", 0, &[], 60)
    };
    assert_eq!(line.renew(store, &late).await.unwrap(), None);
    assert!(!line.give_up(store, &late).await.unwrap());
    assert!(!line.read(store).await.is_alive(line.at(45)));
}

/// A receiver whose renewal was applied but whose answer was lost can still give up.
pub async fn session_given_up_in_doubt<S: Sessions>(store: &S) {
    let line = Line::new();
    line.begin(store, "first").await;
    let id = line.id("first");
    for message in ["written", "waits"] {
        let pushed = store.push_to_session(&id, &[message], line.at(1)).await;
        assert!(matches!(pushed.unwrap(), Pushed::Waiting(_)));
    }
    let hold = line.hold("one", 0, &["written"], 20);
    assert!(line.renew(store, &hold).await.unwrap().is_some());
    let hold = line.hold("one", 0, &["written"], 9);
    for _ in 0..2 {
        assert!(line.give_up(store, &hold).await.unwrap());
    }
    let left = line.read(store).await;
    assert_eq!((left.lease, left.alive_until), (None, line.at(9)));
    assert_eq!((left.removed, left.outbox), (1, vec!["waits".to_owned()]));
}

/// Of many that attach at once one succeeds.
pub async fn session_receiver_race<S: Sessions>(store: &S) {
    let line = Line::new();
    line.begin(store, "first").await;
    line.give_up(store, &line.hold("one", 0, &[], 9))
        .await
        .unwrap();
    let leases: Vec<Lease> = (0..8).map(|n| line.lease(&format!("r{n}"), 20)).collect();
    let attaches = leases
        .iter()
        .map(|lease| contended(async || store.attach(&line.key, lease, line.at(1)).await));
    let attached = join_all(attaches).await;
    let held = attached.iter().filter(|it| matches!(it, Attached::Held(_)));
    assert_eq!(held.count(), 1);
}

/// The first close wins. After it nothing is pushed, and pending messages stay.
pub async fn session_closes<S: Sessions>(store: &S) {
    let line = Line::new();
    assert_eq!(line.close(store, 3_000, 0).await, None);
    line.begin(store, "first").await;
    line.push(store, &["before"]).await;
    for code in [4_401, 3_000] {
        assert_eq!(line.close(store, code, 0).await, None);
        let stands = line.read(store).await;
        assert_eq!(stands.closing, Some(closing(4_401)));
        assert_eq!(stands.outbox, ["before"]);
        assert!(stands.is_alive(line.at(24)) && !stands.is_open(line.start));
    }
    assert_eq!(line.push(store, &["after"]).await, Pushed::Gone);
    let released = line
        .give_up(store, &line.hold("one", 0, &["before"], 5))
        .await
        .unwrap();
    assert!(released);
    let lease = line.lease("two", 20);
    let attached = store.attach(&line.key, &lease, line.at(1)).await.unwrap();
    let Attached::Held(ending) = attached else {
        panic!("a receiver must learn that the session closes");
    };
    assert_eq!(ending.closing, Some(closing(4_401)));

    let dead = Line::new();
    dead.begin(store, "first").await;
    assert_eq!(dead.close(store, 3_000, 25).await, None);
    assert_eq!(dead.read(store).await.closing, None);
}

/// A doorbell belongs to its receiver, is authorized by the session's own token, and disappears with the receiver.
pub async fn session_doorbells<S: Sessions>(store: &S) {
    let line = Line::new();
    let bell = Doorbell {
        key: line.key.clone(),
        holder: "one".to_owned(),
        token: line.identity.token.clone(),
        connection: ConnectionId("L1x_-c=".to_owned()),
    };
    assert!(!store.set_doorbell(&bell).await.unwrap(), "no session");
    line.begin(store, "first").await;
    for wrong in [
        Doorbell {
            holder: "two".to_owned(),
            ..bell.clone()
        },
        Doorbell {
            token: TokenHash::of("another's"),
            ..bell.clone()
        },
    ] {
        assert!(!store.set_doorbell(&wrong).await.unwrap());
    }
    assert_eq!(line.read(store).await.doorbell, None);
    assert!(store.set_doorbell(&bell).await.unwrap());
    let rings = Some(bell.connection.clone());
    assert_eq!(
        line.push(store, &["a"]).await,
        Pushed::Waiting(rings.clone())
    );
    for _ in 0..2 {
        let closed = line.close(store, 3_000, 0).await;
        assert_eq!(closed, rings, "a repeat returns it again");
    }
    line.give_up(store, &line.hold("one", 0, &[], 5))
        .await
        .unwrap();
    assert_eq!(line.read(store).await.doorbell, None);
    assert!(
        !store.set_doorbell(&bell).await.unwrap(),
        "no receiver is attached"
    );

    // The next receiver has to bring its own doorbell.
    let lease = line.lease("two", 3);
    store.attach(&line.key, &lease, line.at(1)).await.unwrap();
    let second = Doorbell {
        holder: "two".to_owned(),
        ..bell
    };
    assert!(store.set_doorbell(&second).await.unwrap());
    let lease = line.lease("three", 9);
    store.attach(&line.key, &lease, line.at(3)).await.unwrap();
    assert_eq!(line.read(store).await.doorbell, None);
}

/// Sessions are listed in the minute they are due. Dead ones are forgotten, others are not.
pub async fn due_sessions<S: Sessions>(store: &S) {
    let lines: Vec<Line> = (0..7).map(|_| Line::new()).collect();
    for line in &lines {
        line.begin(store, "first").await;
    }
    let due = Minute::of(lines[0].at(20).plus(LINGER));
    let mut expected: Vec<&Line> = Vec::new();
    // The suite may run past the end of a minute.
    expected.extend(
        lines
            .iter()
            .filter(|it| Minute::of(it.at(20).plus(LINGER)) == due),
    );
    let keys = |lines: &[&Line]| {
        let mut keys: Vec<SessionKey> = lines.iter().map(|it| it.key.clone()).collect();
        keys.sort();
        keys
    };
    let mine = keys(&lines.iter().collect::<Vec<_>>());
    eventually(store, due, &mine, keys(&expected)).await;

    let later = due.plus(60);
    let moved = expected.split_off(expected.len() / 2);
    for line in &moved {
        for _ in 0..2 {
            let id = line.id("first");
            store.postpone_session(&id, later).await.unwrap();
            store
                .postpone_session(&line.id("other"), due)
                .await
                .unwrap();
        }
    }
    eventually(store, due, &mine, keys(&expected)).await;
    eventually(store, later, &mine, keys(&moved)).await;

    let line = moved[0];
    let id = line.id("first");
    store.forget_session(&id, line.at(24)).await.unwrap();
    assert!(
        store.session(&line.key).await.unwrap().is_some(),
        "the session is alive"
    );
    store
        .forget_session(&line.id("other"), line.at(25))
        .await
        .unwrap();
    assert!(store.session(&line.key).await.unwrap().is_some());
    for _ in 0..2 {
        store.forget_session(&id, line.at(25)).await.unwrap();
        assert_eq!(store.session(&line.key).await.unwrap(), None);
    }
    store.postpone_session(&id, due).await.unwrap();
    assert_eq!(store.session(&line.key).await.unwrap(), None);
    eventually(store, later, &mine, keys(&moved[1..])).await;
}

/// Walks a minute until it lists `expected` of these sessions, because the index may lag.
async fn eventually<S: Sessions>(
    store: &S,
    minute: Minute,
    mine: &[SessionKey],
    expected: Vec<SessionKey>,
) {
    let mut found = Vec::new();
    for round in 0..500 {
        let limit = 1 + round % 3;
        let listed = walk_late(limit, async |after: Option<SessionKey>| {
            store.due_sessions(minute, after.as_ref(), limit).await
        });
        found = listed.await;
        assert!(found.is_sorted());
        found.retain(|it| mine.contains(it));
        if found == expected {
            return;
        }
    }
    assert_eq!(found, expected);
}
