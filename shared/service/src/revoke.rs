//! Taking back: a token is invalidated, a connection is dropped.

use futures::{StreamExt as _, stream};
use protocol::{ConnectionId, ServerMessage, Subscriber, frame::DisconnectCode, limits};
use sockjs::{Close, codes};

use crate::{
    ATTEMPTS, Identity, IncomingMessage, Service, Store, backoff,
    ports::{Connection, Environment, Fault, Framing, Page, Pushes, TokenHash, Workers},
};

/// Connections that are dropped at once.
const AT_ONCE: usize = 16;

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Invalidates a token and drops every connection that it authorises; false if there is no such token. Idempotent.
    ///
    /// The mark comes first: from then on no connection is registered under the token. The connections that were are found
    /// by a strongly consistent query after it. If this dies half-way, its repeat goes on, which
    /// [`expire`](Self::expire) sees to: the token stands among what ends until nothing of it is left. Until then nothing
    /// is accepted from a connection once its entry is gone, which is the first step of each drop.
    ///
    /// # Errors
    /// A fault of the store, or a connection that could not be dropped for certain: call again.
    pub async fn invalidate(&self, token: &TokenHash) -> Result<bool, Fault> {
        let now = self.environment.now();
        let Some(record) = self.store.invalidate_token(token, now).await? else {
            return Ok(false);
        };
        let mut after: Option<ConnectionId> = None;
        let mut failed = None;
        loop {
            let Page { items, more } = self
                .store
                .token_connections(token, after.as_ref(), limits::PAGE)
                .await?;
            let mut drops = stream::iter(&items)
                .map(|id| self.drop_of_invalidated(&record.subscriber, token, id))
                .buffer_unordered(AT_ONCE);
            while let Some(dropped) = drops.next().await {
                failed = dropped.err().or(failed);
            }
            drop(drops);
            after = items.into_iter().next_back();
            if !more {
                break;
            }
        }
        if let Some(fault) = failed {
            return Err(fault);
        }
        self.store.settle_token(token).await?;
        Ok(true)
    }

    async fn drop_of_invalidated(
        &self,
        subscriber: &Subscriber,
        token: &TokenHash,
        id: &ConnectionId,
    ) -> Result<(), Fault> {
        let entry = self.store.connections(subscriber).await?.remove(id);
        let code = DisconnectCode::TokenInvalidated;
        self.drop_for_certain(subscriber, token, id, entry.as_ref(), code)
            .await
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
            // Each to its end, also if another fails: a repeat then has less to do.
            let invalidated: Vec<Result<bool, Fault>> = stream::iter(&page.items)
                .map(|token| Box::pin(self.invalidate(token)))
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            invalidated.into_iter().collect::<Result<Vec<_>, _>>()?;
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
        for (id, entry) in self.store.connections(subscriber).await? {
            let code = DisconnectCode::Shutdown;
            self.drop_for_certain(subscriber, &entry.token, &id, Some(&entry), code)
                .await?;
        }
        Ok(())
    }

    /// Drops a connection whose entry was just read, until it is certainly gone. Only then is forgotten that `token`
    /// authorises it, so that the repeat of a drop that died half-way finds it. One that another token authorises by now
    /// is left alone.
    ///
    /// One that may be yet to come up is dropped by the worker that waits for it, or at its end, and forgotten then. So is
    /// one without an entry: an earlier drop died after its first step, or it is coming up.
    pub(crate) async fn drop_for_certain(
        &self,
        subscriber: &Subscriber,
        token: &TokenHash,
        id: &ConnectionId,
        entry: Option<&Connection>,
        code: DisconnectCode,
    ) -> Result<(), Fault> {
        if entry.is_none_or(|it| it.token == *token) {
            let framing = entry.map_or(Framing::Raw, |it| it.framing);
            let (_, gone) = self.cut(subscriber, id, framing, code).await?;
            if !gone {
                self.close_for_certain(id, framing, code).await?;
            }
        }
        let now = self.environment.now();
        if entry.is_none_or(|it| it.is_coming_up(now)) {
            return Ok(());
        }
        self.store.forget_token_connection(token, id).await
    }

    /// Closes a connection that is forgotten, or fails.
    pub(crate) async fn close_for_certain(
        &self,
        id: &ConnectionId,
        framing: Framing,
        code: DisconnectCode,
    ) -> Result<(), Fault> {
        for attempt in 0..ATTEMPTS {
            self.environment
                .sleep(backoff(attempt + 3, id.as_str()))
                .await;
            if self.gateway.drop_connection(id, framing, close(code)).await {
                return Ok(());
            }
        }
        Err(Fault::Unknown("a connection may still be open".to_owned()))
    }

    /// Forgets a connection, says why, and closes it; whether it is certainly gone. If it is not, what its token has of it
    /// is left, and it is dropped again at its end.
    pub(crate) async fn drop_connection(
        &self,
        subscriber: &Subscriber,
        connection: &ConnectionId,
        framing: Framing,
        code: DisconnectCode,
    ) -> Result<bool, Fault> {
        let (entry, gone) = self.cut(subscriber, connection, framing, code).await?;
        let now = self.environment.now();
        if let Some(entry) = entry.filter(|it| gone && !it.is_coming_up(now)) {
            self.store
                .forget_token_connection(&entry.token, connection)
                .await?;
        }
        Ok(gone)
    }

    /// Drops a connection over which something came that is no frame.
    pub(crate) async fn drop_broken(&self, incoming: &IncomingMessage) -> Result<(), Fault> {
        let Identity {
            subscriber,
            framing,
            ..
        } = &incoming.identity;
        let connection = &incoming.connection;
        let entry = self.forget_entry(subscriber, connection).await?;
        let gone = self
            .gateway
            .drop_connection(connection, *framing, codes::BROKEN_FRAMING)
            .await;
        if let Some(entry) = entry.filter(|_| gone) {
            self.store
                .forget_token_connection(&entry.token, connection)
                .await?;
        }
        Ok(())
    }

    /// The steps of a drop. Forgetting the entry comes first: from then on nothing is accepted from the connection,
    /// whatever becomes of the rest.
    async fn cut(
        &self,
        subscriber: &Subscriber,
        connection: &ConnectionId,
        framing: Framing,
        code: DisconnectCode,
    ) -> Result<(Option<Connection>, bool), Fault> {
        let entry = self.forget_entry(subscriber, connection).await?;
        // Nothing comes before `o`; what closes the session may.
        if entry.as_ref().is_none_or(|it| it.opening_gate().is_none()) {
            let last_words = ServerMessage::disconnect(code).encode(None);
            let _ = self.gateway.post(connection, framing, &[&last_words]).await;
        }
        let gone = self
            .gateway
            .drop_connection(connection, framing, close(code))
            .await;
        Ok((entry, gone))
    }
}

/// What a framed client's `onclose` reads.
const fn close(code: DisconnectCode) -> Close {
    match code {
        DisconnectCode::TokenInvalidated => codes::TOKEN_INVALIDATED,
        DisconnectCode::TokenExpired => codes::TOKEN_EXPIRED,
        DisconnectCode::ConnectionLimit => codes::CONNECTION_LIMIT,
        DisconnectCode::ConnectionExpired => codes::CONNECTION_EXPIRED,
        DisconnectCode::Shutdown => codes::SHUTDOWN,
    }
}
