//! Signed tokens (JSON Web Tokens) of another issuer, and what is stored of them.
//!
//! A signed token says who its subscriber is and when it ends, so nothing is stored before it is used. The use of a
//! token is stored, as for an opaque token, so that its connections can be found. Its invalidation is stored too.

use core::fmt;

use protocol::{Subscriber, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Fault, Page, Reauthorization, ReauthorizeError, RegisterError, Registration, TokenHash,
};

/// The id that an issuer gave a token (`jti`), together with the issuer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Jti(String);

impl Jti {
    /// Returns the id `jti` of a token of `issuer`, which contains no `#`.
    #[must_use]
    pub fn new(issuer: &str, jti: &str) -> Self {
        Self(format!("{issuer}#{jti}"))
    }

    /// Returns issuer and id as text. The first `#` separates them.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Jti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jti(..)")
    }
}

/// A token whose signature was verified. Neither its time nor its invalidation was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedToken {
    /// The hash of the signed part of the token.
    pub hash: TokenHash,
    pub subscriber: Subscriber,
    /// From then on the token is valid. This allows for an issuer's clock that is ahead.
    pub begins: Timestamp,
    /// When the token expires.
    pub expires: Timestamp,
    /// The issuer's id of the token, if it has one.
    pub jti: Option<Jti>,
}

impl SignedToken {
    /// Returns true if the token has begun and not expired at `now`.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.begins <= now && now < self.expires
    }

    /// Returns what is stored when the token is used.
    #[must_use]
    pub fn first_use(&self) -> SignedUse {
        SignedUse {
            expires: self.expires,
            jti: self.jti.clone(),
        }
    }
}

/// The kind of a bearer token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A token that the service issued. What it authorises is stored under its hash.
    Opaque,
    /// A signed token of another issuer.
    Signed {
        /// The hash of the signed part of the token.
        hash: TokenHash,
        /// `None` if the signature or a claim of the token is not accepted.
        token: Option<SignedToken>,
    },
}

/// What is stored of a signed token when it is used, besides its subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedUse {
    /// When the token expires.
    pub expires: Timestamp,
    /// The issuer's id of the token, if it has one.
    pub jti: Option<Jti>,
}

/// Signed tokens that were used or invalidated. Once used, a signed token is found through [`super::Tokens`] like an
/// opaque one: by its hash, among its subscriber's tokens, and with its connections.
pub trait SignedTokens {
    /// As [`super::Connections::register`], but the token need not be stored: the same transaction stores it. The
    /// condition is that neither the token nor its id was invalidated, and that it expires after `connection.since`.
    async fn register_signed(
        &self,
        registration: &Registration,
        token: &SignedUse,
    ) -> Result<(), RegisterError>;

    /// As [`super::Connections::reauthorize`], but the new token need not be stored: the same transaction stores it.
    /// The condition is that neither the token nor its id was invalidated, and that it expires after `at`.
    async fn reauthorize_signed(
        &self,
        reauthorization: &Reauthorization,
        token: &SignedUse,
    ) -> Result<(), ReauthorizeError>;

    /// Stores a token as invalidated, even if it was never used. [`super::Tokens::ending`] lists it in the minute of
    /// `now`, until it is settled.
    async fn refuse_signed(&self, token: &SignedToken, now: Timestamp) -> Result<(), Fault>;

    /// Invalidates an id, even if no token with it was used. No token with this id is accepted from now on, until a day
    /// after `expires`.
    async fn refuse_jti(&self, jti: &Jti, expires: Timestamp) -> Result<(), Fault>;

    /// Returns true if the id was invalidated.
    async fn is_jti_refused(&self, jti: &Jti) -> Result<bool, Fault>;

    /// Returns the tokens with this id that were used, a page at a time.
    async fn tokens_with_jti(
        &self,
        jti: &Jti,
        after: Option<&TokenHash>,
        limit: usize,
    ) -> Result<Page<TokenHash>, Fault>;
}
