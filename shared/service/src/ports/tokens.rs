//! Bearer tokens. Only their hashes are ever stored.

use core::fmt;

use protocol::{ConnectionId, Subscriber, Timestamp, digest::sha256_hex};
use serde::{Deserialize, Serialize};

use super::{Fault, Page};

/// SHA-256 of a bearer token, in lower-case hexadecimal. A token has 256 random bits, so a plain hash is enough.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenHash(String);

impl TokenHash {
    /// The hash of `token`.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(sha256_hex(token.as_bytes()))
    }

    /// A hash as it was stored or came with an authorizer's context.
    #[must_use]
    pub const fn from_stored(hash: String) -> Self {
        Self(hash)
    }

    /// The hash as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

/// What is known of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// Whose it is.
    pub subscriber: Subscriber,
    /// Whether it was invalidated.
    pub state: TokenState,
    /// When it was issued.
    pub issued: Timestamp,
    /// When it ends by itself.
    pub expires: Timestamp,
}

impl TokenRecord {
    /// Whether it authorises anything at `now`.
    #[must_use]
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.state == TokenState::Active && now < self.expires
    }
}

/// Whether a token was invalidated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenState {
    /// It was not.
    Active,
    /// It was; its connections are dropped and no new one is accepted.
    Invalidated,
}

/// The tokens, the connections that each authorises, and the tokens of each subscriber.
pub trait Tokens {
    /// Stores a fresh token, also under its subscriber, so that all of a subscriber's can be found.
    async fn put_token(&self, hash: &TokenHash, token: &TokenRecord) -> Result<(), Fault>;

    /// The token, if there is one; also an expired or invalidated one, as long as its item is kept.
    async fn token(&self, hash: &TokenHash) -> Result<Option<TokenRecord>, Fault>;

    /// Marks the token as invalidated; idempotent. The token as it was before, or none if there is no such one.
    async fn invalidate_token(
        &self,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Result<Option<TokenRecord>, Fault>;

    /// The hashes of a subscriber's tokens, a page at a time.
    async fn tokens_of(
        &self,
        subscriber: &Subscriber,
        after: Option<&TokenHash>,
        limit: usize,
    ) -> Result<Page<TokenHash>, Fault>;

    /// The connections that the token authorises, a page at a time.
    async fn token_connections(
        &self,
        hash: &TokenHash,
        after: Option<&ConnectionId>,
        limit: usize,
    ) -> Result<Page<ConnectionId>, Fault>;

    /// Forgets that the token authorises this connection; idempotent.
    async fn forget_token_connection(
        &self,
        hash: &TokenHash,
        connection: &ConnectionId,
    ) -> Result<(), Fault>;
}
