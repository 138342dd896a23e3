//! Tokens: a fresh one, and who comes with one.

use core::time::Duration;

use protocol::{Subscriber, Timestamp};

use crate::{
    Identity, Service,
    ports::{
        Credential, Environment, Fault, Framing, SignedTokens, TokenHash, TokenRecord, TokenState,
        Tokens,
    },
};

/// A fresh token. The only place where it stands in clear.
#[derive(Clone)]
pub struct Minted {
    /// The bearer token.
    pub token: String,
    /// When it ends by itself.
    pub expires: Timestamp,
}

impl<S: Tokens + SignedTokens, G, W, E: Environment> Service<S, G, W, E> {
    /// Issues a token for a subscriber.
    ///
    /// # Errors
    /// A fault of the store; no token was then given to anybody.
    ///
    /// # Cost
    /// Two writes of one unit, and one of the index by which tokens end.
    pub async fn mint(&self, subscriber: &Subscriber, lasting: Duration) -> Result<Minted, Fault> {
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
        Ok(Minted {
            token,
            expires: record.expires,
        })
    }

    /// Who comes with this token; none if it authorises nothing.
    ///
    /// # Errors
    /// A fault of the store; for a signed token also if its issuer's keys cannot be had.
    ///
    /// # Cost
    /// One strongly consistent read of one unit, for a signed token two.
    pub async fn authenticate(
        &self,
        token: &str,
        framing: Framing,
    ) -> Result<Option<Identity>, Fault> {
        match self.environment.credential(token).await? {
            Credential::Opaque => {}
            Credential::Signed { token: None, .. } => return Ok(None),
            Credential::Signed {
                token: Some(token), ..
            } => return self.authenticate_signed(token, framing).await,
        }
        let token = TokenHash::of(token);
        let now = self.environment.now();
        let record = self.store.token(&token).await?;
        Ok(record.filter(|it| it.is_good(now)).map(|it| Identity {
            subscriber: it.subscriber,
            token_expires: it.expires,
            jti: None,
            token,
            framing,
        }))
    }
}
