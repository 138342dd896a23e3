//! A fresh token for an open connection.

use protocol::{Code, Context, Rejection, ServerMessage, limits, messages::authorize::BearerToken};

use crate::{
    Service, Store,
    message::Handled,
    ports::{Environment, Fault, Pushes, Reauthorization, ReauthorizeError, TokenHash, Workers},
};

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
        let token = TokenHash::of(token.expose());
        let now = self.environment.now();
        let Some(record) = self.store.token(&token).await?.filter(|it| it.is_good(now)) else {
            return Ok(invalid());
        };
        if record.subscriber != context.subscriber {
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
                new: token.clone(),
                at: now,
                ends_at: ends.min(record.expires),
            };
            if connection.token == token {
                break;
            }
            match self.store.reauthorize(&reauthorization).await {
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
            token_expires_at: Some(record.expires),
        }))
    }
}
