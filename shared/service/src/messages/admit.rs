//! Admitting a message: only from a connection that is registered, open and not past its end.

use core::time::Duration;

use protocol::{ConnectionId, ConnectionKey, RequestId, server_message::DisconnectCode};

use crate::{
    Identity, Store,
    closer::{Closer, code_at_end},
    delivery::post::{Sender, Target},
    parts::part,
    ports::{Environment, Fault, Pushes, Workers},
    timing::GATE,
};

/// The pause before a message checks again if its SockJS session is open.
const OPENING: Duration = Duration::from_millis(50);

/// A text frame of a client.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// As the authorizer found it when the connection began.
    pub identity: Identity,
    pub connection: ConnectionId,
    /// The id of the invocation. It names the gate.
    pub request: RequestId,
    pub body: String,
}

impl Incoming {
    /// The connection with its subscriber.
    pub(crate) fn key(&self) -> ConnectionKey {
        self.identity.subscriber.connection(self.connection.clone())
    }
}

part! {
    /// Decides if the service accepts messages from a connection.
    Admission
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Admission<'_, S, G, W, E> {
    /// Returns the sender's connection. Raises `gate`, if there is one, in the step that reads it.
    ///
    /// If nothing is accepted from the connection any more, closes it and returns `None`. So a client cannot use a
    /// token that has ended, even before its connection is closed.
    pub(crate) async fn admit(
        &self,
        incoming: &Incoming,
        gate: Option<&str>,
    ) -> Result<Option<Target>, Fault> {
        let key = incoming.key();
        let Some(target) = self.read(&key, gate).await? else {
            self.turn_away(incoming, &key).await?;
            return Ok(None);
        };
        let connection = &target.connection;
        if target.read_at >= connection.ends_at {
            let code = code_at_end(connection);
            self.close(&key, incoming, code).await?;
            return Ok(None);
        }
        if connection.opening_gate().is_some() {
            Sender::of(self.ports).close(&target).await?;
            return Ok(None);
        }
        Ok(Some(target))
    }

    /// Reads the connection, and raises the gate. Waits for a SockJS session that is not open yet: its `o` comes before
    /// everything else.
    async fn read(&self, key: &ConnectionKey, gate: Option<&str>) -> Result<Option<Target>, Fault> {
        let (store, environment) = (self.ports.store, self.ports.environment);
        let patience = environment.now().plus(GATE);
        let mut attempt = 0;
        loop {
            let read_at = environment.now();
            let read = match gate {
                Some(gate) => {
                    let deadline = read_at.plus(GATE);
                    store.raise_gate(key, gate, deadline).await.map(Result::ok)
                }
                None => {
                    let connections = store.connections(&key.subscriber).await;
                    connections.map(|mut connections| connections.remove(&key.id))
                }
            };
            match read {
                Ok(Some(connection))
                    if connection.opening_gate().is_some() && read_at < patience =>
                {
                    environment.sleep(OPENING).await;
                }
                Ok(connection) => {
                    return Ok(connection.map(|connection| Target {
                        key: key.clone(),
                        connection,
                        read_at,
                    }));
                }
                // A message that is not admitted gets no answer, so a passing fault must not be the reason.
                Err(fault) => {
                    let salt = key.id.as_str();
                    self.ports.retry_store(&mut attempt, salt, fault).await?;
                }
            }
        }
    }

    /// Closes a connection that is not registered. It was closed before, and the client may not have noticed.
    async fn turn_away(&self, incoming: &Incoming, key: &ConnectionKey) -> Result<(), Fault> {
        let code = Closer::of(self.ports)
            .code_of_forgotten(&key.subscriber, &incoming.identity.token)
            .await?;
        self.close(key, incoming, code).await
    }

    async fn close(
        &self,
        key: &ConnectionKey,
        incoming: &Incoming,
        code: DisconnectCode,
    ) -> Result<(), Fault> {
        let framing = incoming.identity.framing;
        Closer::of(self.ports).close(key, framing, code).await?;
        Ok(())
    }
}
