//! Bearer tokens. Only their hashes are ever stored.

use core::fmt;

use protocol::{ConnectionId, Subscriber, Timestamp, digest::sha256_hex};
use serde::{Deserialize, Serialize};

use super::{Fault, Page};

/// What the hash of a signed token begins with, and no other.
const SIGNED: &str = "jwt-";

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

    /// The hash of a token that its issuer signed; `signed` is what the signature is over. The signature has no part in it,
    /// because some kinds of signatures can be written in more than one way. It is never the hash of a token of ours.
    #[must_use]
    pub fn of_signed(signed: &str) -> Self {
        Self(format!("{SIGNED}{}", sha256_hex(signed.as_bytes())))
    }

    /// Whether it is of a token that its issuer signed.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.0.starts_with(SIGNED)
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

/// A minute since the epoch: what ends is found by the minute in which it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minute(i64);

impl Minute {
    /// The minute that `time` is in.
    #[must_use]
    pub const fn of(time: Timestamp) -> Self {
        Self(time.millis().div_euclid(60_000))
    }

    /// A minute as it was stored.
    #[must_use]
    pub const fn from_stored(number: i64) -> Self {
        Self(number)
    }

    /// How many came before it.
    #[must_use]
    pub const fn number(self) -> i64 {
        self.0
    }

    /// So many minutes later; earlier if negative.
    #[must_use]
    pub const fn plus(self, minutes: i64) -> Self {
        Self(self.0.saturating_add(minutes))
    }
}

/// What ends in a certain minute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ending {
    /// A token that expires or was invalidated then, or the token that authorises `connection`.
    pub token: TokenHash,
    /// The connection that ends then; none if it is the token itself.
    pub connection: Option<ConnectionId>,
}

/// How far the work on what ends has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiryCheckpoint {
    /// What ended in an earlier minute is done with.
    pub minute: Minute,
    /// Connections that end with their token until then were warned.
    pub warned: Timestamp,
}

/// The tokens, the connections that each authorises, the tokens of each subscriber, and what ends when.
pub trait Tokens {
    /// Stores a fresh token, also under its subscriber, so that all of a subscriber's can be found.
    async fn put_token(&self, hash: &TokenHash, token: &TokenRecord) -> Result<(), Fault>;

    /// The token, if there is one; also an expired or invalidated one, as long as its item is kept.
    async fn token(&self, hash: &TokenHash) -> Result<Option<TokenRecord>, Fault>;

    /// Marks the token as invalidated; idempotent. The token as it was before, or none if there is no such one. It ends in
    /// the minute of `now` then, until it is settled.
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

    /// Whether this connection is found under the token.
    async fn has_token_connection(
        &self,
        hash: &TokenHash,
        connection: &ConnectionId,
    ) -> Result<bool, Fault>;

    /// Forgets that the token authorises this connection; idempotent.
    async fn forget_token_connection(
        &self,
        hash: &TokenHash,
        connection: &ConnectionId,
    ) -> Result<(), Fault>;

    /// Notes that an invalidated token authorises nothing any more: it no longer stands among what ends. Idempotent;
    /// changes nothing of a token that was not invalidated.
    async fn settle_token(&self, hash: &TokenHash) -> Result<(), Fault>;

    /// What ends in a minute, a page at a time, in the order of the tokens (eventually consistent). A token ends when it
    /// expires, an invalidated one when it was invalidated; a connection at its `ends_at`, as long as it is not forgotten
    /// under its token. What is past its time to live may still be listed.
    async fn ending(
        &self,
        minute: Minute,
        after: Option<&Ending>,
        limit: usize,
    ) -> Result<Page<Ending>, Fault>;

    /// The checkpoint as it was set last; none before the first time.
    async fn expiry_checkpoint(&self) -> Result<Option<ExpiryCheckpoint>, Fault>;

    /// Sets the checkpoint.
    async fn set_expiry_checkpoint(&self, checkpoint: &ExpiryCheckpoint) -> Result<(), Fault>;
}
