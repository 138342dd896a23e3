//! Bearer tokens. Only their hashes are ever stored.

use core::fmt;

use protocol::{ConnectionId, Subscriber, Timestamp, digest::sha256_hex};
use serde::{Deserialize, Serialize};

use super::{Fault, Page};

/// The prefix of the hash of a signed token. No other hash has it.
const SIGNED: &str = "jwt-";

/// SHA-256 of a bearer token, in lower-case hexadecimal. A token has 256 random bits, so a plain hash is enough.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenHash(String);

impl TokenHash {
    /// Returns the hash of an opaque token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(sha256_hex(token.as_bytes()))
    }

    /// Returns the hash of a signed token. `signed` is the text that was signed. The signature is left out, because
    /// signatures of some kinds can be written in more than one way. The result is never the hash of an opaque token.
    #[must_use]
    pub fn of_signed(signed: &str) -> Self {
        Self(format!("{SIGNED}{}", sha256_hex(signed.as_bytes())))
    }

    /// Returns true if this is the hash of a signed token.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.0.starts_with(SIGNED)
    }

    /// Returns a hash that was stored, or that came with an authorizer's context.
    #[must_use]
    pub const fn from_stored(hash: String) -> Self {
        Self(hash)
    }

    /// Returns the hash as text.
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

/// What is stored about a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    pub subscriber: Subscriber,
    pub state: TokenState,
    /// When the token was issued. Not exact for a signed token.
    pub issued: Timestamp,
    /// When the token expires.
    pub expires: Timestamp,
}

impl TokenRecord {
    /// Returns true if the token is valid at `now`.
    #[must_use]
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.state == TokenState::Active && now < self.expires
    }
}

/// The state of a token, apart from its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenState {
    Active,
    /// Its connections are closed and no new one is accepted.
    Invalidated,
}

/// A minute since the epoch. Tokens, connections and sessions that end are indexed by minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minute(i64);

impl Minute {
    /// Returns the minute that contains `time`.
    #[must_use]
    pub const fn of(time: Timestamp) -> Self {
        Self(time.millis().div_euclid(60_000))
    }

    /// Returns a minute that was stored.
    #[must_use]
    pub const fn from_stored(number: i64) -> Self {
        Self(number)
    }

    /// Returns the number of minutes since the epoch.
    #[must_use]
    pub const fn number(self) -> i64 {
        self.0
    }

    /// Returns the minute that is `minutes` later, or earlier if `minutes` is negative.
    #[must_use]
    pub const fn plus(self, minutes: i64) -> Self {
        Self(self.0.saturating_add(minutes))
    }
}

/// A token or a connection that ends in a certain minute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ending {
    /// The token that ends, or the token that authorises `connection`.
    pub token: TokenHash,
    /// The connection that ends. `None` if the token itself ends.
    pub connection: Option<ConnectionId>,
}

/// How far the expiry runs have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiryCheckpoint {
    /// Everything that ended in an earlier minute is done.
    pub minute: Minute,
    /// Connections that end with their token before this time were warned.
    pub warned: Timestamp,
}

/// The tokens, the connections that each authorises, the tokens of each subscriber, and the index of what ends when.
pub trait Tokens {
    /// Stores a new token, also under its subscriber, so that all tokens of a subscriber can be found.
    async fn put_token(&self, hash: &TokenHash, token: &TokenRecord) -> Result<(), Fault>;

    /// Returns a token, or `None` if there is no such token. An expired or invalidated token is returned for as long as
    /// its item is kept.
    async fn token(&self, hash: &TokenHash) -> Result<Option<TokenRecord>, Fault>;

    /// Marks a token as invalidated. Returns the token as it was before, or `None` if there is no such token. From then
    /// on [`Self::ending`] lists it in the minute of `now`, until it is settled. Idempotent.
    async fn invalidate_token(
        &self,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Result<Option<TokenRecord>, Fault>;

    /// Returns the hashes of a subscriber's tokens, a page at a time.
    async fn tokens_of(
        &self,
        subscriber: &Subscriber,
        after: Option<&TokenHash>,
        limit: usize,
    ) -> Result<Page<TokenHash>, Fault>;

    /// Returns the connections that a token authorises, a page at a time.
    async fn token_connections(
        &self,
        hash: &TokenHash,
        after: Option<&ConnectionId>,
        limit: usize,
    ) -> Result<Page<ConnectionId>, Fault>;

    /// Returns true if the connection has a row under the token.
    async fn has_token_connection(
        &self,
        hash: &TokenHash,
        connection: &ConnectionId,
    ) -> Result<bool, Fault>;

    /// Removes the row of a connection under its token. Idempotent.
    async fn forget_token_connection(
        &self,
        hash: &TokenHash,
        connection: &ConnectionId,
    ) -> Result<(), Fault>;

    /// Notes that nothing of an invalidated token is left, so that [`Self::ending`] no longer lists it. Changes nothing
    /// if the token was not invalidated. Idempotent.
    async fn settle_token(&self, hash: &TokenHash) -> Result<(), Fault>;

    /// Returns what ends in a minute, a page at a time, in the order of the tokens (eventually consistent).
    ///
    /// A token ends when it expires, an invalidated token when it was invalidated. A connection ends at its `ends_at`,
    /// as long as its row under the token exists. An item past its time to live may still be listed.
    async fn ending(
        &self,
        minute: Minute,
        after: Option<&Ending>,
        limit: usize,
    ) -> Result<Page<Ending>, Fault>;

    /// Returns the last checkpoint, or `None` before the first one.
    async fn expiry_checkpoint(&self) -> Result<Option<ExpiryCheckpoint>, Fault>;

    /// Stores the checkpoint.
    async fn set_expiry_checkpoint(&self, checkpoint: &ExpiryCheckpoint) -> Result<(), Fault>;
}
