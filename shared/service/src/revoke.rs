//! Taking back: a token is invalidated, a connection is dropped.

use protocol::{ConnectionId, ServerMessage, Subscriber, frame::DisconnectCode, limits};

use crate::{
    ATTEMPTS, Service, Store, backoff,
    ports::{Environment, Fault, Framing, Page, Pushes, TokenHash, Workers},
};

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Invalidates a token and drops every connection that it authorises; false if there is no such token. Idempotent.
    ///
    /// The mark comes first: from then on no connection is registered under the token. The connections that were are found
    /// by a strongly consistent query after it. If this dies half-way, its repeat goes on; until then nothing is accepted
    /// from a connection once its entry is gone, which is the first step of each drop.
    ///
    /// # Errors
    /// A fault of the store, or a connection that could not be dropped for certain: call again.
    pub async fn invalidate(&self, token: &TokenHash) -> Result<bool, Fault> {
        let now = self.environment.now();
        let Some(record) = self.store.invalidate_token(token, now).await? else {
            return Ok(false);
        };
        let mut after: Option<ConnectionId> = None;
        loop {
            let Page { items, more } = self
                .store
                .token_connections(token, after.as_ref(), limits::PAGE)
                .await?;
            for connection in &items {
                self.drop_for_certain(
                    &record.subscriber,
                    connection,
                    DisconnectCode::TokenInvalidated,
                )
                .await?;
                self.store
                    .forget_token_connection(token, connection)
                    .await?;
            }
            after = items.into_iter().next_back();
            if !more {
                return Ok(true);
            }
        }
    }

    /// Invalidates every token of a subscriber.
    ///
    /// # Errors
    /// As [`Self::invalidate`].
    pub async fn invalidate_all(&self, subscriber: &Subscriber) -> Result<(), Fault> {
        let mut after: Option<TokenHash> = None;
        loop {
            let page = self
                .store
                .tokens_of(subscriber, after.as_ref(), limits::PAGE)
                .await?;
            for token in &page.items {
                self.invalidate(token).await?;
            }
            after = page.items.into_iter().next_back();
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Drops every connection of a subscriber; its tokens stay good.
    ///
    /// # Errors
    /// As [`Self::invalidate`].
    pub async fn disconnect_all(&self, subscriber: &Subscriber) -> Result<(), Fault> {
        for id in self.store.connections(subscriber).await?.keys() {
            self.drop_for_certain(subscriber, id, DisconnectCode::Shutdown)
                .await?;
        }
        Ok(())
    }

    async fn drop_for_certain(
        &self,
        subscriber: &Subscriber,
        connection: &ConnectionId,
        code: DisconnectCode,
    ) -> Result<(), Fault> {
        let mut connections = self.store.connections(subscriber).await?;
        let framing = connections
            .remove(connection)
            .map_or(Framing::Raw, |it| it.framing);
        if self
            .drop_connection(subscriber, connection, framing, code)
            .await?
        {
            return Ok(());
        }
        for attempt in 0..ATTEMPTS {
            self.environment
                .sleep(backoff(attempt + 3, connection.as_str()))
                .await;
            if self.gateway.drop_connection(connection).await {
                return Ok(());
            }
        }
        Err(Fault::Unknown("a connection may still be open".to_owned()))
    }

    /// Forgets a connection, says why, and closes it; whether it is certainly gone. Forgetting comes first: from then on
    /// nothing is accepted from it, whatever becomes of the rest.
    pub(crate) async fn drop_connection(
        &self,
        subscriber: &Subscriber,
        connection: &ConnectionId,
        framing: Framing,
        code: DisconnectCode,
    ) -> Result<bool, Fault> {
        self.disconnect(subscriber, connection).await?;
        let last_words = ServerMessage::disconnect(code).encode(None);
        let _ = self.gateway.post(connection, framing, &last_words).await;
        Ok(self.gateway.drop_connection(connection).await)
    }
}
