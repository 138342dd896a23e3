//! Which tokens are accepted. The tests act as the issuer.

mod issuer;
mod rfc;
mod rotation;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use service::ports::{Credential, Jti, SignedToken, TokenHash, TokenVerifier as _};

use crate::{KeySet, verify};

use self::issuer::{
    AUDIENCE, ISSUER, Keys, NOW, Server, Signer, configured, environment, now, token,
};

/// Verifies a token as a function does that accepts `ISSUER` with these keys.
async fn verified(keys: &Server, token: &str) -> Option<SignedToken> {
    let (environment, _) = environment(keys, "domain");
    match environment.credential(token).await.unwrap() {
        Credential::Signed { token, .. } => token,
        Credential::Opaque => panic!("{token} is opaque"),
    }
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "domain": "d", "sub": "ada", "exp": NOW + 600})
}

fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name).unwrap();
    claims
}

#[tokio::test]
async fn given_keys_verify_like_fetched_ones() {
    let keys = Keys::new();
    let published = keys.published();
    let server = Server::start(&published).await;
    let settings = issuer::settings(&server, &[]);
    let set = KeySet::read(published.to_string().as_bytes()).unwrap();
    let other = Signer::ed25519("ed25519");
    for token in [
        token(&keys.rsa, &claims()),
        token(&keys.p256, &with("jti", "one")),
        token(&keys.ed25519, &without("sub")),
        token(&other, &claims()),
        "a.b.c".to_owned(),
    ] {
        let found = verify(&settings, &set, &token);
        assert_eq!(found, verified(&server, &token).await, "{token}");
    }
}

#[tokio::test]
async fn each_key_kind_verifies_its_algorithm() {
    let keys = Keys::new();
    let server = Server::start(&keys.published()).await;
    for signer in [&keys.rsa, &keys.p256, &keys.ed25519] {
        let token = token(signer, &with("jti", "one"));
        let found = verified(&server, &token).await.unwrap();
        let signed = token.rsplit_once('.').unwrap().0;
        assert_eq!(found.hash, TokenHash::of_signed(signed));
        assert_ne!(found.hash, TokenHash::of(signed));
        assert_eq!(found.subscriber.domain.as_str(), "d");
        assert_eq!(found.subscriber.id.as_str(), "ada");
        assert_eq!(found.expires.millis(), (NOW + 600) * 1_000);
        assert_eq!(found.jti, Some(Jti::new(ISSUER, "one")));
        assert!(found.holds(now()));
    }
}

#[tokio::test]
async fn invalid_claims_are_refused() {
    let keys = Keys::new();
    let server = Server::start(&keys.published()).await;
    let good = [
        claims(),
        with("aud", json!(["other", AUDIENCE])),
        with("exp", 1_800_000_005.5),
        with("nbf", NOW + 59),
        with("iat", NOW - 85_800),
        with("jti", "x".repeat(256)),
        with("scope", json!({"any": ["thing"]})),
    ];
    for claims in good {
        let found = verified(&server, &token(&keys.ed25519, &claims)).await;
        assert!(found.is_some_and(|it| it.holds(now())), "{claims}");
    }
    let bad = [
        without("iss"),
        without("aud"),
        without("domain"),
        without("sub"),
        without("exp"),
        with("iss", "https://issuer.example/"),
        with("iss", json!([ISSUER])),
        with("aud", "other"),
        with("aud", json!([])),
        with("aud", json!([[AUDIENCE]])),
        with("aud", format!("{AUDIENCE} ")),
        with("domain", "d#e"),
        with("domain", ""),
        with("sub", "a/b"),
        with("sub", 7),
        with("sub", "x".repeat(129)),
        with("exp", (NOW + 600).to_string()),
        with("exp", -1),
        with("exp", 1e300),
        with("exp", 253_402_300_799_i64),
        with("iat", NOW - 85_801),
        with("exp", Value::Null),
        with("nbf", "0"),
        with("iat", true),
        with("jti", 1),
        with("jti", ""),
        with("jti", "a\u{0}"),
        with("jti", "x".repeat(257)),
        json!([claims()]),
        json!("text"),
    ];
    for claims in bad {
        let found = verified(&server, &token(&keys.ed25519, &claims)).await;
        assert!(found.is_none(), "{claims}");
    }
    // These are verified but not in force. `SignedToken::holds` decides that.
    for claims in [
        with("exp", NOW),
        with("exp", NOW - 1),
        with("nbf", NOW + 61),
        with("iat", NOW + 61),
        with("exp", NOW + 86_461),
    ] {
        let found = verified(&server, &token(&keys.ed25519, &claims)).await;
        assert!(!found.unwrap().holds(now()), "{claims}");
    }
}

