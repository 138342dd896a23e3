//! An issuer: its keys, its tokens, and the server that publishes the keys.

use core::{
    sync::atomic::{AtomicI64, AtomicUsize, Ordering},
    time::Duration,
};
use std::sync::{Arc, Mutex};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use protocol::Timestamp;
use ring::{
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use serde_json::{Value, json};
use service::ports;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};

use crate::{Settings, WithIssuer};

pub(super) const ISSUER: &str = "https://issuer.example";
pub(super) const AUDIENCE: &str = "messaging";
/// The time of the tests, in seconds since the epoch.
pub(super) const NOW: i64 = 1_800_000_000;

/// An RSA key of 2,048 bits, used only here. Generating one takes seconds.
const RSA: &[u8] = include_bytes!("../fixtures/rsa-2048.pkcs8");

pub(super) fn now() -> Timestamp {
    Timestamp::from_millis(NOW * 1_000)
}

/// A clock that the test advances.
#[derive(Clone, Debug)]
pub(super) struct Clock(Arc<AtomicI64>);

impl Clock {
    pub(super) fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap();
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl ports::Clock for Clock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }

    async fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}

impl ports::Random for Clock {
    fn fresh_id(&self) -> String {
        "id".to_owned()
    }

    fn fresh_token(&self) -> String {
        "token".to_owned()
    }
}

impl ports::Metrics for Clock {}

impl ports::TokenVerifier for Clock {}

/// Returns the environment of a function that accepts tokens of `ISSUER`, and its clock.
pub(super) fn environment(keys: &Server, domain_claim: &str) -> (WithIssuer<Clock>, Clock) {
    configured(keys, &[("JWT_DOMAIN_CLAIM", domain_claim)])
}

/// Returns an environment and its clock, with more variables than the required ones.
pub(super) fn configured(keys: &Server, more: &[(&str, &str)]) -> (WithIssuer<Clock>, Clock) {
    let clock = Clock(Arc::new(AtomicI64::new(now().millis())));
    let environment = WithIssuer::new(clock.clone(), Some(settings(keys, more))).unwrap();
    (environment, clock)
}

/// Returns the settings for tokens of `ISSUER`, with more variables than the required ones.
pub(super) fn settings(keys: &Server, more: &[(&str, &str)]) -> Settings {
    let settings = Settings::read(|name| {
        let value = match name {
            "JWT_ISSUER" => ISSUER,
            "JWT_AUDIENCE" => AUDIENCE,
            "JWT_JWKS_URL" => &keys.url,
            _ => more.iter().find(|(it, _)| *it == name)?.1,
        };
        Some(value.to_owned())
    });
    settings.unwrap().unwrap()
}

pub(super) fn without_issuer() -> WithIssuer<Clock> {
    let clock = Clock(Arc::new(AtomicI64::new(now().millis())));
    WithIssuer::new(clock, None).unwrap()
}

/// A private key with a `kid`.
pub(super) struct Signer {
    kid: String,
    pair: Pair,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// One key of each kind.
pub(super) struct Keys {
    pub(super) rsa: Signer,
    pub(super) p256: Signer,
    pub(super) ed25519: Signer,
}

impl Keys {
    pub(super) fn new() -> Self {
        let pair = RsaKeyPair::from_pkcs8(RSA).unwrap();
        let rsa = Signer {
            kid: "rsa".to_owned(),
            pair: Pair::Rsa(Box::new(pair)),
        };
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random).unwrap();
        let p256 = Signer {
            kid: "p256".to_owned(),
            pair: Pair::P256(pair),
        };
        Self {
            rsa,
            p256,
            ed25519: Signer::ed25519("ed25519"),
        }
    }

    pub(super) fn published(&self) -> Value {
        json!({"keys": [self.rsa.jwk(), self.p256.jwk(), self.ed25519.jwk()]})
    }
}

impl Signer {
    /// Generates a key.
    pub(super) fn ed25519(kid: &str) -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self {
            kid: kid.to_owned(),
            pair: Pair::Ed25519(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap()),
        }
    }

    pub(super) fn kid(&self) -> &str {
        &self.kid
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
            Pair::Ed25519(_) => "EdDSA",
        }
    }

    pub(super) fn public(&self) -> &[u8] {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::P256(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    pub(super) fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let parts: PublicKeyComponents<Vec<u8>> = pair.public_key().into();
                json!({"kty": "RSA", "n": text(&parts.n), "e": text(&parts.e)})
            }
            Pair::P256(_) => json!({
                "kty": "EC",
                "crv": "P-256",
                "x": text(&self.public()[1..33]),
                "y": text(&self.public()[33..]),
            }),
            Pair::Ed25519(_) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": text(self.public())})
            }
        };
        jwk["kid"] = self.kid.as_str().into();
        jwk["alg"] = self.algorithm().into();
        jwk["use"] = "sig".into();
        jwk
    }

    /// Signs any header and claims with the key's own algorithm.
    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = signed_part(header, claims);
        let (message, random) = (part.as_bytes(), SystemRandom::new());
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .unwrap();
                signature
            }
            Pair::P256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        };
        format!("{part}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

pub(super) fn signed_part(header: &Value, claims: &Value) -> String {
    let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", text(header), text(claims))
}

/// Returns a token with the right header.
pub(super) fn token(signer: &Signer, claims: &Value) -> String {
    let header = json!({"alg": signer.algorithm(), "kid": signer.kid(), "typ": "JWT"});
    signer.sign(&header, claims)
}

/// A server on loopback that publishes keys. It stops when it is dropped.
pub(super) struct Server {
    url: String,
    answer: Arc<Mutex<Vec<u8>>>,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(keys: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::new(AtomicUsize::new(0));
        let (answers, counted) = (Arc::clone(&answer), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n")
                    && stream.read_buf(&mut request).await.unwrap() > 0
                {}
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = answers.lock().unwrap().clone();
                // The client may have closed the connection.
                let _ = stream.write_all(&answer).await;
            }
        });
        let server = Self {
            url,
            answer,
            asked,
            task,
        };
        server.publish(keys);
        server
    }

    /// Publishes these keys from now on.
    pub(super) fn publish(&self, keys: &Value) {
        self.answer_with("200 OK", &keys.to_string());
    }

    pub(super) fn answer_with(&self, status: &str, body: &str) {
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nlocation: /keys\r\nconnection: close\r\n\r\n{body}"
        );
        *self.answer.lock().unwrap() = answer.into_bytes();
    }

    /// Returns the number of requests so far.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
