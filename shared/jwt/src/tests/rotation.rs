//! The issuer's keys: named, replaced, removed, unreachable, and of unsupported kinds.

use core::time::Duration;

use serde_json::{Value, json};
use service::ports::{Credential, Fault, TokenVerifier as _};

use super::{
    claims,
    issuer::{Clock, Keys, Server, Signer, environment, token},
    verified,
};
use crate::{
    WithIssuer,
    source::{KEPT, OLD, PAUSE},
};

async fn accepts(environment: &WithIssuer<Clock>, token: &str) -> bool {
    match environment.credential(token).await.unwrap() {
        Credential::Signed { token, .. } => token.is_some(),
        Credential::Opaque => panic!("{token} is opaque"),
    }
}

fn set(signers: &[&Signer]) -> Value {
    let keys: Vec<Value> = signers.iter().map(|it| it.jwk()).collect();
    json!({ "keys": keys })
}

#[tokio::test]
async fn unknown_kid_fetches_keys_after_pause() {
    let (old, new, never) = (
        Signer::ed25519("old"),
        Signer::ed25519("new"),
        Signer::ed25519("never"),
    );
    let server = Server::start(&set(&[&old])).await;
    let (environment, clock) = environment(&server, "domain");
    for _ in 0..3 {
        assert!(accepts(&environment, &token(&old, &claims())).await);
    }
    assert_eq!(server.asked(), 1);

    server.publish(&set(&[&old, &new]));
    assert!(!accepts(&environment, &token(&new, &claims())).await);
    assert_eq!(server.asked(), 1, "the keys were fetched a moment ago");
    clock.advance(PAUSE);
    assert!(accepts(&environment, &token(&new, &claims())).await);
    assert!(accepts(&environment, &token(&old, &claims())).await);
    assert_eq!(server.asked(), 2);

    clock.advance(PAUSE);
    for _ in 0..3 {
        assert!(!accepts(&environment, &token(&never, &claims())).await);
    }
    assert_eq!(server.asked(), 3);
}

#[tokio::test]
async fn removed_key_counts_until_next_fetch() {
    let (old, new) = (Signer::ed25519("old"), Signer::ed25519("new"));
    let server = Server::start(&set(&[&old])).await;
    let (environment, clock) = environment(&server, "domain");
    assert!(accepts(&environment, &token(&old, &claims())).await);
    server.publish(&set(&[&new]));
    clock.advance(OLD - Duration::from_secs(1));
    assert!(accepts(&environment, &token(&old, &claims())).await);
    clock.advance(Duration::from_secs(1));
    assert!(!accepts(&environment, &token(&old, &claims())).await);
    assert!(accepts(&environment, &token(&new, &claims())).await);
}

