//! Admitting a message: only from a connection that is registered, open and not past its end.

use core::time::Duration;

use protocol::{ConnectionKey, frame::DisconnectCode};

use super::handle::Incoming;
use crate::{
    Store,
    closer::{Closer, code_at_end},
    delivery::post::{Sender, Target},
    parts::part,
    ports::{Environment, Fault, Pushes, Workers},
    timing::GATE,
};

/// The pause before a message looks again whether its SockJS session is open.
const OPENING: Duration = Duration::from_millis(50);

part! {
    /// Decides whether anything is accepted from a connection.
    Admission
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Admission<'_, S, G, W, E> {
    /// Returns the sender's connection, with `gate` raised in the same step if there is one. Returns `None` after closing the
    /// connection if nothing is accepted from it: nothing is accepted under a token that no longer holds, also before the
    /// connection is closed.
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
