//! Tokens, the connections that each authorises, and the tokens of each subscriber.
//!
//! # Cost
//!
//! | pattern | requests | units |
//! |---|---|---|
//! | `put_token` | PutItem on Subscribers, then on Tokens | 1 + 1, and 1 for the index: 3 write |
//! | `token` | GetItem | 1 read |
//! | `invalidate_token` | UpdateItem | 1 write, and 2 for the index, whose key moves |
//! | `settle_token` | UpdateItem | 1 write, and 1 for the index |
//! | `tokens_of` | Query | 1 read per 4 KiB, about 20 tokens |
//! | `token_connections` | Query | 1 read per 4 KiB, about 20 connections |
//! | `has_token_connection` | GetItem | 1 read |
//! | `forget_token_connection` | DeleteItem | 1 write, and 1 for the index; 1 if it is gone already |
//! | `ending` | Query of the index, eventually consistent | half a read per 4 KiB, about 25 tokens and connections |
//! | `expiry_checkpoint` | GetItem | 1 read |
//! | `set_expiry_checkpoint` | PutItem | 1 write |

mod ending;

use aws_sdk_dynamodb::types::ReturnValue;
use protocol::{ConnectionId, Domain, Subscriber, SubscriberId, Timestamp};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use service::ports::{
    Ending, ExpiryCheckpoint, Fault, Minute, Page, TokenHash, TokenRecord, TokenState, Tokens,
};

use crate::{
    DynamoStore,
    client::Repeat,
    items::{self, millis},
    keys::{Collection, Key},
    requests::{Written, decode},
    write::{Write, map, number},
};

/// How long an item is kept after its token or connection ends, so that a late reader still learns how it ended.
const KEPT_SECONDS: i64 = 24 * 60 * 60;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct TokenItem {
    domain: Domain,
    subscriber: SubscriberId,
    state: TokenState,
    #[serde(with = "millis")]
    issued: Timestamp,
    #[serde(with = "millis")]
    expires: Timestamp,
    /// The minute in which the token ends. An invalidated token has none once all its connections are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ends_minute: Option<i64>,
    ttl: i64,
}

impl TokenItem {
    /// Creates the item of a token that ends in the minute `ends`.
    pub(crate) fn new(token: &TokenRecord, ends: Minute) -> Self {
        Self {
            domain: token.subscriber.domain.clone(),
            subscriber: token.subscriber.id.clone(),
            state: token.state,
            issued: token.issued,
            expires: token.expires,
            ends_minute: Some(ends.number()),
            ttl: ttl(token.expires),
        }
    }
}

/// A connection under the token that authorises it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct TokenConnectionItem {
    domain: Domain,
    subscriber: SubscriberId,
    #[serde(with = "millis")]
    ends_at: Timestamp,
    /// The key of the index by which the expiry run finds the connection.
    ends_minute: i64,
    ttl: i64,
}

impl TokenConnectionItem {
    pub(crate) fn new(subscriber: &Subscriber, ends_at: Timestamp) -> Self {
        Self {
            domain: subscriber.domain.clone(),
            subscriber: subscriber.id.clone(),
            ends_at,
            ends_minute: Minute::of(ends_at).number(),
            ttl: ttl(ends_at),
        }
    }
}

#[derive(Serialize)]
struct SubscriberTokenItem {
    ttl: i64,
}

impl Tokens for DynamoStore {
    async fn put_token(&self, hash: &TokenHash, token: &TokenRecord) -> Result<(), Fault> {
        // The subscriber's row comes first: a crash in between leaves a row without a token, never a token without a row.
        let row = SubscriberTokenItem {
            ttl: ttl(token.expires),
        };
        let row = Write::put(Key::subscriber_token(&token.subscriber, hash), &row)?;
        self.write("put_token", &row, ReturnValue::None, Repeat::Safe)
            .await?;
        let item = TokenItem::new(token, Minute::of(token.expires));
        // A late attempt must not reactivate a token that was invalidated since. An existing item is from an earlier
        // attempt of this call, because the token has 256 random bits.
        let item = Write::put(Key::token(hash), &item)?.when("attribute_not_exists(#token)");
        self.write("put_token", &item, ReturnValue::None, Repeat::Safe)
            .await?;
        Ok(())
    }

