//! An issuer of signed tokens, and a local gateway that accepts them.

#![allow(clippy::indexing_slicing, reason = "a failed test shows the line")]

use std::time::SystemTime;

use anyhow::{Result, anyhow};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use tests::{Gateway, Site};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};

/// The issuer's name (`iss`).
pub(crate) const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "messaging";

/// An issuer with one key, and the server that publishes it.
pub(crate) struct Issuer {
    pair: EcdsaKeyPair,
    server: JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Issuer {
    /// Starts the issuer and a gateway that accepts its tokens for any domain.
    pub(crate) async fn start() -> Result<(Self, Gateway)> {
        Self::start_for("").await
    }

    /// Starts the issuer and a gateway that accepts its tokens for these domains.
    pub(crate) async fn start_for(domains: &str) -> Result<(Self, Gateway)> {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random);
        let made = made.map_err(|error| anyhow!("no key: {error}"))?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random);
        let pair = pair.map_err(|error| anyhow!("no key: {error}"))?;
        let point = pair.public_key().as_ref();
        let keys = json!({"keys": [{
            "kty": "EC",
            "crv": "P-256",
            "kid": "one",
            "use": "sig",
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]),
            "y": URL_SAFE_NO_PAD.encode(&point[33..]),
        }]})
        .to_string();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/keys", listener.local_addr()?);
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{keys}",
            keys.len()
        );
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n")
                    && stream.read_buf(&mut request).await.is_ok_and(|it| it > 0)
                {}
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let parameters = [
            format!("JwtIssuer={ISSUER}"),
            format!("JwtAudience={AUDIENCE}"),
            format!("JwtJwksUrl={url}"),
            format!("JwtDomains={domains}"),
        ];
        let arguments: Vec<&str> = parameters
            .iter()
            .flat_map(|it| ["--parameter", it.as_str()])
            .collect();
        let gateway = Gateway::start(&arguments)?;
        Ok((Self { pair, server }, gateway))
    }

    fn sign(&self, header: &Value, claims: &Value) -> Result<String> {
        let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let part = format!("{}.{}", text(header), text(claims));
        let signature = self.pair.sign(&SystemRandom::new(), part.as_bytes());
        let signature = signature.map_err(|error| anyhow!("not signed: {error}"))?;
        Ok(format!("{part}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Returns a token of a subscriber that expires in ten minutes. `more` adds or replaces claims.
    pub(crate) fn token(&self, site: &Site, subscriber: &str, more: &Value) -> Result<String> {
        let mut claims = json!({
            "iss": ISSUER,
            "aud": AUDIENCE,
            "domain": site.domain,
            "sub": subscriber,
            "exp": seconds() + 600,
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            claims[name.as_str()] = value.clone();
        }
        self.sign(&json!({"alg": "ES256", "kid": "one"}), &claims)
    }
}

/// Returns the seconds since the epoch.
pub(crate) fn seconds() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed();
    since.unwrap_or_default().as_secs()
}
