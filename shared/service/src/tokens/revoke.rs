//! Revoking: a token is invalidated and every connection that it authorises is closed.

use core::pin::pin;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use protocol::{ConnectionId, Subscriber, Timestamp, limits, server_message::DisconnectCode};

use crate::{
    Service, Store,
    closer::Closer,
    pages::pages,
    parts::part,
    ports::{Credential, Environment, Fault, Jti, Pushes, TokenHash, Workers},
};

/// Connections, or tokens, that are worked on at the same time.
const AT_ONCE: usize = 16;

part! {
    /// Invalidates tokens.
    Revoker
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Invalidates a token and closes every connection that it authorises. Returns false if there is no such token. Idempotent.
    ///
    /// # Errors
    /// A fault of the store, or a connection that may still be open: call again.
    pub async fn invalidate(&self, token: &TokenHash) -> Result<bool, Fault> {
        Revoker::of(self.ports()).invalidate(token).await
    }

    /// Invalidates every token of a subscriber.
    ///
    /// # Errors
    /// As of [`Self::invalidate`].
    pub async fn invalidate_all(&self, subscriber: &Subscriber) -> Result<(), Fault> {
        let mut tokens = pin!(pages(
            |after: Option<TokenHash>| async move {
                self.store
                    .tokens_of(subscriber, after.as_ref(), limits::PAGE)
                    .await
            },
            Clone::clone,
        ));
        while let Some(page) = tokens.try_next().await? {
            let mut invalidating = stream::iter(&page)
                .map(|token| Box::pin(self.invalidate(token)))
                .buffer_unordered(AT_ONCE);
            // Each is worked on to its end, also if another one fails: a repeat then has less to do.
            let mut failed = Ok(());
            while let Some(invalidated) = invalidating.next().await {
                failed = failed.and(invalidated.map(drop));
            }
            failed?;
        }
        Ok(())
    }

    /// Closes every connection of a subscriber. Its tokens stay valid.
    ///
    /// # Errors
    /// As of [`Self::invalidate`].
    pub async fn disconnect_all(&self, subscriber: &Subscriber) -> Result<(), Fault> {
        let closer = Closer::of(self.ports());
        for (id, entry) in self.store.connections(subscriber).await? {
            let key = subscriber.connection(id);
            let code = DisconnectCode::Shutdown;
            closer
                .close_for_certain(&key, &entry.token, Some(&entry), code)
                .await?;
        }
        Ok(())
    }

    /// Invalidates a bearer token of either kind and closes every connection that it authorises. Idempotent. Text that is no
    /// token changes nothing.
    ///
    /// A signed token need not have been used before: if its signature is verified, it is refused from now on for as long as it
    /// would be valid. If it cannot be verified, because its key was replaced, the connections that it authorises are closed all
    /// the same.
    ///
    /// # Errors
    /// As of [`Self::invalidate`]. For a signed token also if the issuer's keys cannot be fetched.
    pub async fn invalidate_bearer(&self, token: &str) -> Result<(), Fault> {
        let hash = match self.environment.credential(token).await? {
            Credential::Opaque => TokenHash::of(token),
            Credential::Signed { hash, token } => {
                let now = self.environment.now();
                if let Some(token) = token.filter(|token| now < token.expires) {
                    self.store.refuse_signed(&token, now).await?;
                }
                hash
            }
        };
        self.invalidate(&hash).await?;
        Ok(())
    }

    /// Invalidates every token to which its issuer gave this id, used or not, and closes their connections. Idempotent.
    ///
    /// The id is refused first: from then on no connection is registered under it. A strongly consistent query after that finds
    /// the tokens that were used. If the function dies half-way, its repeat goes on.
    ///
    /// # Errors
    /// As of [`Self::invalidate`].
    pub async fn invalidate_jti(&self, jti: &Jti, expires: Timestamp) -> Result<(), Fault> {
        self.store.refuse_jti(jti, expires).await?;
        let mut tokens = pin!(pages(
            |after: Option<TokenHash>| async move {
                self.store
                    .tokens_with_jti(jti, after.as_ref(), limits::PAGE)
                    .await
            },
            Clone::clone,
        ));
        while let Some(page) = tokens.try_next().await? {
            for token in &page {
                self.invalidate(token).await?;
            }
        }
        Ok(())
    }
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Revoker<'_, S, G, W, E> {
    /// Invalidates a token and closes every connection that it authorises. Returns false if there is no such token.
    ///
    /// The token is marked first: from then on no connection is registered under it. A strongly consistent query after the mark
    /// finds those that were. If the function dies half-way, the expiry run goes on: the token stays in the index of what ends
    /// until nothing of it is left. Meanwhile nothing is accepted from a connection whose entry is gone, and removing the entry
    /// is the first step of closing it.
    pub(crate) async fn invalidate(&self, token: &TokenHash) -> Result<bool, Fault> {
        let now = self.ports.environment.now();
        let Some(record) = self.ports.store.invalidate_token(token, now).await? else {
            return Ok(false);
        };
        let mut connections = pin!(pages(
            |after: Option<ConnectionId>| async move {
                self.ports
                    .store
                    .token_connections(token, after.as_ref(), limits::PAGE)
                    .await
            },
            Clone::clone,
        ));
        let mut failed = Ok(());
        while let Some(page) = connections.try_next().await? {
            let mut closing = stream::iter(page)
                .map(|id| self.close_invalidated(&record.subscriber, token, id))
                .buffer_unordered(AT_ONCE);
            // Each is closed, also if another one fails.
            while let Some(closed) = closing.next().await {
                failed = failed.and(closed);
            }
        }
        failed?;
        self.ports.store.settle_token(token).await?;
        Ok(true)
    }

    async fn close_invalidated(
        &self,
        subscriber: &Subscriber,
        token: &TokenHash,
        id: ConnectionId,
    ) -> Result<(), Fault> {
        let entry = self.ports.store.connections(subscriber).await?.remove(&id);
        let key = subscriber.connection(id);
        let code = DisconnectCode::TokenInvalidated;
        Closer::of(self.ports)
            .close_for_certain(&key, token, entry.as_ref(), code)
            .await
    }
}
