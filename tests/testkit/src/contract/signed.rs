//! Signed tokens: usable without being stored, listed after use, and refusable before or after use.

use protocol::{ConnectionId, Subscriber, Timestamp};
use service::ports::{
    Connection, Connections, Ending, Fault, Jti, Minute, Reauthorization, ReauthorizeError,
    RegisterError, SignedToken, SignedTokens, SignedUse, TokenHash, TokenRecord, TokenState,
    Tokens,
};

use super::{
    endings::eventually,
    fixtures::{
        DAY, Tenant, connected, connection, contended, now, registered, registration, unique, walk,
    },
};

fn fresh(subscriber: &Subscriber, jti: Option<&Jti>) -> SignedToken {
    SignedToken {
        hash: TokenHash::of_signed(&unique()),
        subscriber: subscriber.clone(),
        begins: now(),
        expires: now().plus_seconds(3_600),
        jti: jti.cloned(),
    }
}

fn fresh_jti() -> Jti {
    Jti::new("https://issuer.example/", &format!("{}#1", unique()))
}

async fn all_tokens_of<S: Tokens>(store: &S, subscriber: &Subscriber) -> Vec<TokenHash> {
    walk(10, async |after: Option<TokenHash>| {
        store.tokens_of(subscriber, after.as_ref(), 10).await
    })
    .await
}

async fn all_connections_of<S: Tokens>(store: &S, token: &TokenHash) -> Vec<ConnectionId> {
    walk(10, async |after: Option<ConnectionId>| {
        store.token_connections(token, after.as_ref(), 10).await
    })
    .await
}

/// Registers a connection with a token.
async fn used<S: Tokens + SignedTokens>(store: &S, token: &SignedToken, id: &str) -> TokenHash {
    let ends_with_it = Connection {
        ends_at: token.expires,
        ..connection(&token.hash)
    };
    let registration = registration(&token.subscriber, id, &ends_with_it);
    contended(async || {
        registered(
            store
                .register_signed(&registration, &token.first_use())
                .await,
        )
    })
    .await;
    token.hash.clone()
}

/// A token that was never stored registers a connection. Afterwards it is like a stored token: readable, listed under
/// its subscriber with its connections, and expiring.
pub async fn signed_registration<S: Tokens + SignedTokens + Connections>(store: &S) {
    let ada = Tenant::new().subscriber("ada");
    for jti in [None, Some(fresh_jti())] {
        let token = fresh(&ada, jti.as_ref());
        let hash = &token.hash;
        assert_eq!(store.token(hash).await.unwrap(), None);
        let first = Connection {
            ends_at: token.expires,
            ..connection(hash)
        };
        let first = registration(&ada, &unique(), &first);
        for _ in 0..2 {
            registered(store.register_signed(&first, &token.first_use()).await).unwrap();
            let expected = TokenRecord {
                subscriber: ada.clone(),
                state: TokenState::Active,
                issued: first.connection.since,
                expires: token.expires,
            };
            assert_eq!(store.token(hash).await.unwrap(), Some(expected));
            let found = store.connections(&ada).await.unwrap();
            assert_eq!(found[&first.id], first.connection);
            let authorised = all_connections_of(store, hash).await;
            assert!(authorised.iter().eq([&first.id]));
        }
        used(store, &token, &unique()).await;
        let authorised = all_connections_of(store, hash).await;
        assert_eq!(authorised.len(), 2);
        let tokens = all_tokens_of(store, &ada).await;
        assert!(tokens.contains(hash));
        let ending = Ending {
            token: hash.clone(),
            connection: None,
        };
        let connections = authorised.into_iter().map(|id| Ending {
            connection: Some(id),
            ..ending.clone()
        });
        let minute = Minute::of(token.expires);
        let expected = connections.chain([ending.clone()]).collect();
        eventually(store, minute, &[hash], expected).await;
    }
    assert_eq!(store.connections(&ada).await.unwrap().len(), 4);
}