    async fn token(&self, hash: &TokenHash) -> Result<Option<TokenRecord>, Fault> {
        let item: Option<TokenItem> = self.get("token", &Key::token(hash), "a token").await?;
        Ok(item.map(TokenRecord::from))
    }

    async fn invalidate_token(
        &self,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Result<Option<TokenRecord>, Fault> {
        let write = Write::update(
            Key::token(hash),
            "SET #state = :invalidated, #ends_minute = :minute",
        )
        .when("attribute_exists(#token)")
        .value(":invalidated", map(&TokenState::Invalidated)?)
        .value(":minute", number(Minute::of(now).number()));
        let written = self
            .write(
                "invalidate_token",
                &write,
                ReturnValue::AllOld,
                Repeat::Safe,
            )
            .await?;
        match written {
            Written::Done(old) if self.is_live(&old) => {
                decode::<TokenItem>(old, "a token").map(|item| Some(item.into()))
            }
            _ => Ok(None),
        }
    }

    async fn tokens_of(
        &self,
        subscriber: &Subscriber,
        after: Option<&TokenHash>,
        limit: usize,
    ) -> Result<Page<TokenHash>, Fault> {
        let rows = Collection::tokens_of(subscriber);
        let after = after.map(TokenHash::as_str);
        let (found, more) = self.page("tokens_of", &rows, after, limit).await?;
        let hash = |name: &str| Some(TokenHash::from_stored(name.to_owned()));
        let items = items::names(&rows, &found, hash)?;
        Ok(Page { items, more })
    }

    async fn token_connections(
        &self,
        hash: &TokenHash,
        after: Option<&ConnectionId>,
        limit: usize,
    ) -> Result<Page<ConnectionId>, Fault> {
        let rows = Collection::token_connections(hash);
        let after = after.map(ConnectionId::as_str);
        let (found, more) = self.page("token_connections", &rows, after, limit).await?;
        let id = |name: &str| Some(ConnectionId(name.to_owned()));
        let items = items::names(&rows, &found, id)?;
        Ok(Page { items, more })
    }

    async fn has_token_connection(
        &self,
        hash: &TokenHash,
        connection: &ConnectionId,
    ) -> Result<bool, Fault> {
        let key = Key::token_connection(hash, connection);
        let found: Option<IgnoredAny> = self.get("has_token_connection", &key, "a token").await?;
        Ok(found.is_some())
    }

    async fn forget_token_connection(
        &self,
        hash: &TokenHash,
        connection: &ConnectionId,
    ) -> Result<(), Fault> {
        let write = Write::delete(Key::token_connection(hash, connection));
        self.write(
            "forget_token_connection",
            &write,
            ReturnValue::None,
            Repeat::Safe,
        )
        .await?;
        Ok(())
    }

    async fn settle_token(&self, hash: &TokenHash) -> Result<(), Fault> {
        ending::settle(self, hash).await
    }

    async fn ending(
        &self,
        minute: Minute,
        after: Option<&Ending>,
        limit: usize,
    ) -> Result<Page<Ending>, Fault> {
        ending::ending(self, minute, after, limit).await
    }

    async fn expiry_checkpoint(&self) -> Result<Option<ExpiryCheckpoint>, Fault> {
        ending::checkpoint(self).await
    }

    async fn set_expiry_checkpoint(&self, checkpoint: &ExpiryCheckpoint) -> Result<(), Fault> {
        ending::set_checkpoint(self, checkpoint).await
    }
}

impl From<TokenItem> for TokenRecord {
    fn from(item: TokenItem) -> Self {
        Self {
            subscriber: Subscriber {
                domain: item.domain,
                id: item.subscriber,
            },
            state: item.state,
            issued: item.issued,
            expires: item.expires,
        }
    }
}

/// Returns the time to live of the item of a token or connection that ends at `end`.
pub(crate) fn ttl(end: Timestamp) -> i64 {
    end.plus_seconds(KEPT_SECONDS).seconds_up()
}
