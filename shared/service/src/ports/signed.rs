//! Bearer tokens that somebody else issued and signed (JSON Web Tokens), and what is stored of them.
//!
//! Such a token carries who it is for and when it ends, so nothing has to be stored before it is used. What is stored:
//! that it was used (as for a token of our own, so that its connections are found) and that it was invalidated.

use core::fmt;

use protocol::{Subscriber, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Fault, Page, Reauthorization, ReauthorizeError, RegisterError, Registration, TokenHash,
};

/// The id that an issuer gave a token, together with the issuer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Jti(String);

impl Jti {
    /// The id `jti` of a token of `issuer`, which has no `#`.
    #[must_use]
    pub fn new(issuer: &str, jti: &str) -> Self {
        Self(format!("{issuer}#{jti}"))
    }

    /// Both as text, told apart by the first `#`.
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

/// A token whose issuer's signature was verified. Whether it holds now, and whether it was invalidated, was not asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedToken {
    /// Of what was signed.
    pub hash: TokenHash,
    /// Whose it is.
    pub subscriber: Subscriber,
    /// From when on it holds, as far as the issuer's clock may be ahead.
    pub begins: Timestamp,
    /// When it ends by itself.
    pub expires: Timestamp,
    /// The issuer's id of it, if it has one.
    pub jti: Option<Jti>,
}

impl SignedToken {
    /// Whether its time has come and is not over.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.begins <= now && now < self.expires
    }

    /// What is stored when it is used.
    #[must_use]
    pub fn first_use(&self) -> SignedUse {
        SignedUse {
            expires: self.expires,
            jti: self.jti.clone(),
        }
    }
}

/// What a bearer token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// One of ours: what it authorises is stored under its hash.
    Opaque,
    /// A signed one.
    Signed {
        /// Of what was signed.
        hash: TokenHash,
        /// What it says; none if the signature or what it says is not accepted.
        token: Option<SignedToken>,
    },
}

/// What is stored of a signed token when it is used, beside whom it is used by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedUse {
    /// When it ends by itself.
    pub expires: Timestamp,
    /// The issuer's id of it, if it has one.
    pub jti: Option<Jti>,
}

/// Signed tokens that were used or invalidated. Once used, a token is found as one of ours by [`super::Tokens`]: by its
/// hash, among its subscriber's, with its connections.
pub trait SignedTokens {
    /// As [`super::Connections::register`], but the token need not be stored: it is on condition that it was not invalidated,
    /// neither itself nor by its id, and does not expire before `connection.since`.
    async fn register_signed(
        &self,
        registration: &Registration,
        token: &SignedUse,
    ) -> Result<(), RegisterError>;

    /// As [`super::Connections::reauthorize`], but the new token need not be stored: it is on the condition of
    /// [`Self::register_signed`].
    async fn reauthorize_signed(
        &self,
        reauthorization: &Reauthorization,
        token: &SignedUse,
    ) -> Result<(), ReauthorizeError>;

    /// Stores a token as invalidated, whether or not it was used. It ends in the minute of `now`, until it is settled.
    async fn refuse_signed(&self, token: &SignedToken, now: Timestamp) -> Result<(), Fault>;

    /// Invalidates an id, whether or not a token with it was used: none is from now on, until a day after `expires`.
    async fn refuse_jti(&self, jti: &Jti, expires: Timestamp) -> Result<(), Fault>;

    /// Whether the id was invalidated.
    async fn is_jti_refused(&self, jti: &Jti) -> Result<bool, Fault>;

    /// The tokens with this id that were used, a page at a time.
    async fn tokens_with_jti(
        &self,
        jti: &Jti,
        after: Option<&TokenHash>,
        limit: usize,
    ) -> Result<Page<TokenHash>, Fault>;
}
