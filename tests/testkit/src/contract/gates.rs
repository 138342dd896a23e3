//! Gates: while a gate is up pushes are parked, and no parked push is ever left without a gate.

use futures::future::{join, join_all};
use protocol::{ConnectionId, Subscriber, Timestamp};
use service::ports::{
    Connection, Connections, FIRST_GATE, Gone, Parked, ParkedOutcome, Reference, Tokens,
};

use super::fixtures::{Tenant, connected, contended, now};

/// A connection, and the calls that a suite makes on it.
struct Line<'a, S> {
    store: &'a S,
    tenant: Tenant,
    ada: Subscriber,
    id: ConnectionId,
}

impl<'a, S: Tokens + Connections> Line<'a, S> {
    async fn new(store: &'a S) -> Self {
        let tenant = Tenant::new();
        let ada = tenant.subscriber("ada");
        let id = connected(store, &ada, "c.0=").await;
        Self {
            store,
            tenant,
            ada,
            id,
        }
    }

    fn reference(&self, sequence: u64) -> Reference {
        let log = self.tenant.channel("c").log();
        Reference::Event {
            log,
            sequence,
            until: Timestamp::from_millis(1_700_000_000_123),
        }
    }

    fn references(&self, sequences: &[u64]) -> Vec<Reference> {
        sequences.iter().map(|it| self.reference(*it)).collect()
    }

    async fn read(&self) -> Connection {
        let found = self.store.connections(&self.ada).await.unwrap();
        found[&self.id].clone()
    }

    async fn raise(&self, gate: &str) -> Timestamp {
        let deadline = now().plus_seconds(5);
        let (ada, id) = (&self.ada, &self.id);
        let raised = contended(async || {
            self.store
                .raise_gate(&ada.connection(id.clone()), gate, deadline)
                .await
        });
        let connection = raised.await.unwrap();
        assert_eq!(connection.gates.get(gate), Some(&deadline));
        deadline
    }

    async fn park(&self, saw: Option<&str>, sequences: &[u64]) -> ParkedOutcome {
        let references = self.references(sequences);
        let (ada, id) = (&self.ada, &self.id);
        contended(async || {
            self.store
                .park(&ada.connection(id.clone()), saw, &references)
                .await
        })
        .await
    }

    async fn lower(&self, gate: &str, other: Option<&str>) -> bool {
        let (ada, id) = (&self.ada, &self.id);
        contended(async || {
            self.store
                .lower_gate(&ada.connection(id.clone()), gate, other)
                .await
        })
        .await
    }
}

/// A gate can be raised only on a registered connection, beside other gates. Raising it again sets a later deadline.
pub async fn gates_raised<S: Tokens + Connections>(store: &S) {
    let line = Line::new(store).await;
    let before = line.read().await;
    let first = line.raise("q-1=").await;
    let second = line.raise("#.other gate").await;
    let stand = [
        ("q-1=".to_owned(), first),
        ("#.other gate".to_owned(), second),
    ];
    let expected = Connection {
        gates: stand.into(),
        ..before
    };
    assert_eq!(line.read().await, expected);

    let later = second.plus_seconds(60);
    let raised = store
        .raise_gate(&line.ada.connection(line.id.clone()), "q-1=", later)
        .await;
    let raised = raised.unwrap().unwrap();
    assert_eq!((raised.gates.len(), raised.gates["q-1="]), (2, later));
    assert_eq!(line.read().await, raised);

    let nobody = ConnectionId("never there".to_owned());
    let stranger = line.tenant.subscriber("stranger");
    for (subscriber, id) in [(&line.ada, &nobody), (&stranger, &line.id)] {
        let refused = store
            .raise_gate(&subscriber.connection(id.clone()), "g", later)
            .await
            .unwrap();
        assert_eq!(refused, Err(Gone));
        assert!(
            !store
                .connections(subscriber)
                .await
                .unwrap()
                .contains_key(&nobody)
        );
    }
    store
        .forget(&line.ada.connection(line.id.clone()))
        .await
        .unwrap();
    let refused = store
        .raise_gate(&line.ada.connection(line.id.clone()), "g", later)
        .await;
    assert_eq!(refused.unwrap(), Err(Gone));
    assert!(store.connections(&line.ada).await.unwrap().is_empty());
}

