//! Tokens: storing, invalidating and listing them, and the connections they authorise.

use protocol::{ConnectionId, Timestamp};
use service::ports::{Connections, TokenHash, TokenRecord, TokenState, Tokens};

use super::fixtures::{
    DAY, Tenant, active_token, connection, now, registered, registration, token, unique, walk,
};

/// A token is read back as it was stored, also after it expired. Invalidating it is idempotent and returns the previous
/// record. After its time to live it is absent.
pub async fn tokens<S: Tokens>(store: &S) {
    let ada = Tenant::new().subscriber("ada");
    let hash = TokenHash::of(&unique());
    assert_eq!(store.token(&hash).await.unwrap(), None);
    assert_eq!(store.invalidate_token(&hash, now()).await.unwrap(), None);
    assert_eq!(
        store.token(&hash).await.unwrap(),
        None,
        "invalidating creates no token"
    );

    let record = active_token(&ada);
    for _ in 0..2 {
        store.put_token(&hash, &record).await.unwrap();
        assert_eq!(store.token(&hash).await.unwrap().as_ref(), Some(&record));
    }
    let before = store.invalidate_token(&hash, now()).await.unwrap();
    assert_eq!(before.as_ref(), Some(&record));
    let invalidated = TokenRecord {
        state: TokenState::Invalidated,
        ..record
    };
    assert_eq!(
        store.token(&hash).await.unwrap().as_ref(),
        Some(&invalidated)
    );
    let before = store.invalidate_token(&hash, now()).await.unwrap();
    assert_eq!(before.as_ref(), Some(&invalidated));
    assert_eq!(
        store.token(&hash).await.unwrap().as_ref(),
        Some(&invalidated)
    );

    let ended = put_ended(store, &ada, now().plus_seconds(-3_600)).await;
    assert!(
        store.token(&ended).await.unwrap().is_some(),
        "an expired token is still known"
    );
    let long_ended = put_ended(store, &ada, now().plus_seconds(-2 * DAY)).await;
    assert_eq!(store.token(&long_ended).await.unwrap(), None);
    assert_eq!(
        store.invalidate_token(&long_ended, now()).await.unwrap(),
        None
    );
    let of_ada = store.tokens_of(&ada, None, 100).await.unwrap().items;
    assert!(!of_ada.contains(&long_ended));
}

async fn put_ended<S: Tokens>(
    store: &S,
    subscriber: &protocol::Subscriber,
    expires: Timestamp,
) -> TokenHash {
    let hash = TokenHash::of(&unique());
    let record = TokenRecord {
        issued: expires.plus_seconds(-3_600),
        expires,
        ..active_token(subscriber)
    };
    store.put_token(&hash, &record).await.unwrap();
    hash
}

/// All of a subscriber's tokens are listed in pages, including invalidated ones, without those of others.
pub async fn tokens_in_pages<S: Tokens>(store: &S) {
    let tenant = Tenant::new();
    let (ada, bob) = (tenant.subscriber("ada"), tenant.subscriber("bob"));
    token(store, &bob).await;
    let mut put = Vec::new();
    for _ in 0..23 {
        put.push(token(store, &ada).await);
    }
    store.invalidate_token(&put[0], now()).await.unwrap();
    put.sort();
    for limit in [1, 5, 23, 24] {
        let found = walk(limit, async |after: Option<TokenHash>| {
            store.tokens_of(&ada, after.as_ref(), limit).await
        });
        assert_eq!(found.await, put);
    }
    let of_nobody = tenant.subscriber("cyd");
    let none = store.tokens_of(&of_nobody, None, 10).await.unwrap();
    assert!(none.items.is_empty() && !none.more);
}

/// The connections that a token authorises are listed in pages until each is forgotten.
pub async fn token_connections<S: Tokens + Connections>(store: &S) {
    let ada = Tenant::new().subscriber("ada");
    let (hash, other) = (token(store, &ada).await, token(store, &ada).await);
    let mut registered_ids = Vec::new();
    for n in 0..12 {
        let of = if n == 11 { &other } else { &hash };
        let registration = registration(&ada, &format!("L{n}x_-c="), &connection(of));
        registered(store.register(&registration).await).unwrap();
        registered_ids.push(registration.id);
    }
    let of_other = registered_ids.pop().unwrap();
    registered_ids.sort();
    for limit in [1, 4, 11, 100] {
        let found = walk(limit, async |after: Option<ConnectionId>| {
            store.token_connections(&hash, after.as_ref(), limit).await
        });
        assert_eq!(found.await, registered_ids);
    }
    for _ in 0..2 {
        let gone = &registered_ids[3];
        store.forget_token_connection(&hash, gone).await.unwrap();
        let found = walk(100, async |after: Option<ConnectionId>| {
            store.token_connections(&hash, after.as_ref(), 100).await
        })
        .await;
        assert_eq!((found.len(), found.contains(gone)), (10, false));
        for (id, is_there) in [(gone, false), (&registered_ids[4], true)] {
            let found = store.has_token_connection(&hash, id).await.unwrap();
            assert_eq!(found, is_there);
        }
    }
    let found = store.token_connections(&other, None, 100).await.unwrap();
    assert_eq!(found.items, [of_other]);
    let unknown = TokenHash::of(&unique());
    store
        .forget_token_connection(&unknown, &registered_ids[0])
        .await
        .unwrap();
    let none = store.token_connections(&unknown, None, 100).await.unwrap();
    assert!(none.items.is_empty() && !none.more);
}
