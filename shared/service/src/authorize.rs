//! A fresh token for an open connection.

use protocol::{
    Code, Context, Rejection, ServerMessage, Subscriber, Timestamp, limits,
    messages::authorize::BearerToken,
};

use crate::{
    Service, Store,
    message::Handled,
    ports::{
        Credential, Environment, Fault, Pushes, Reauthorization, ReauthorizeError, SignedUse,
        TokenHash, Workers,
    },
};

/// A token that holds.
struct Fresh {
    token: TokenHash,
    subscriber: Subscriber,
    expires: Timestamp,
    /// What is stored of it, if it is a signed one.
    signed: Option<SignedUse>,
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Replaces the connection's token by a fresh one of the same subscriber. The old one stays in force if anything is
    /// wrong with the new one.
    pub(crate) async fn authorize(
        &self,
        context: &Context,
        token: &BearerToken,
    ) -> Result<Handled, Fault> {
        let invalid = || {
            Handled::rejected(Rejection::new(
                Code::TokenInvalid,
                "the token is unknown, expired or invalidated",
            ))
        };
        let now = self.environment.now();
        let Some(fresh) = self.fresh(token.expose(), now).await? else {
            return Ok(invalid());
        };
        if fresh.subscriber != context.subscriber {
            return Ok(Handled::rejected(Rejection::new(
                Code::TokenMismatch,
                "the token is of another subscriber",
            )));
        }
        let ends = context.since.plus_seconds(limits::CONNECTION_SECONDS);
        let mut attempt = 0;
        loop {
            let connections = self.store.connections(&context.subscriber).await?;
            let Some(connection) = connections.get(&context.connection) else {
                return Ok(invalid());
            };
            let reauthorization = Reauthorization {
                subscriber: context.subscriber.clone(),
                id: context.connection.clone(),
                old: connection.token.clone(),
                new: fresh.token.clone(),
                at: now,
                ends_at: ends.min(fresh.expires),
            };
            if connection.token == fresh.token {
                break;
            }
            let reauthorized = match &fresh.signed {
                Some(used) => self.store.reauthorize_signed(&reauthorization, used).await,
                None => self.store.reauthorize(&reauthorization).await,
            };
            match reauthorized {
                Ok(()) => break,
                Err(ReauthorizeError::Token) => return Ok(invalid()),
                // After a lost answer the connection, read again, tells whether it took place.
                Err(ReauthorizeError::Fault(fault)) => {
                    self.again(&mut attempt, context.connection.as_str(), fault)
                        .await?;
                }
            }
        }
        Ok(Handled::response(ServerMessage::Authorized {
            token_expires_at: Some(fresh.expires),
        }))
    }

    /// The token, if it holds at `now`.
    async fn fresh(&self, token: &str, now: Timestamp) -> Result<Option<Fresh>, Fault> {
        match self.environment.credential(token).await? {
            Credential::Opaque => {
                let token = TokenHash::of(token);
                let record = self.store.token(&token).await?;
                Ok(record.filter(|it| it.is_good(now)).map(|it| Fresh {
                    token,
                    subscriber: it.subscriber,
                    expires: it.expires,
                    signed: None,
                }))
            }
            Credential::Signed { token: None, .. } => Ok(None),
            Credential::Signed {
                token: Some(token), ..
            } => {
                let good = self.is_signed_good(&token, now).await?;
                Ok(good.then(|| Fresh {
                    signed: Some(token.first_use()),
                    token: token.hash,
                    subscriber: token.subscriber,
                    expires: token.expires,
                }))
            }
        }
    }
}
