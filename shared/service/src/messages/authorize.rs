//! `authorize`: replacing the token of an open connection.

use protocol::{
    Code, Context, Rejection, ServerMessage, Subscriber, Timestamp, decision::BearerToken, limits,
};

use super::handle::{Handled, Handler};
use crate::{
    Store,
    ports::{
        Credential, Environment, Fault, Pushes, Reauthorization, ReauthorizeError, SignedUse,
        TokenHash, Workers,
    },
    tokens::authenticate::Authenticator,
};

/// A token that is valid now.
struct Fresh {
    token: TokenHash,
    subscriber: Subscriber,
    expires: Timestamp,
    /// What is stored about the use of a signed token.
    signed: Option<SignedUse>,
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Handler<'_, S, G, W, E> {
    /// Replaces the connection's token by another one of the same subscriber. The old token stays in force if anything is wrong
    /// with the new one.
    pub(super) async fn authorize(
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
        let now = self.ports.environment.now();
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
            let connections = self.ports.store.connections(&context.subscriber).await?;
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
                Some(used) => {
                    self.ports
                        .store
                        .reauthorize_signed(&reauthorization, used)
                        .await
                }
                None => self.ports.store.reauthorize(&reauthorization).await,
            };
            match reauthorized {
                Ok(()) => break,
                Err(ReauthorizeError::Token) => return Ok(invalid()),
                // After a lost answer, the connection is read again. Its token tells if the write took place.
                Err(ReauthorizeError::Fault(fault)) => {
                    let salt = context.connection.as_str();
                    self.ports.retry_store(&mut attempt, salt, fault).await?;
                }
            }
        }
        Ok(Handled::response(ServerMessage::Authorized {
            token_expires_at: Some(fresh.expires),
        }))
    }

    /// Returns the token if it is valid at `now`.
    async fn fresh(&self, token: &str, now: Timestamp) -> Result<Option<Fresh>, Fault> {
        match self.ports.environment.credential(token).await? {
            Credential::Opaque => {
                let token = TokenHash::of(token);
                let record = self.ports.store.token(&token).await?;
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
                let good = Authenticator::of(self.ports)
                    .is_signed_good(&token, now)
                    .await?;
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