/// References are parked in order while the gate that the sender saw is up or something is already parked. Otherwise
/// nothing is parked.
pub async fn parking<S: Tokens + Connections>(store: &S) {
    let line = Line::new(store).await;
    for saw in [None, Some("never raised")] {
        assert_eq!(line.park(saw, &[1]).await, ParkedOutcome::Changed);
    }
    line.raise("own").await;
    assert_eq!(
        line.park(Some("never raised"), &[1]).await,
        ParkedOutcome::Changed
    );
    assert_eq!(line.park(None, &[1]).await, ParkedOutcome::Changed);
    assert!(line.read().await.parked.is_empty());

    let first = ParkedOutcome::Parked(Parked::First);
    let further = ParkedOutcome::Parked(Parked::Further);
    assert_eq!(line.park(Some("own"), &[1, 2]).await, first);
    assert_eq!(line.park(Some("own"), &[3]).await, further);
    assert_eq!(line.park(None, &[4]).await, further);
    assert_eq!(line.park(Some("never raised"), &[5, 6]).await, further);
    let connection = line.read().await;
    assert_eq!(connection.parked, line.references(&[1, 2, 3, 4, 5, 6]));

    let kinds = super::connections::references(&line.tenant);
    let parked = store
        .park(&line.ada.connection(line.id.clone()), Some("own"), &kinds)
        .await;
    assert_eq!(parked.unwrap(), further);
    assert_eq!(line.read().await.parked[6..], kinds);

    let nobody = ConnectionId("never there".to_owned());
    let stranger = line.tenant.subscriber("stranger");
    for (subscriber, id) in [(&line.ada, &nobody), (&stranger, &line.id)] {
        let outcome = store
            .park(&subscriber.connection(id.clone()), Some("own"), &kinds)
            .await;
        assert_eq!(outcome.unwrap(), ParkedOutcome::NotRegistered);
    }
}

/// Only the owner of a gate removes references, from the front. References parked in the meantime stay.
pub async fn unparking<S: Tokens + Connections>(store: &S) {
    let line = Line::new(store).await;
    line.raise("other").await;
    line.raise("own").await;
    line.park(Some("own"), &[1, 2, 3]).await;
    let until = now().plus_seconds(90);
    let unpark = async |gate: &str, count| {
        let (ada, id) = (&line.ada, &line.id);
        contended(async || {
            store
                .unpark(&ada.connection(id.clone()), gate, count, until)
                .await
        })
        .await
    };
    assert_eq!(unpark("never raised", 1).await, Err(Gone));
    assert_eq!(line.read().await.parked.len(), 3);

    line.park(Some("own"), &[4]).await;
    let left = unpark("own", 3).await.unwrap();
    assert_eq!(left.parked, line.references(&[4]));
    assert_eq!(left.gates["own"], until);
    assert!(
        left.gates["other"] < until,
        "only the owner's gate is renewed"
    );
    assert_eq!(line.read().await, left);

    assert_eq!(unpark("own", 0).await.unwrap(), left);
    assert!(unpark("own", 1).await.unwrap().parked.is_empty());
    assert!(line.lower("own", None).await);
    assert_eq!(unpark("own", 0).await, Err(Gone));
    store
        .forget(&line.ada.connection(line.id.clone()))
        .await
        .unwrap();
    assert_eq!(unpark("other", 0).await, Err(Gone));
    assert!(store.connections(&line.ada).await.unwrap().is_empty());
}

/// The owner's gate is removed if nothing is parked or another gate is up. Otherwise it stays.
pub async fn gates_lowered<S: Tokens + Connections>(store: &S) {
    let line = Line::new(store).await;
    assert!(line.lower("never raised", None).await);
    line.raise("own").await;
    assert!(line.lower("own", None).await);
    assert!(line.read().await.gates.is_empty());

    let own = line.raise("own").await;
    line.park(Some("own"), &[1]).await;
    for other in [None, Some("never raised")] {
        assert!(!line.lower("own", other).await);
        assert_eq!(line.read().await.gates, [("own".to_owned(), own)].into());
    }
    line.raise("other").await;
    assert!(
        !line.lower("own", None).await,
        "the caller did not see the other gate"
    );
    assert!(line.lower("own", Some("other")).await);
    let connection = line.read().await;
    assert_eq!(connection.gates.keys().collect::<Vec<_>>(), ["other"]);
    assert_eq!(connection.parked, line.references(&[1]));
    assert!(line.lower("own", None).await, "it was lowered already");
    assert_eq!(line.read().await, connection);

    store
        .forget(&line.ada.connection(line.id.clone()))
        .await
        .unwrap();
    assert!(line.lower("other", None).await, "the connection is gone");
    assert!(store.connections(&line.ada).await.unwrap().is_empty());
}

/// The gate that a connection begins with is removed once, while nothing is parked. The caller that removes it gets all
/// connections.
pub async fn first_gate_lowered<S: Tokens + Connections>(store: &S) {
    let line = Line::new(store).await;
    let (ada, id) = (&line.ada, &line.id);
    let lower = async || {
        contended(async || store.lower_first_gate(&ada.connection(id.clone())).await).await
    };
    assert_eq!(lower().await, None, "the gate is not up");

    let first = line.raise(FIRST_GATE).await;
    line.park(Some(FIRST_GATE), &[1]).await;
    let parked = line.read().await;
    assert_eq!(lower().await, None, "something is parked");
    assert_eq!(line.read().await, parked);

    let emptied = store
        .unpark(&ada.connection(id.clone()), FIRST_GATE, 1, first)
        .await;
    emptied.unwrap().unwrap();
    let other = line.raise("other").await;
    let expected = Connection {
        gates: [("other".to_owned(), other)].into(),
        parked: Vec::new(),
        ..parked
    };
    assert_eq!(lower().await.unwrap()[id], expected);
    assert_eq!(store.connections(ada).await.unwrap()[id], expected);
    assert_eq!(lower().await, None, "it was lowered already");

    store.forget(&ada.connection(id.clone())).await.unwrap();
    assert_eq!(lower().await, None, "the connection is gone");
    assert!(store.connections(ada).await.unwrap().is_empty());
}

