//! Signed (JWT) tokens: the items that are stored once a token is used or invalidated.
//!
//! A used token has the same item as an opaque token. If it has a `jti`, it also has a row in the partition of that
//! `jti`, so that the invalidation of the `jti` finds it by a consistent query.
//!
//! # Cost
//!
//! | pattern | requests | units |
//! |---|---|---|
//! | `register_signed` | TransactWriteItems of 4, with a `jti` of 6 | as `register`, and 2 + 2 + 2 write, and 1 for the index the first time |
//! | `reauthorize_signed` | TransactWriteItems of 5, with a `jti` of 7 | as `reauthorize`, and the same |
//! | `refuse_signed` | PutItem | 1 write, and 1 for the index; 2 if its key moves |
//! | `refuse_jti` | PutItem | 1 write |
//! | `is_jti_refused` | GetItem | 1 read |
//! | `tokens_with_jti` | Query | 1 read per 4 KiB, about 12 tokens |

pub(crate) mod writes;

use aws_sdk_dynamodb::types::ReturnValue;
use protocol::Timestamp;
use service::ports::{
    Fault, Jti, Minute, Page, Reauthorization, ReauthorizeError, RegisterError, Registration,
    SignedToken, SignedTokens, SignedUse, TokenHash, TokenRecord, TokenState,
};

use self::writes::JtiItem;
use crate::{
    DynamoStore,
    client::Repeat,
    connections, items,
    keys::{Collection, Key},
    tokens::{TokenItem, ttl},
    write::Write,
};

impl SignedTokens for DynamoStore {
    async fn register_signed(
        &self,
        registration: &Registration,
        token: &SignedUse,
    ) -> Result<(), RegisterError> {
        if registration.connection.since >= token.expires {
            return Err(RegisterError::Token);
        }
        connections::register(self, registration, Some(token)).await
    }

    async fn reauthorize_signed(
        &self,
        reauthorization: &Reauthorization,
        token: &SignedUse,
    ) -> Result<(), ReauthorizeError> {
        if reauthorization.at >= token.expires {
            return Err(ReauthorizeError::Token);
        }
        connections::reauthorize(self, reauthorization, Some(token)).await
    }

    async fn refuse_signed(&self, token: &SignedToken, now: Timestamp) -> Result<(), Fault> {
        let record = TokenRecord {
            subscriber: token.subscriber.clone(),
            state: TokenState::Invalidated,
            issued: token.begins,
            expires: token.expires,
        };
        let item = TokenItem::new(&record, Minute::of(now));
        let item = Write::put(Key::token(&token.hash), &item)?;
        self.write("refuse_signed", &item, ReturnValue::None, Repeat::Safe)
            .await?;
        Ok(())
    }

    async fn refuse_jti(&self, jti: &Jti, expires: Timestamp) -> Result<(), Fault> {
        let item = JtiItem { ttl: ttl(expires) };
        let item = Write::put(Key::refused_jti(jti), &item)?;
        self.write("refuse_jti", &item, ReturnValue::None, Repeat::Safe)
            .await?;
        Ok(())
    }

    async fn is_jti_refused(&self, jti: &Jti) -> Result<bool, Fault> {
        let key = Key::refused_jti(jti);
        let item: Option<JtiItem> = self.get("is_jti_refused", &key, "a refused jti").await?;
        Ok(item.is_some())
    }

    async fn tokens_with_jti(
        &self,
        jti: &Jti,
        after: Option<&TokenHash>,
        limit: usize,
    ) -> Result<Page<TokenHash>, Fault> {
        let rows = Collection::tokens_with_jti(jti);
        let after = after.map(TokenHash::as_str);
        let (found, more) = self.page("tokens_with_jti", &rows, after, limit).await?;
        let hash = |name: &str| Some(TokenHash::from_stored(name.to_owned()));
        let items = items::names(&rows, &found, hash)?;
        Ok(Page { items, more })
    }
}
