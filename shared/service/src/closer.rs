//! Every way in which a connection ends.
//!
//! Forgetting the connection's entry always comes first: from then on the service accepts nothing from it, even if the rest
//! fails. The row under its token stays until the connection is certainly closed, so that a repeat finds it.
//!
//! | verb | what it does |
//! |---|---|
//! | [`forget`](Closer::forget) | removes the entry, and publishes the presence later if that changed |
//! | [`disconnected`](Closer::disconnected) | the connection is closed already: forgets it and its row under the token |
//! | [`close`](Closer::close) | forgets it, sends `disconnect`, closes it; reports whether it is certainly closed |
//! | [`close_for_certain`](Closer::close_for_certain) | the same, repeated until it is certainly closed, or an error |

use protocol::{
    ConnectionId, ConnectionKey, ServerMessage, Subscriber, limits, server_message::DisconnectCode,
};
use sockjs::{Close, codes};

use crate::{
    Store,
    parts::part,
    ports::{
        Connection, Connections, Environment, Fault, Framing, Job, Presences, Pushes, TokenHash,
        Tokens, Workers,
    },
    retry::CLOSE,
};

part! {
    /// Ends connections.
    Closer
}

/// A connection that was closed.
struct Closed {
    /// `None` if the connection was not registered.
    entry: Option<Connection>,
    /// True if the connection is certainly closed.
    for_certain: bool,
}

impl<S: Connections + Presences + Tokens, G, W: Workers, E: Environment> Closer<'_, S, G, W, E> {
    /// Forgets a connection that is closed already.
    ///
    /// If the function dies half-way, the row under the token is left until the connection's end.
    ///
    /// # Errors
    /// A fault of the store. The next post to the connection finds it gone and forgets it.
    ///
    /// # Cost
    /// One write of the connections (a transaction of two if it had announced its presence). One delete under its token, and
    /// one of the index by which it ends.
    pub(crate) async fn disconnected(&self, key: &ConnectionKey) -> Result<(), Fault> {
        match self.forget(key).await? {
            Some(entry) => {
                self.ports
                    .store
                    .forget_token_connection(&entry.token, &key.id)
                    .await
            }
            None => self.publish_unpublished(&key.subscriber).await,
        }
    }

    /// Forgets a connection's entry and returns it. The row under its token stays: the connection may still be open.
    pub(crate) async fn forget(&self, key: &ConnectionKey) -> Result<Option<Connection>, Fault> {
        let forgotten = self.ports.store.forget(key).await;
        let announced = match &forgotten {
            Ok(entry) => entry.as_ref().is_some_and(|entry| entry.announced),
            // After a lost answer it may have announced its presence, and a repeat would not find the entry any more.
            Err(fault) => matches!(fault, Fault::Unknown(_)),
        };
        if announced {
            self.publish_presence_later(&key.subscriber).await?;
        }
        forgotten
    }

    /// Publishes a presence that was left unpublished: an earlier function forgot the connection and may have died before it
    /// scheduled that.
    async fn publish_unpublished(&self, subscriber: &Subscriber) -> Result<(), Fault> {
        let presence = self.ports.store.presence(subscriber).await?;
        if presence.version > presence.pushed {
            return self.publish_presence_later(subscriber).await;
        }
        Ok(())
    }

    /// Schedules publishing the presence, unless a reconnect undoes the change within the time of grace.
    async fn publish_presence_later(&self, subscriber: &Subscriber) -> Result<(), Fault> {
        let job = Job::Presence {
            subscriber: subscriber.clone(),
            grace: true,
        };
        self.ports.workers.start(&job).await
    }
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Closer<'_, S, G, W, E> {
    /// Closes a connection whose entry was just read, and repeats that until it is certainly closed. Only then is its row under
    /// `token` removed, so the repeat of a close that died half-way finds it. A connection that another token authorises by now
    /// is left alone.
    ///
    /// A connection that is not active yet keeps its row: the worker that waits for it closes it, or its end does. The same
    /// holds for one without an entry, which may be not active yet, or an earlier close died after its first step.
    pub(crate) async fn close_for_certain(
        &self,
        key: &ConnectionKey,
        token: &TokenHash,
        entry: Option<&Connection>,
        code: DisconnectCode,
    ) -> Result<(), Fault> {
        if entry.is_none_or(|entry| entry.token == *token) {
            let framing = entry.map_or(Framing::Raw, |entry| entry.framing);
            let closed = self.forget_and_close(key, framing, code).await?;
            if !closed.for_certain {
                self.close_forgotten(&key.id, framing, code).await?;
            }
        }
        let now = self.ports.environment.now();
        if entry.is_none_or(|entry| entry.is_activating(now)) {
            return Ok(());
        }
        self.ports
            .store
            .forget_token_connection(token, &key.id)
            .await
    }

    /// Closes a connection that was forgotten already. Fails if it may still be open after the last try.
    pub(crate) async fn close_forgotten(
        &self,
        id: &ConnectionId,
        framing: Framing,
        code: DisconnectCode,
    ) -> Result<(), Fault> {
        let mut attempt = 0;
        while let Some(pause) = CLOSE.pause(attempt, id.as_str()) {
            self.ports.environment.sleep(pause).await;
            let closed = self
                .ports
                .gateway
                .drop_connection(id, framing, close(code))
                .await;
            if closed {
                return Ok(());
            }
            attempt += 1;
        }
        Err(Fault::Unknown("a connection may still be open".to_owned()))
    }

    /// Forgets a connection, sends the reason to the client, and closes it. Returns true if it is certainly closed.
    /// Otherwise its row under the token is left, and it is closed again at its end.
    pub(crate) async fn close(
        &self,
        key: &ConnectionKey,
        framing: Framing,
        code: DisconnectCode,
    ) -> Result<bool, Fault> {
        let Closed { entry, for_certain } = self.forget_and_close(key, framing, code).await?;
        let now = self.ports.environment.now();
        if let Some(entry) = entry.filter(|entry| for_certain && !entry.is_activating(now)) {
            self.ports
                .store
                .forget_token_connection(&entry.token, &key.id)
                .await?;
        }
        Ok(for_certain)
    }

    /// Closes a connection that sent something other than a SockJS frame.
    pub(crate) async fn close_broken(
        &self,
        key: &ConnectionKey,
        framing: Framing,
    ) -> Result<(), Fault> {
        let entry = self.forget(key).await?;
        let closed = self
            .ports
            .gateway
            .drop_connection(&key.id, framing, codes::BROKEN_FRAMING)
            .await;
        if let Some(entry) = entry.filter(|_| closed) {
            self.ports
                .store
                .forget_token_connection(&entry.token, &key.id)
                .await?;
        }
        Ok(())
    }

    /// Forgets the entry, sends `disconnect`, closes the connection.
    async fn forget_and_close(
        &self,
        key: &ConnectionKey,
        framing: Framing,
        code: DisconnectCode,
    ) -> Result<Closed, Fault> {
        let entry = self.forget(key).await?;
        // Before `o` only the close of a SockJS session may be sent.
        if entry
            .as_ref()
            .is_none_or(|entry| entry.opening_gate().is_none())
        {
            let disconnect = ServerMessage::disconnect(code).encode(None);
            let _ = self
                .ports
                .gateway
                .post(&key.id, framing, &[&disconnect])
                .await;
        }
        let for_certain = self
            .ports
            .gateway
            .drop_connection(&key.id, framing, close(code))
            .await;
        Ok(Closed { entry, for_certain })
    }
}