/// Gates are taken over only if each is as the caller saw it. Of several concurrent takeovers one succeeds.
pub async fn gates_taken_over<S: Tokens + Connections>(store: &S) {
    let line = Line::new(store).await;
    let (one, two) = (line.raise("one").await, line.raise("two.=").await);
    let stays = line.raise("stays").await;
    line.park(Some("one"), &[1, 2]).await;
    let before = line.read().await;
    let until = now().plus_seconds(90);
    let take_and_park = async |seen: &[(&str, Timestamp)], gate: &str, parked: &[u64]| {
        let seen = seen.iter().map(|(gate, at)| ((*gate).to_owned(), *at));
        let seen = seen.collect();
        let (ada, id) = (&line.ada, &line.id);
        let gate = (gate, until);
        let parked = line.references(parked);
        contended(async || {
            store
                .take_gate(&ada.connection(id.clone()), &seen, gate, &parked)
                .await
        })
        .await
    };
    let take = async |seen: &[(&str, Timestamp)], gate: &str| take_and_park(seen, gate, &[]).await;
    for changed in [
        &[("one", one.plus_seconds(1))][..],
        &[("one", one), ("two.=", one.plus_seconds(-1))],
        &[("one", one), ("never raised", one)],
    ] {
        assert_eq!(take_and_park(changed, "new", &[3]).await, None);
        assert_eq!(line.read().await, before);
    }
    let seen = [("one", one), ("two.=", two)];
    let taken = take(&seen, "new").await.unwrap();
    let gates = [("stays".to_owned(), stays), ("new".to_owned(), until)];
    let expected = Connection {
        gates: gates.into(),
        ..before
    };
    assert_eq!(taken, expected);
    assert_eq!(line.read().await, expected);
    assert_eq!(take(&seen, "late").await, None);
    assert_eq!(line.read().await, expected);

    let renewed = take_and_park(&[("new", until)], "new", &[3, 4]).await;
    let expected = Connection {
        parked: line.references(&[1, 2, 3, 4]),
        ..expected
    };
    assert_eq!(
        renewed.as_ref(),
        Some(&expected),
        "the new reference comes last"
    );
    assert_eq!(line.read().await, expected);

    let race = (0..8).map(async |n| take(&[("new", until)], &format!("taker {n}")).await);
    let taken = join_all(race).await;
    assert_eq!(taken.iter().flatten().count(), 1);
    assert_eq!(line.read().await.gates.len(), 2);

    store
        .forget(&line.ada.connection(line.id.clone()))
        .await
        .unwrap();
    assert_eq!(take(&[("stays", stays)], "new").await, None);
    assert!(store.connections(&line.ada).await.unwrap().is_empty());
}

/// In any order of a park and a lower, a reference is parked behind a gate that its owner will lower, or it is not
/// parked. Of many concurrent parks one is told that it was the first, and all references are stored.
pub async fn gate_races<S: Tokens + Connections>(store: &S) {
    let line = Line::new(store).await;
    for round in 0..12 {
        line.raise("own").await;
        let sequences = [round];
        let park = line.park(Some("own"), &sequences);
        let lower = line.lower("own", None);
        let (parked, lowered) = if round % 2 == 0 {
            join(park, lower).await
        } else {
            let (lowered, parked) = join(lower, park).await;
            (parked, lowered)
        };
        let connection = line.read().await;
        match parked {
            ParkedOutcome::Parked(Parked::First) => {
                assert!(!lowered && connection.gates.contains_key("own"));
                assert_eq!(connection.parked, line.references(&[round]));
                let until = now().plus_seconds(5);
                let unparked = store
                    .unpark(&line.ada.connection(line.id.clone()), "own", 1, until)
                    .await;
                assert!(unparked.unwrap().unwrap().parked.is_empty());
                assert!(line.lower("own", None).await);
            }
            ParkedOutcome::Changed => {
                assert!(lowered && connection.gates.is_empty());
                assert!(connection.parked.is_empty());
            }
            other => panic!("{other:?}"),
        }
    }

    line.raise("own").await;
    let all: Vec<u64> = (0..30).collect();
    let at_once = all
        .iter()
        .map(async |n| line.park(Some("own"), &[*n]).await);
    let outcomes = join_all(at_once).await;
    let firsts = outcomes
        .iter()
        .filter(|it| **it == ParkedOutcome::Parked(Parked::First));
    assert_eq!(firsts.count(), 1);
    let mut parked = line.read().await.parked;
    parked.sort_by_key(|it| match it {
        Reference::Event { sequence, .. } => *sequence,
        _ => u64::MAX,
    });
    assert_eq!(parked, line.references(&all));
}