#[tokio::test]
async fn failed_fetch_keeps_old_keys() {
    let key = Signer::ed25519("key");
    let server = Server::start(&set(&[&key])).await;
    let (environment, clock) = environment(&server, "domain");
    let token = token(&key, &claims());
    assert!(accepts(&environment, &token).await);
    let large = "x".repeat(300 * 1024);
    for (status, body) in [
        ("500 Internal Server Error", "{}"),
        ("302 Found", ""),
        ("200 OK", "<html>"),
        ("200 OK", "{}"),
        ("200 OK", r#"{"keys": []}"#),
        ("200 OK", r#"{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}"#),
        ("200 OK", large.as_str()),
    ] {
        server.answer_with(status, body);
        clock.advance(OLD);
        let before = server.asked();
        assert!(accepts(&environment, &token).await, "{status}");
        assert!(accepts(&environment, &token).await, "{status}");
        assert_eq!(server.asked(), before + 1);
    }
    clock.advance(KEPT);
    let unknown = environment.credential(&token).await;
    assert!(matches!(unknown, Err(Fault::Refused(_))), "{unknown:?}");
    server.publish(&set(&[&key]));
    clock.advance(PAUSE);
    assert!(accepts(&environment, &token).await);
}

#[tokio::test]
async fn empty_key_set_keeps_old_keys() {
    let (key, never) = (Signer::ed25519("key"), Signer::ed25519("never"));
    let server = Server::start(&set(&[&key])).await;
    let (environment, clock) = environment(&server, "domain");
    assert!(accepts(&environment, &token(&key, &claims())).await);
    server.publish(&set(&[]));
    clock.advance(PAUSE);
    // The unknown key causes a fetch.
    assert!(!accepts(&environment, &token(&never, &claims())).await);
    assert_eq!(server.asked(), 2);
    assert!(accepts(&environment, &token(&key, &claims())).await);
}

#[tokio::test]
async fn empty_first_key_set_is_a_fault() {
    let key = Signer::ed25519("key");
    let server = Server::start(&set(&[])).await;
    let (environment, clock) = environment(&server, "domain");
    let token = token(&key, &claims());
    assert!(environment.credential(&token).await.is_err());
    server.publish(&set(&[&key]));
    clock.advance(Duration::from_secs(1));
    assert!(accepts(&environment, &token).await);
}

#[tokio::test]
async fn missing_keys_are_a_fault() {
    let key = Signer::ed25519("key");
    let server = Server::start(&json!({})).await;
    let (environment, clock) = environment(&server, "domain");
    let token = token(&key, &claims());
    for _ in 0..3 {
        assert!(environment.credential(&token).await.is_err());
    }
    assert_eq!(server.asked(), 1);
    server.publish(&set(&[&key]));
    clock.advance(Duration::from_secs(1));
    assert!(accepts(&environment, &token).await);
}

#[tokio::test]
async fn missing_kid_needs_single_key() {
    let (one, two) = (Signer::ed25519("one"), Signer::ed25519("two"));
    let nameless = |signer: &Signer| signer.sign(&json!({"alg": "EdDSA"}), &claims());
    let server = Server::start(&set(&[&one])).await;
    assert!(verified(&server, &nameless(&one)).await.is_some());
    assert!(verified(&server, &nameless(&two)).await.is_none());
    server.publish(&set(&[&one, &two]));
    assert!(verified(&server, &nameless(&one)).await.is_none());
    let wrong = one.sign(&json!({"alg": "EdDSA", "kid": "two"}), &claims());
    assert!(verified(&server, &wrong).await.is_none());

    // The only key was replaced. A token without `kid` causes the fetch.
    server.publish(&set(&[&one]));
    let (environment, clock) = environment(&server, "domain");
    assert!(accepts(&environment, &nameless(&one)).await);
    server.publish(&set(&[&two]));
    clock.advance(PAUSE);
    assert!(accepts(&environment, &nameless(&two)).await);
}

#[tokio::test]
async fn unusable_keys_are_ignored() {
    let keys = Keys::new();
    // A usable key beside the others, so that the set is accepted.
    let usable = Signer::ed25519("usable").jwk();
    let server = Server::start(&json!({})).await;
    for signer in [&keys.rsa, &keys.p256, &keys.ed25519] {
        let token = token(signer, &claims());
        let changed = |name: &str, value: Value| {
            let mut jwk = signer.jwk();
            jwk[name] = value;
            jwk
        };
        for bad in [
            changed("use", json!("enc")),
            changed("key_ops", json!(["encrypt"])),
            changed("alg", json!("HS256")),
            changed("alg", json!("RS512")),
            changed("kty", json!("oct")),
            changed("kid", json!("other")),
            changed("kid", Value::Null),
            json!({"kty": "oct", "kid": signer.kid(), "k": "c2VjcmV0"}),
            json!("text"),
        ] {
            server.publish(&json!({"keys": [bad, usable]}));
            assert!(verified(&server, &token).await.is_none(), "{bad}");
        }
        let mut plain = signer.jwk();
        for name in ["alg", "use"] {
            plain.as_object_mut().unwrap().remove(name).unwrap();
        }
        plain["key_ops"] = json!(["verify"]);
        // Unknown kinds of keys and unknown members are ignored.
        server.publish(&json!({"keys": [{"kty": "AKP", "kid": "new"}, plain], "more": 1}));
        assert!(verified(&server, &token).await.is_some());
    }
    let mut short = keys.rsa.jwk();
    short["n"] = "AQAB".into();
    server.publish(&json!({"keys": [short, usable]}));
    assert!(
        verified(&server, &token(&keys.rsa, &claims()))
            .await
            .is_none()
    );
}
