//! Authenticating the bearer of a token, one of ours or a signed one (JWT) of another issuer.

use protocol::Timestamp;

use crate::{
    Identity, Service,
    parts::part,
    ports::{
        Credential, Environment, Fault, Framing, SignedToken, SignedTokens, TokenHash, TokenState,
        Tokens,
    },
};

part! {
    /// Decides if tokens are valid.
    Authenticator
}

impl<S: Tokens + SignedTokens, G, W, E: Environment> Service<S, G, W, E> {
    /// Returns the identity of a token's bearer, or `None` if the token authorises nothing.
    ///
    /// # Errors
    /// A fault of the store. For a signed token also if the issuer's keys cannot be fetched.
    ///
    /// # Cost
    /// One strongly consistent read of one unit, two for a signed token with an id.
    pub async fn authenticate(
        &self,
        token: &str,
        framing: Framing,
    ) -> Result<Option<Identity>, Fault> {
        let now = self.environment.now();
        match self.environment.credential(token).await? {
            Credential::Opaque => {
                let token = TokenHash::of(token);
                let record = self.store.token(&token).await?;
                let good = record.filter(|record| record.is_good(now));
                Ok(good.map(|record| Identity {
                    subscriber: record.subscriber,
                    token_expires: record.expires,
                    jti: None,
                    token,
                    framing,
                }))
            }
            Credential::Signed { token: None, .. } => Ok(None),
            Credential::Signed {
                token: Some(token), ..
            } => {
                let good = Authenticator::of(self.ports())
                    .is_signed_good(&token, now)
                    .await?;
                Ok(good.then_some(Identity {
                    subscriber: token.subscriber,
                    token: token.hash,
                    token_expires: token.expires,
                    jti: token.jti,
                    framing,
                }))
            }
        }
    }
}

impl<S: Tokens + SignedTokens, G, W, E: Environment> Authenticator<'_, S, G, W, E> {
    /// Returns true if a token whose signature was verified is valid at `now` and was not invalidated.
    ///
    /// # Cost
    /// Two strongly consistent reads of one unit, one if the token has no id.
    pub(crate) async fn is_signed_good(
        &self,
        token: &SignedToken,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        if !token.holds(now) {
            return Ok(false);
        }
        let store = self.ports.store;
        let refused = async {
            match &token.jti {
                Some(jti) => store.is_jti_refused(jti).await,
                None => Ok(false),
            }
        };
        let (used, refused) = futures::try_join!(store.token(&token.hash), refused)?;
        Ok(!refused && used.is_none_or(|record| record.state == TokenState::Active))
    }
}
