//! An issuer's keys (RFC 7517), and signatures verified with them.

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

use crate::parse::{Parsed, decode};

/// The maximum number of keys of a set. Later ones are ignored.
const KEYS: usize = 100;
/// The length of an RSA modulus in bytes: 2,048 to 8,192 bits.
const MODULUS_BYTES: core::ops::RangeInclusive<usize> = 256..=1024;

/// The keys of a set that can verify tokens. There is at least one.
#[derive(Debug)]
pub struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    kid: Option<String>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// The result of verifying a token with a key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The token is signed with a key of the set.
    Good,
    /// The signature is wrong. Fresh keys would not change that.
    Bad,
    /// The set lacks the key. A fresh set may have it.
    Unknown,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

impl KeySet {
    /// Reads a key set. Keys of other kinds or for other uses are ignored (RFC 7517, 5). Returns `None` if the text is not a
    /// key set, or if no key is left. An issuer that publishes no usable key makes a mistake, so its old keys must stay.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let Jwks { keys } = serde_json::from_slice(body).ok()?;
        let keys: Vec<Key> = keys
            .into_iter()
            .take(KEYS)
            .filter_map(|it| Key::read(serde_json::from_value(it).ok()?))
            .collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Verifies a token's signature.
    pub(crate) fn verify(&self, token: &Parsed<'_>) -> Verdict {
        match (&token.header.kid, self.0.as_slice()) {
            (Some(kid), keys) => {
                let mut named = keys
                    .iter()
                    .filter(|it| it.kid.as_ref() == Some(kid))
                    .peekable();
                if named.peek().is_none() {
                    Verdict::Unknown
                } else if named.any(|key| key.material.has_signed(token)) {
                    Verdict::Good
                } else {
                    Verdict::Bad
                }
            }
            // Without a name the set must have one key. The issuer may have replaced it since.
            (None, [key]) if key.material.has_signed(token) => Verdict::Good,
            (None, [_]) => Verdict::Unknown,
            (None, _) => Verdict::Bad,
        }
    }
}

impl Key {
    fn read(jwk: Jwk) -> Option<Self> {
        if jwk.usage.as_ref().is_some_and(|it| it != "sig")
            || jwk
                .key_ops
                .is_some_and(|operations| !operations.iter().any(|it| it == "verify"))
        {
            return None;
        }
        let part = |text: Option<String>| decode(&text?);
        let coordinate = |text| part(text).filter(|it| it.len() == 32);
        let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => Material::Rsa {
                n: part(jwk.n).filter(|it| MODULUS_BYTES.contains(&it.len()))?,
                e: part(jwk.e).filter(|it| !it.is_empty() && it.len() <= 8)?,
            },
            // As an uncompressed point (SEC 1, 2.3.3).
            ("EC", Some("P-256")) => {
                Material::P256([vec![4], coordinate(jwk.x)?, coordinate(jwk.y)?].concat())
            }
            ("OKP", Some("Ed25519")) => Material::Ed25519(coordinate(jwk.x)?),
            _ => return None,
        };
        let fits = jwk.alg.is_none_or(|it| material.is_for(&it));
        fits.then_some(Self {
            kid: jwk.kid,
            material,
        })
    }
}

impl Material {
    /// Returns true if a key of this kind is for the algorithm. Each kind has one algorithm.
    fn is_for(&self, algorithm: &str) -> bool {
        match self {
            Self::Rsa { .. } => algorithm == "RS256",
            Self::P256(_) => algorithm == "ES256",
            // The second name is from RFC 9864.
            Self::Ed25519(_) => matches!(algorithm, "EdDSA" | "Ed25519"),
        }
    }

    /// Returns true if the token is signed with this key, by this key's algorithm.
    fn has_signed(&self, token: &Parsed<'_>) -> bool {
        self.is_for(&token.header.alg) && self.verify(token.signed.as_bytes(), &token.signature)
    }

    /// Returns true if `signature` is this key's signature of `message`.
    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match self {
            Self::Rsa { n, e } => RsaPublicKeyComponents { n, e }.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                message,
                signature,
            ),
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
        };
        verified.is_ok()
    }
}

#[cfg(test)]
mod tests;
