//! The expiry index, and the checkpoint of the expiry run.

use protocol::{ConnectionId, Timestamp};
use service::ports::{
    Connection, Connections, Ending, ExpiryCheckpoint, Minute, Reauthorization, TokenHash,
    TokenRecord, Tokens,
};

use super::fixtures::{
    DAY, Tenant, active_token, connection, now, registered, registration, unique, walk_late,
};

fn ending(token: &TokenHash, connection: Option<&ConnectionId>) -> Ending {
    Ending {
        token: token.clone(),
        connection: connection.cloned(),
    }
}

async fn token<S: Tokens>(store: &S, expires: Timestamp) -> TokenHash {
    let hash = TokenHash::of(&unique());
    let record = TokenRecord {
        expires,
        ..active_token(&Tenant::new().subscriber("ada"))
    };
    store.put_token(&hash, &record).await.unwrap();
    hash
}

/// Walks a minute until it lists `expected` of these tokens, because the index may lag.
pub(super) async fn eventually<S: Tokens>(
    store: &S,
    minute: Minute,
    tokens: &[&TokenHash],
    mut expected: Vec<Ending>,
) {
    expected.sort();
    let mut found = Vec::new();
    for round in 0..500 {
        let limit = 1 + round % 3;
        let listed = walk_late(limit, async |after: Option<Ending>| {
            store.ending(minute, after.as_ref(), limit).await
        });
        found = listed.await;
        assert!(found.is_sorted_by_key(|it| &it.token), "ordered by token");
        found.retain(|it| tokens.contains(&&it.token));
        found.sort();
        if found == expected {
            return;
        }
    }
    assert_eq!(found, expected);
}

/// Tokens are listed in the minute they end, and connections in the minute they end, in pages, even if many share one
/// token. They are listed until they are forgotten, reauthorized or settled.
pub async fn endings<S: Tokens + Connections>(store: &S) {
    let ada = Tenant::new().subscriber("ada");
    let start = Minute::of(now().plus_seconds(3_600)).number() * 60_000;
    let (first, last) = (
        Timestamp::from_millis(start),
        Timestamp::from_millis(start + 59_999),
    );
    let (this, before, next) = (
        Minute::of(first),
        Minute::of(first).plus(-1),
        Minute::of(first).plus(1),
    );
    assert_eq!(Minute::of(last), this);
    let one = token(store, first).await;
    let other = token(store, last).await;
    let later = token(store, last.plus_seconds(1)).await;
    let mine = [&one, &other, &later];

    let mut expected = vec![ending(&one, None), ending(&other, None)];
    let mut ids = Vec::new();
    for n in 0..7 {
        let of = if n % 2 == 0 { &one } else { &other };
        let line = Connection {
            ends_at: if n == 6 { last.plus_seconds(-60) } else { last },
            ..connection(of)
        };
        let line = registration(&ada, &format!("L{n}x_-c="), &line);
        for _ in 0..2 {
            registered(store.register(&line).await).unwrap();
        }
        if n != 6 {
            expected.push(ending(of, Some(&line.id)));
        }
        ids.push(line.id);
    }
    eventually(store, this, &mine, expected.clone()).await;
    eventually(store, before, &mine, vec![ending(&one, Some(&ids[6]))]).await;
    eventually(store, next, &mine, vec![ending(&later, None)]).await;

    // Forgetting it under its subscriber is not enough: it must be forgotten under its token.
    store
        .forget(&ada.connection(ids[0].clone()))
        .await
        .unwrap()
        .unwrap();
    store
        .forget(&ada.connection(ids[2].clone()))
        .await
        .unwrap()
        .unwrap();
    for _ in 0..2 {
        store.forget_token_connection(&one, &ids[2]).await.unwrap();
    }
    expected.retain(|it| it.connection.as_ref() != Some(&ids[2]));
    // It moves to another token and ends in another minute.
    let reauthorization = Reauthorization {
        subscriber: ada.clone(),
        id: ids[1].clone(),
        old: other.clone(),
        new: later.clone(),
        at: now(),
        ends_at: last.plus_seconds(1),
    };
    store.reauthorize(&reauthorization).await.unwrap();
    expected.retain(|it| it.connection.as_ref() != Some(&ids[1]));
    eventually(store, this, &mine, expected.clone()).await;
    let of_later = vec![ending(&later, None), ending(&later, Some(&ids[1]))];
    eventually(store, next, &mine, of_later.clone()).await;

    // An invalidated token ends at once. Its connections stay in the minute they end. Settling has no effect on other
    // tokens.
    store.invalidate_token(&other, now()).await.unwrap();
    expected.retain(|it| *it != ending(&other, None));
    eventually(store, this, &mine, expected.clone()).await;
    let invalidated_in = now().plus_seconds(-600);
    store
        .invalidate_token(&other, invalidated_in)
        .await
        .unwrap();
    let then = Minute::of(invalidated_in);
    eventually(store, then, &mine, vec![ending(&other, None)]).await;
    for _ in 0..2 {
        store.settle_token(&other).await.unwrap();
        store.settle_token(&later).await.unwrap();
        store.settle_token(&TokenHash::of(&unique())).await.unwrap();
    }
    eventually(store, then, &mine, Vec::new()).await;
    eventually(store, next, &mine, of_later).await;
    let settled = store.token(&other).await.unwrap().unwrap();
    assert!(!settled.is_good(now()), "the token is still invalid");
}

/// The checkpoint is the last value that was set.
pub async fn expiry_checkpoint<S: Tokens>(store: &S) {
    for ago in [2 * DAY, 0, 60] {
        let checkpoint = ExpiryCheckpoint {
            minute: Minute::of(now().plus_seconds(-ago)),
            warned: now().plus_seconds(120 - ago),
        };
        store.set_expiry_checkpoint(&checkpoint).await.unwrap();
        assert_eq!(store.expiry_checkpoint().await.unwrap(), Some(checkpoint));
    }
}
