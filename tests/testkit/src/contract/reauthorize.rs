//! Reauthorization: another token for an open connection.

use protocol::{ConnectionId, Subscriber};
use service::ports::{
    Connection, Connections, Fault, Reauthorization, ReauthorizeError, TokenHash, Tokens,
};

use super::fixtures::{
    Tenant, active_token, connection, now, registered, registration, token, unique,
};

async fn authorised<S: Tokens>(store: &S, token: &TokenHash) -> Vec<ConnectionId> {
    let page = store.token_connections(token, None, 10).await.unwrap();
    page.items
}

async fn entry<S: Connections>(store: &S, of: &Subscriber, id: &ConnectionId) -> Connection {
    store.connections(of).await.unwrap()[id].clone()
}

/// A connection changes its token if the new one is valid at that time and the old one is its own. Otherwise nothing
/// changes. Afterwards it is listed under the new token only, and ends at the given time.
pub async fn reauthorization<S: Tokens + Connections>(store: &S) {
    let ada = Tenant::new().subscriber("ada");
    let (old, new) = (token(store, &ada).await, token(store, &ada).await);
    let line = registration(&ada, "Lc.1x-9_d=", &connection(&old));
    registered(store.register(&line).await).unwrap();
    let until = now().plus_seconds(5);
    let before = store
        .raise_gate(&ada.connection(line.id.clone()), "request", until)
        .await;
    let before = before.unwrap().unwrap();
    let good = Reauthorization {
        subscriber: ada.clone(),
        id: line.id.clone(),
        old: old.clone(),
        new: new.clone(),
        at: now(),
        ends_at: now().plus_seconds(1_800),
    };
    let unchanged = async || {
        assert_eq!(entry(store, &ada, &line.id).await, before);
        assert_eq!(
            authorised(store, &old).await,
            core::slice::from_ref(&line.id)
        );
        assert_eq!(authorised(store, &new).await, []);
    };

    let invalidated = token(store, &ada).await;
    store.invalidate_token(&invalidated, now()).await.unwrap();
    let at_its_end = active_token(&ada).expires.plus_seconds(60);
    for (bad, at) in [
        (TokenHash::of(&unique()), now()),
        (invalidated, now()),
        (new.clone(), at_its_end),
    ] {
        let bad = Reauthorization {
            new: bad,
            at,
            ..good.clone()
        };
        let refused = store.reauthorize(&bad).await;
        assert!(
            matches!(refused, Err(ReauthorizeError::Token)),
            "{refused:?}"
        );
        unchanged().await;
        if bad.new != new {
            assert_eq!(authorised(store, &bad.new).await, []);
        }
    }

    let another = Reauthorization {
        old: token(store, &ada).await,
        ..good.clone()
    };
    let absent = Reauthorization {
        id: ConnectionId("absent".to_owned()),
        ..good.clone()
    };
    let nobody = Reauthorization {
        subscriber: Tenant::new().subscriber("ada"),
        ..good.clone()
    };
    for late in [another, absent, nobody] {
        let conflict = store.reauthorize(&late).await;
        assert!(
            matches!(conflict, Err(ReauthorizeError::Fault(Fault::Conflict))),
            "{conflict:?}"
        );
        unchanged().await;
        assert!(
            !store
                .connections(&ada)
                .await
                .unwrap()
                .contains_key(&ConnectionId("absent".to_owned()))
        );
    }

    store.reauthorize(&good).await.unwrap();
    let expected = Connection {
        token: new.clone(),
        ends_at: good.ends_at,
        ..before
    };
    assert_eq!(entry(store, &ada, &line.id).await, expected);
    assert_eq!(authorised(store, &old).await, []);
    assert_eq!(
        authorised(store, &new).await,
        core::slice::from_ref(&line.id)
    );
    let again = store.reauthorize(&good).await;
    assert!(
        matches!(again, Err(ReauthorizeError::Fault(Fault::Conflict))),
        "the connection already has another token: {again:?}"
    );
    assert_eq!(entry(store, &ada, &line.id).await, expected);
}
