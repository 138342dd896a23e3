//! Issuing a bearer token.

use core::time::Duration;

use protocol::{Subscriber, Timestamp};

use crate::{
    Service,
    ports::{Environment, Fault, TokenHash, TokenRecord, TokenState, Tokens},
};

/// A new token. It is in clear text only here.
#[derive(Clone)]
pub struct IssuedToken {
    pub token: String,
    pub expires: Timestamp,
}

impl<S: Tokens, G, W, E: Environment> Service<S, G, W, E> {
    /// Issues a token for a subscriber.
    ///
    /// # Errors
    /// A fault of the store. The caller then gets no token.
    ///
    /// # Cost
    /// Two writes of one unit, and one of the index by which tokens expire.
    pub async fn issue_token(
        &self,
        subscriber: &Subscriber,
        lasting: Duration,
    ) -> Result<IssuedToken, Fault> {
        let token = self.environment.fresh_token();
        let issued = self.environment.now();
        let record = TokenRecord {
            subscriber: subscriber.clone(),
            state: TokenState::Active,
            issued,
            expires: issued.plus(lasting),
        };
        self.store
            .put_token(&TokenHash::of(&token), &record)
            .await?;
        Ok(IssuedToken {
            token,
            expires: record.expires,
        })
    }
}
