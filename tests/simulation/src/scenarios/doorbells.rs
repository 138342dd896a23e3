//! Who may hang a doorbell: only the receiver of an open session, with the token with which it began.

use core::time::Duration;

use protocol::Timestamp;
use service::{
    DoorbellOf,
    ports::{Closing, Environment as _, Lease, Session, SessionId, SessionKey, Sessions as _},
};

use super::world;
use crate::world::subscriber;

const LASTS: Duration = Duration::from_secs(20);

#[test]
fn only_its_receiver_with_the_token_it_began_with_and_while_it_is_open() {
    let world = world(1);
    let of = world.clone();
    world.run(async move {
        let (service, ada) = (&of.service, subscriber("d", "ada"));
        let lasting = Duration::from_secs(60);
        let token = service.mint(&ada, lasting).await.unwrap().token;
        let other = service.mint(&ada, lasting).await.unwrap().token;
        let framing = service::ports::Framing::Session;
        let identity = service.authenticate(&token, framing).await.unwrap();
        let identity = identity.unwrap();
        let bell = |holder: &str| DoorbellOf {
            key: SessionKey::of(&identity.token, "s"),
            holder: holder.to_owned(),
        };
        let lets_in = async |token: &str, holder: &str| {
            let asked = service.authenticate_doorbell(token, &bell(holder)).await;
            asked.unwrap().map(|it| it.subscriber) == Some(ada.clone())
        };
        assert!(!lets_in(&token, "one").await, "there is no session yet");

        let now = service.environment.now();
        let lease = Lease {
            holder: "one".to_owned(),
            until: now.plus(LASTS),
        };
        let id = SessionId {
            key: bell("one").key,
            incarnation: "life".to_owned(),
        };
        let session = Session::new(id.incarnation.clone(), identity.clone(), lease);
        let begins = async |at: Timestamp| service.store.begin_session(&id.key, &session, at).await;
        assert!(begins(now).await.unwrap());
        assert!(lets_in(&token, "one").await);
        assert!(!lets_in(&other, "one").await, "hers, but not the session's");
        assert!(
            !lets_in(&token, "two").await,
            "nobody by that name receives"
        );
        assert!(!lets_in("nonsense", "one").await);
        // By `authorize` the session has another, which is what it ends with.
        service.invalidate_bearer(&token).await.unwrap();
        assert!(lets_in(&token, "one").await);

        let closing = Closing {
            code: 4401,
            reason: "token-invalidated".to_owned(),
        };
        let store = &service.store;
        store.close_session(&id, &closing, now).await.unwrap();
        assert!(!lets_in(&token, "one").await, "it ends");
    });
}