/// A token registers nothing if it or its id was refused, before or after use, or if it has expired. What it registered
/// before is still listed.
pub async fn refused_signed_tokens<S: Tokens + SignedTokens + Connections>(store: &S) {
    let tenant = Tenant::new();
    let (ada, bob) = (tenant.subscriber("ada"), tenant.subscriber("bob"));
    let (jti, other_jti) = (fresh_jti(), fresh_jti());

    let unused = fresh(&bob, None);
    store.refuse_signed(&unused, now()).await.unwrap();
    let once_used = fresh(&bob, Some(&other_jti));
    used(store, &once_used, "used").await;
    for _ in 0..2 {
        store.refuse_signed(&once_used, now()).await.unwrap();
    }
    let invalidated = fresh(&bob, None);
    used(store, &invalidated, "invalidated").await;
    let before = store.invalidate_token(&invalidated.hash, now()).await;
    assert_eq!(before.unwrap().unwrap().state, TokenState::Active);
    let with_jti = fresh(&bob, Some(&jti));
    used(store, &with_jti, "with-jti").await;
    assert!(!store.is_jti_refused(&jti).await.unwrap());
    for _ in 0..2 {
        store.refuse_jti(&jti, with_jti.expires).await.unwrap();
    }
    assert!(store.is_jti_refused(&jti).await.unwrap());
    assert!(!store.is_jti_refused(&other_jti).await.unwrap());
    let never_used = fresh(&bob, Some(&jti));
    let ended = SignedToken {
        expires: now().plus_seconds(-1),
        ..fresh(&bob, None)
    };

    for token in [
        &unused,
        &once_used,
        &invalidated,
        &with_jti,
        &never_used,
        &ended,
    ] {
        let to_ada = SignedToken {
            subscriber: ada.clone(),
            ..token.clone()
        };
        let registration = registration(&ada, "c", &connection(&token.hash));
        let refused = store
            .register_signed(&registration, &to_ada.first_use())
            .await;
        assert!(matches!(refused, Err(RegisterError::Token)), "{refused:?}");
        assert!(store.connections(&ada).await.unwrap().is_empty());
        let tokens = all_tokens_of(store, &ada).await;
        assert!(tokens.is_empty());
    }
    let refused = store.token(&unused.hash).await.unwrap().unwrap();
    assert_eq!(refused.state, TokenState::Invalidated);
    assert_eq!((refused.subscriber, refused.expires), (bob, unused.expires));
    let found = all_connections_of(store, &once_used.hash).await;
    assert_eq!(found.len(), 1);

    let long_ago = fresh_jti();
    let before = now().plus_seconds(-2 * DAY);
    store.refuse_jti(&long_ago, before).await.unwrap();
    assert!(!store.is_jti_refused(&long_ago).await.unwrap());
}

/// The tokens that were used with an issuer's id are listed in pages, without others.
pub async fn tokens_with_jti<S: Tokens + SignedTokens + Connections>(store: &S) {
    let tenant = Tenant::new();
    let (jti, other, never) = (fresh_jti(), fresh_jti(), fresh_jti());
    let mut expected = Vec::new();
    for n in 0..7 {
        let ada = tenant.subscriber(&format!("ada-{n}"));
        expected.push(used(store, &fresh(&ada, Some(&jti)), "c").await);
        used(store, &fresh(&ada, Some(&other)), "d").await;
    }
    expected.sort();
    store.refuse_jti(&jti, now()).await.unwrap();
    for limit in [1, 3, 7, 100] {
        let found = walk(limit, async |after: Option<TokenHash>| {
            store.tokens_with_jti(&jti, after.as_ref(), limit).await
        });
        assert_eq!(found.await, expected);
    }
    let none = store.tokens_with_jti(&never, None, 10).await.unwrap();
    assert!(none.items.is_empty() && !none.more);
}

/// A connection moves to a signed token that was never stored, unless the token was refused.
pub async fn signed_reauthorization<S: Tokens + SignedTokens + Connections>(store: &S) {
    let ada = Tenant::new().subscriber("ada");
    let id = connected(store, &ada, "c").await;
    let mut old = store.connections(&ada).await.unwrap()[&id].token.clone();
    let to = |old: &TokenHash, new: &TokenHash, at: Timestamp| Reauthorization {
        subscriber: ada.clone(),
        id: id.clone(),
        old: old.clone(),
        new: new.clone(),
        at,
        ends_at: at.plus_seconds(600),
    };
    for jti in [None, Some(fresh_jti())] {
        let token = fresh(&ada, jti.as_ref());
        let change = to(&old, &token.hash, now());
        let changed = store.reauthorize_signed(&change, &token.first_use()).await;
        changed.unwrap();
        let entry = store.connections(&ada).await.unwrap()[&id].clone();
        assert_eq!((entry.token, entry.ends_at), (change.new, change.ends_at));
        let found = all_connections_of(store, &token.hash).await;
        assert!(found.iter().eq([&id]));
        let left = all_connections_of(store, &old).await;
        assert!(left.is_empty());
        assert!(store.token(&token.hash).await.unwrap().is_some());
        let tokens = all_tokens_of(store, &ada).await;
        assert!(tokens.contains(&token.hash));
        old = token.hash;
    }

    let jti = fresh_jti();
    store
        .refuse_jti(&jti, now().plus_seconds(60))
        .await
        .unwrap();
    let refused = fresh(&ada, None);
    store.refuse_signed(&refused, now()).await.unwrap();
    let ended = SignedUse {
        expires: now(),
        ..fresh(&ada, None).first_use()
    };
    for (hash, token) in [
        (refused.hash.clone(), refused.first_use()),
        (
            TokenHash::of_signed("j"),
            fresh(&ada, Some(&jti)).first_use(),
        ),
        (TokenHash::of_signed("e"), ended),
    ] {
        let refused = store
            .reauthorize_signed(&to(&old, &hash, now()), &token)
            .await;
        assert!(
            matches!(refused, Err(ReauthorizeError::Token)),
            "{refused:?}"
        );
    }
    let good = fresh(&ada, None);
    let wrong = to(&refused.hash, &good.hash, now());
    let conflict = store.reauthorize_signed(&wrong, &good.first_use()).await;
    assert!(
        matches!(conflict, Err(ReauthorizeError::Fault(Fault::Conflict))),
        "{conflict:?}"
    );
    assert_eq!(store.connections(&ada).await.unwrap()[&id].token, old);
    assert_eq!(store.token(&good.hash).await.unwrap(), None);
}