#[tokio::test]
async fn token_life_is_bounded() {
    let keys = Keys::new();
    let server = Server::start(&keys.published()).await;
    let day = 86_400;
    let lasting = |issued: Option<i64>, expires: i64| {
        let mut claims = with("exp", expires);
        if let Some(issued) = issued {
            claims["iat"] = issued.into();
        }
        claims
    };
    for (claims, accepted) in [
        (lasting(Some(NOW), NOW + day), true),
        (lasting(Some(NOW), NOW + day + 1), false),
        (lasting(Some(NOW + 60), NOW + 60 + day), true),
        (lasting(Some(NOW - day), NOW + 1), false),
        // Without `iat`, the bound applies from now. The clocks may differ by a minute.
        (lasting(None, NOW + day + 60), true),
        (lasting(None, NOW + day + 61), false),
        (lasting(None, 253_402_207_200), false),
        (lasting(None, 253_402_207_201), false),
        (lasting(Some(253_402_207_201), 253_402_207_201), false),
    ] {
        let found = verified(&server, &token(&keys.ed25519, &claims)).await;
        assert_eq!(
            found.is_some_and(|it| it.holds(now())),
            accepted,
            "{claims}"
        );
    }
    // Such a token can be invalidated before it comes into force.
    let claims = lasting(None, NOW + 30 * day);
    let found = verified(&server, &token(&keys.ed25519, &claims)).await;
    let found = found.unwrap();
    assert!(!found.holds(now()));
    assert!(found.holds(now().plus_seconds(29 * day)));
}

#[tokio::test]
async fn token_cannot_choose_its_algorithm() {
    let keys = Keys::new();
    let server = Server::start(&keys.published()).await;
    for signer in [&keys.rsa, &keys.p256, &keys.ed25519] {
        let kid = signer.kid();
        for algorithm in [
            "none", "None", "", "HS256", "HS384", "RS384", "RS512", "PS256", "ES384", "ES256K",
            "rs256",
        ] {
            let header = json!({"alg": algorithm, "kid": kid});
            let found = verified(&server, &signer.sign(&header, &claims())).await;
            assert!(found.is_none(), "{algorithm}");
        }
        // A signature by another key, under this key's name.
        for other in [&keys.rsa, &keys.p256, &keys.ed25519] {
            if other.kid() != kid {
                for algorithm in [other.algorithm(), signer.algorithm()] {
                    let header = json!({"alg": algorithm, "kid": kid});
                    let found = verified(&server, &other.sign(&header, &claims())).await;
                    assert!(found.is_none(), "{algorithm}");
                }
            }
        }
        let header = json!({"alg": "none", "kid": kid});
        let unsigned = format!("{}.", issuer::signed_part(&header, &claims()));
        assert!(verified(&server, &unsigned).await.is_none());
        // An HMAC whose secret is the public key.
        for secret in signer.public_forms() {
            let header = json!({"alg": "HS256", "kid": kid});
            let part = issuer::signed_part(&header, &claims());
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
            let mac = ring::hmac::sign(&key, part.as_bytes());
            let forged = format!("{part}.{}", URL_SAFE_NO_PAD.encode(mac));
            assert!(verified(&server, &forged).await.is_none());
        }
    }
}

#[tokio::test]
async fn changed_token_is_refused() {
    let keys = Keys::new();
    let server = Server::start(&keys.published()).await;
    for signer in [&keys.rsa, &keys.p256, &keys.ed25519] {
        let good = token(signer, &claims());
        let parts: Vec<&str> = good.split('.').collect();
        let other = token(signer, &with("sub", "bob"));
        let theirs: Vec<&str> = other.split('.').collect();
        let mut signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
        signature[5] ^= 1;
        let flipped = URL_SAFE_NO_PAD.encode(&signature);
        let cut = URL_SAFE_NO_PAD.encode(&signature[..signature.len() - 1]);
        for changed in [
            format!("{}.{}.{}", parts[0], theirs[1], parts[2]),
            format!("{}.{}.{flipped}", parts[0], parts[1]),
            format!("{}.{}.{cut}", parts[0], parts[1]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}..{}", parts[0], parts[2]),
        ] {
            assert!(verified(&server, &changed).await.is_none(), "{changed}");
        }
        assert!(verified(&server, &good).await.is_some());
    }
}