impl<S: Connections + Tokens, G, W, E: Environment> Closer<'_, S, G, W, E> {
    /// Returns the likely reason why a connection is not registered any more, from its token and the number of other
    /// connections.
    pub(crate) async fn code_of_forgotten(
        &self,
        subscriber: &Subscriber,
        token: &TokenHash,
    ) -> Result<DisconnectCode, Fault> {
        let now = self.ports.environment.now();
        Ok(match self.ports.store.token(token).await? {
            Some(record) if record.is_good(now) => {
                let others = self.ports.store.connections(subscriber).await?.len();
                if others < limits::CONNECTIONS_PER_SUBSCRIBER {
                    DisconnectCode::Shutdown
                } else {
                    DisconnectCode::ConnectionLimit
                }
            }
            Some(record) if now >= record.expires => DisconnectCode::TokenExpired,
            _ => DisconnectCode::TokenInvalidated,
        })
    }
}

/// Returns the reason for closing a connection that is past its end.
pub(crate) fn code_at_end(connection: &Connection) -> DisconnectCode {
    if connection.ends_with_token() {
        DisconnectCode::TokenExpired
    } else {
        DisconnectCode::ConnectionExpired
    }
}

/// Returns the close code and reason that a SockJS client gets.
const fn close(code: DisconnectCode) -> Close {
    match code {
        DisconnectCode::TokenInvalidated => codes::TOKEN_INVALIDATED,
        DisconnectCode::TokenExpired => codes::TOKEN_EXPIRED,
        DisconnectCode::ConnectionLimit => codes::CONNECTION_LIMIT,
        DisconnectCode::ConnectionExpired => codes::CONNECTION_EXPIRED,
        DisconnectCode::Shutdown => codes::SHUTDOWN,
    }
}
