//! Tokens that their issuer signed: who comes with one, and taking it back.

use protocol::{Timestamp, limits};

use crate::{
    Identity, Service, Store,
    ports::{
        Credential, Environment, Fault, Framing, Jti, Page, Pushes, SignedToken, SignedTokens,
        TokenHash, TokenState, Tokens, Workers,
    },
};

impl<S: Tokens + SignedTokens, G, W, E: Environment> Service<S, G, W, E> {
    /// Who comes with a token whose signature was verified; none if it does not hold now or was invalidated.
    ///
    /// # Cost
    /// Two strongly consistent reads of one unit, one if the token has no id.
    pub(crate) async fn authenticate_signed(
        &self,
        token: SignedToken,
        framing: Framing,
    ) -> Result<Option<Identity>, Fault> {
        let good = self.is_signed_good(&token, self.environment.now()).await?;
        Ok(good.then_some(Identity {
            subscriber: token.subscriber,
            token: token.hash,
            token_expires: token.expires,
            jti: token.jti,
            framing,
        }))
    }

    /// Whether a token whose signature was verified holds at `now` and was not invalidated.
    pub(crate) async fn is_signed_good(
        &self,
        token: &SignedToken,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        if !token.holds(now) {
            return Ok(false);
        }
        let refused = async {
            match &token.jti {
                Some(jti) => self.store.is_jti_refused(jti).await,
                None => Ok(false),
            }
        };
        let (used, refused) = futures::try_join!(self.store.token(&token.hash), refused)?;
        Ok(!refused && used.is_none_or(|it| it.state == TokenState::Active))
    }
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Invalidates a bearer token of either kind and drops every connection that it authorises. Idempotent; what is no
    /// token changes nothing.
    ///
    /// A signed token need not have been used before: if its signature is verified it is refused from now on, as long as it
    /// would hold. If it cannot be verified, for its key was replaced, what was registered by it before is still dropped.
    ///
    /// # Errors
    /// As [`Self::invalidate`]; or the issuer's keys cannot be had.
    pub async fn invalidate_bearer(&self, token: &str) -> Result<(), Fault> {
        let hash = match self.environment.credential(token).await? {
            Credential::Opaque => TokenHash::of(token),
            Credential::Signed { hash, token } => {
                let now = self.environment.now();
                if let Some(token) = token.filter(|it| now < it.expires) {
                    self.store.refuse_signed(&token, now).await?;
                }
                hash
            }
        };
        self.invalidate(&hash).await?;
        Ok(())
    }

    /// Invalidates every token to which its issuer gave this id, used or not, and drops their connections. Idempotent.
    ///
    /// The id is refused first: from then on no connection is registered by it. The tokens that were used are found by a
    /// strongly consistent query after it. If this dies half-way its repeat goes on.
    ///
    /// # Errors
    /// As [`Self::invalidate`].
    pub async fn invalidate_jti(&self, jti: &Jti, expires: Timestamp) -> Result<(), Fault> {
        self.store.refuse_jti(jti, expires).await?;
        let mut after: Option<TokenHash> = None;
        loop {
            let Page { items, more } = self
                .store
                .tokens_with_jti(jti, after.as_ref(), limits::PAGE)
                .await?;
            for token in &items {
                self.invalidate(token).await?;
            }
            after = items.into_iter().next_back();
            if !more {
                return Ok(());
            }
        }
    }
}