#[tokio::test]
async fn alternative_ecdsa_signature_keeps_token_hash() {
    let keys = Keys::new();
    let server = Server::start(&keys.published()).await;
    let good = token(&keys.p256, &claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    // (r, n - s) is valid if (r, s) is. n is the order of P-256 (SEC 2, 2.4.2).
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut borrow = 0;
    for (index, digit) in (0..32).zip(order).rev() {
        let difference = digit - i32::from(signature[32 + index]) - borrow;
        borrow = i32::from(difference < 0);
        signature[32 + index] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    let other = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&signature));
    assert_ne!(other, good);
    assert_eq!(
        verified(&server, &other).await.unwrap(),
        verified(&server, &good).await.unwrap()
    );
}

#[tokio::test]
async fn malformed_token_fetches_no_keys() {
    let keys = Keys::new();
    let server = Server::start(&keys.published()).await;
    let long = token(&keys.ed25519, &with("more", "x".repeat(7_000)));
    for refused in ["a.b.c", "e30.e30.AA", "AA..", long.as_str()] {
        assert!(verified(&server, refused).await.is_none());
    }
    assert_eq!(server.asked(), 0);
    let short = token(&keys.ed25519, &with("more", "x".repeat(4_000)));
    assert!(verified(&server, &short).await.is_some());
}

#[tokio::test]
async fn other_tokens_are_opaque() {
    let keys = Keys::new();
    let server = Server::start(&keys.published()).await;
    let (on, _) = environment(&server, "domain");
    for opaque in ["", "garbage", "a.b", "a.b.c.d", "ü.b.c", "a b.c.d"] {
        assert_eq!(on.credential(opaque).await.unwrap(), Credential::Opaque);
    }
    let off = issuer::without_issuer();
    let signed = token(&keys.rsa, &claims());
    assert_eq!(off.credential(&signed).await.unwrap(), Credential::Opaque);
    assert_eq!(off.jti(None, "one"), None);
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn domain_is_read_from_configured_claim() {
    let keys = Keys::new();
    let server = Server::start(&keys.published()).await;
    let (environment, _) = environment(&server, "tenant");
    let mut claims = with("tenant", "t");
    let token = token(&keys.rsa, &claims);
    let Credential::Signed { token: found, .. } = environment.credential(&token).await.unwrap()
    else {
        panic!("opaque");
    };
    assert_eq!(found.unwrap().subscriber.domain.as_str(), "t");
    claims.as_object_mut().unwrap().remove("tenant").unwrap();
    let token = issuer::token(&keys.rsa, &claims);
    let Credential::Signed { token: found, .. } = environment.credential(&token).await.unwrap()
    else {
        panic!("opaque");
    };
    assert!(found.is_none());
}

#[tokio::test]
async fn unlisted_domain_is_refused() {
    let keys = Keys::new();
    let server = Server::start(&keys.published()).await;
    let (environment, _) = configured(&server, &[("JWT_DOMAINS", "a,b")]);
    for (domain, accepted) in [
        ("a", true),
        ("b", true),
        ("d", false),
        ("A", false),
        ("a,b", false),
    ] {
        let token = token(&keys.rsa, &with("domain", domain));
        let Credential::Signed { token: found, .. } = environment.credential(&token).await.unwrap()
        else {
            panic!("opaque");
        };
        assert_eq!(found.is_some(), accepted, "{domain}");
    }
}

#[tokio::test]
async fn jti_of_other_issuer_is_none() {
    let server = Server::start(&json!({"keys": []})).await;
    let (environment, _) = environment(&server, "domain");
    let expected = Some(Jti::new(ISSUER, "one"));
    assert_eq!(environment.jti(None, "one"), expected);
    assert_eq!(environment.jti(Some(ISSUER), "one"), expected);
    assert_eq!(environment.jti(Some("https://other.example"), "one"), None);
    assert_eq!(environment.jti(None, ""), None);
}

impl Signer {
    /// Returns the public key in forms that a careless verifier might use as a secret.
    fn public_forms(&self) -> [Vec<u8>; 2] {
        [self.public().to_vec(), self.jwk().to_string().into_bytes()]
    }
}
