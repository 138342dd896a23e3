//! A doorbell is accepted only from the receiver of an open session, with the token with which the session began.

use core::time::Duration;

use protocol::Timestamp;
use service::{
    DoorbellOf,
    ports::{Clock as _, Closing, Lease, Session, SessionId, SessionKey, Sessions as _},
};

use super::world;
use crate::world::subscriber;

const LASTS: Duration = Duration::from_secs(20);

#[test]
fn doorbell_requires_receiver_and_session_token() {
    let world = world(1);
    let of = world.clone();
    world.run(async move {
        let (service, ada) = (&of.service, subscriber("d", "ada"));
        let lasting = Duration::from_secs(60);
        let token = service.issue_token(&ada, lasting).await.unwrap().token;
        let other = service.issue_token(&ada, lasting).await.unwrap().token;
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
        assert!(
            !lets_in(&other, "one").await,
            "a token of the subscriber, but not the session's"
        );
        assert!(!lets_in(&token, "two").await, "`two` is not the receiver");
        assert!(!lets_in("nonsense", "one").await);
        // After `authorize` the session has another token, and ends when that one does.
        service.invalidate_bearer(&token).await.unwrap();
        assert!(lets_in(&token, "one").await);

        let closing = Closing {
            code: 4401,
            reason: "token-invalidated".to_owned(),
        };
        let store = &service.store;
        store.close_session(&id, &closing, now).await.unwrap();
        assert!(!lets_in(&token, "one").await, "the session is closing");
    });
}
