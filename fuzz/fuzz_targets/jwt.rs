//! Input: any text. As a token, as the parts of a token, as signed claims and as a key set it never panics. A token is accepted
//! only if it is a known good one. Accepted claims are within the settings.
//!
//! The private keys are public: the RSA key of the tests of `jwt`, and the keys of RFC 7515 (A.3) and RFC 8037 (A.1).
#![no_main]

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jwt::{KeySet, Settings, verify};
use libfuzzer_sys::fuzz_target;
use protocol::Timestamp;
use ring::signature::Ed25519KeyPair;

/// The good tokens, which are also seeds.
const GOOD: [&str; 3] = [
    include_str!("../seeds/jwt/good-rs256"),
    ECDSA,
    include_str!("../seeds/jwt/good-eddsa"),
];
const ECDSA: &str = include_str!("../seeds/jwt/good-es256");
/// The characters of a token after which an ECDSA signature may differ: it is (r, s) or (r, n - s).
const UP_TO_S: usize = ECDSA.len() - 44;
/// The longest life of a token in seconds, and the difference of clocks that is allowed.
const MAX_SECONDS: i64 = 86_400;
const SKEW: i64 = 60;

struct Issuer {
    settings: Settings,
    keys: KeySet,
    pair: Ed25519KeyPair,
}

static ISSUER: LazyLock<Issuer> = LazyLock::new(|| {
    let settings = Settings::read(|name| {
        let value = match name {
            "JWT_ISSUER" => "https://issuer.example",
            "JWT_AUDIENCE" => "messaging",
            "JWT_JWKS_URL" => "https://issuer.example/keys",
            "JWT_DOMAINS" => "d",
            _ => return None,
        };
        Some(value.to_owned())
    });
    let decode = |text| URL_SAFE_NO_PAD.decode(text).expect("base64url");
    let issuer = Issuer {
        settings: settings.expect("valid settings").expect("an issuer"),
        keys: KeySet::read(include_bytes!("../seeds/jwt/keys")).expect("usable keys"),
        pair: Ed25519KeyPair::from_seed_and_public_key(
            &decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"),
            &decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"),
        )
        .expect("a key pair"),
    };
    for token in GOOD {
        assert!(
            verify(&issuer.settings, &issuer.keys, token).is_some(),
            "refused: {token}"
        );
    }
    issuer
});

fuzz_target!(|text: &str| {
    let issuer = &*ISSUER;
    issuer.assert_known(text);
    issuer.assert_known(&encoded(text));
    issuer.assert_claims(text);
    if let Some(keys) = KeySet::read(text.as_bytes()) {
        for token in GOOD {
            let _ = verify(&issuer.settings, &keys, token);
        }
    }
});

impl Issuer {
    /// Fails if the token is accepted without being a good one. An ECDSA signature has two texts.
    fn assert_known(&self, token: &str) {
        if verify(&self.settings, &self.keys, token).is_some() {
            let is_good = GOOD.contains(&token) || token.get(..UP_TO_S) == ECDSA.get(..UP_TO_S);
            assert!(is_good, "accepted: {token}");
        }
    }

    /// Signs the text as claims. Fails if the claims are accepted but exceed the settings.
    fn assert_claims(&self, claims: &str) {
        let header = r#"{"alg":"EdDSA","kid":"ed25519"}"#;
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature = self.pair.sign(signed.as_bytes());
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        let Some(accepted) = verify(&self.settings, &self.keys, &token) else {
            return;
        };
        assert_eq!(accepted.subscriber.domain.as_str(), "d");
        let (begins, expires) = (accepted.begins, accepted.expires);
        assert!(begins.plus_seconds(MAX_SECONDS + SKEW) >= expires);
        assert_eq!(Timestamp::parse(&expires.to_string()), Some(expires));
    }
}

/// Returns a token whose parts are the first three lines, so that the fuzzer need not write base64url.
fn encoded(text: &str) -> String {
    let mut lines = text.splitn(3, '\n').map(|it| URL_SAFE_NO_PAD.encode(it));
    let mut part = || lines.next().unwrap_or_default();
    format!("{}.{}.{}", part(), part(), part())
}
