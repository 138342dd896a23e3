//! Activating a registered connection: waiting until API Gateway serves it, opening its SockJS session, and releasing what was
//! parked behind its first gate.
//!
//! A SockJS client takes a second `o` for the loss of its session, so exactly one function sends it, once. That function takes
//! the first gate over as a gate of its own. The job may run twice, also at the same time: one of the two gets the gate. `o` is
//! posted again only if it was certainly not taken. If that is unknown (the answer was lost, or the opener died), the connection
//! is closed: its client connects again, or had given up long before.
//!
//! A client may leave at once, and a connection may be closed before it is active. Either way its entry is gone. The row under
//! its token tells the two apart: closing keeps the row for as long as the connection may still become active, a `$disconnect`
//! does not. So no function waits for a connection after its `$disconnect`.

use core::time::Duration;
use std::collections::BTreeMap;

use protocol::{ConnectionId, ConnectionKey, Timestamp, server_message::DisconnectCode};
use sockjs::codes;

use crate::{
    Store,
    closer::Closer,
    delivery::{
        notifier::Notifier,
        post::{Sender, Target},
    },
    parts::part,
    ports::{
        Connection, Environment, FIRST_GATE, Fault, Framing, Outcome, Probe, Pushes, TokenHash,
        Workers, opener_gate,
    },
    timing::{ACTIVATION, GATE, POST},
};

/// The first pause before checking again if a connection is active. Later pauses double up to [`LAST_LOOK`].
const FIRST_LOOK: Duration = Duration::from_millis(10);
const LAST_LOOK: Duration = Duration::from_secs(1);

part! {
    /// Activates connections.
    Activator
}

/// An active connection.
#[derive(Debug)]
pub(crate) struct Active {
    /// All connections of its subscriber.
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    /// True if nothing was parked when its first gate was lowered. Then no other try of this job left anything.
    pub(crate) settled: bool,
}

impl Active {
    fn unsettled(connections: BTreeMap<ConnectionId, Connection>) -> Self {
        Self {
            connections,
            settled: false,
        }
    }
}

/// A registered connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registered<'a> {
    pub(crate) key: &'a ConnectionKey,
    /// The token that it was registered under.
    pub(crate) token: &'a TokenHash,
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Activator<'_, S, G, W, E> {
    /// Waits until a connection that is not SockJS-framed is active, and releases what was parked. Returns `None` if the
    /// connection has ended.
    ///
    /// # Cost
    /// One write unit for each KiB of the subscriber's connections, if nothing was parked.
    pub(crate) async fn activate(
        &self,
        registered: Registered<'_>,
    ) -> Result<Option<Active>, Fault> {
        let key = registered.key;
        let store = self.ports.store;
        if !self.wait_for(registered).await? {
            return Ok(None);
        }
        // From here on, a function that parks has seen another gate, and schedules a release for that.
        if let Some(connections) = store.lower_first_gate(key).await? {
            return Ok(Some(Active {
                connections,
                settled: true,
            }));
        }
        let connections = store.connections(&key.subscriber).await?;
        let Some(connection) = connections.get(&key.id) else {
            self.close_forgotten(registered, Framing::Raw).await?;
            return Ok(None);
        };
        if let Some(deadline) = connection.gates.get(FIRST_GATE) {
            // A gate of its own: this job may run twice, also at the same time, and one of the two releases.
            let first = BTreeMap::from([(FIRST_GATE.to_owned(), *deadline)]);
            let gate = self.ports.environment.fresh_id();
            let until = self.ports.environment.now().plus(GATE);
            let taken = store.take_gate(key, &first, (&gate, until), &[]).await?;
            if let Some(taken) = taken {
                self.release(key, &gate, taken).await?;
            }
        }
        Ok(Some(Active::unsettled(connections)))
    }

    /// Sends `o` to a SockJS client and releases what was parked. Returns `None` if the connection has ended.
    pub(crate) async fn open_session(
        &self,
        registered: Registered<'_>,
    ) -> Result<Option<Active>, Fault> {
        let key = registered.key;
        let store = self.ports.store;
        loop {
            let now = self.ports.environment.now();
            let connections = store.connections(&key.subscriber).await?;
            let Some(connection) = connections.get(&key.id) else {
                // Closed already, but perhaps before it was active. Only a close may come before `o`.
                self.wait_and_close(registered).await?;
                return Ok(None);
            };
            let Some(opening) = connection.opening_gate() else {
                // Another try of this job has sent it.
                return Ok(Some(Active::unsettled(connections)));
            };
            if connection
                .gates
                .get(opening)
                .is_none_or(|deadline| *deadline <= now)
            {
                let target = Target {
                    key: key.clone(),
                    connection: connection.clone(),
                    read_at: now,
                };
                Sender::of(self.ports).close(&target).await?;
                return Ok(None);
            }
            let Some(deadline) = connection.gates.get(FIRST_GATE) else {
                // Another try of this job has the gate, or died behind it. In that case the gate ends.
                self.ports.environment.sleep(LAST_LOOK).await;
                continue;
            };
            // If the answer is lost, the next try finds a gate whose owner died.
            let first = BTreeMap::from([(FIRST_GATE.to_owned(), *deadline)]);
            let gate = opener_gate(&self.ports.environment.fresh_id());
            let taken = store
                .take_gate(key, &first, (&gate, *deadline), &[])
                .await?;
            if taken.is_some() {
                return self.open_behind(registered, &gate, *deadline).await;
            }
        }
    }

    /// Sends `o` behind the own gate: no other function does.
    async fn open_behind(
        &self,
        registered: Registered<'_>,
        gate: &str,
        deadline: Timestamp,
    ) -> Result<Option<Active>, Fault> {
        let key = registered.key;
        let (environment, closer) = (self.ports.environment, Closer::of(self.ports));
        let mut pause = FIRST_LOOK;
        loop {
            // Once the gate has ended, other functions close the connection.
            if deadline <= environment.now().plus(POST) {
                closer.disconnected(key).await?;
                return Ok(None);
            }
            match self.ports.gateway.open_session(&key.id).await {
                Outcome::Delivered => break,
                // The client left, or the connection was closed. Only a close may come before `o`.
                Outcome::Gone if pause == LAST_LOOK && !self.has_entry(key).await? => {
                    self.wait_and_close(registered).await?;
                    return Ok(None);
                }
                // Not active yet, or throttled: `o` was certainly not taken.
                Outcome::Gone | Outcome::Throttled => environment.sleep(pause).await,
                Outcome::TooLarge | Outcome::Unknown => {
                    let (framing, code) = (Framing::Sockjs, DisconnectCode::Shutdown);
                    closer.close(key, framing, code).await?;
                    return Ok(None);
                }
            }
            pause = (pause * 2).min(LAST_LOOK);
        }
        // Read after the post: a function that closes the connection from here on finds it active.
        let connections = self.ports.store.connections(&key.subscriber).await?;
        let Some(connection) = connections.get(&key.id).cloned() else {
            self.close_forgotten(registered, Framing::Sockjs).await?;
            return Ok(None);
        };
        self.release(key, gate, connection).await?;
        Ok(Some(Active::unsettled(connections)))
    }

    async fn release(
        &self,
        key: &ConnectionKey,
        gate: &str,
        connection: Connection,
    ) -> Result<(), Fault> {
        let receipts = Sender::of(self.ports)
            .release(key, gate, connection, 0)
            .await?;
        Notifier::of(self.ports).deliver(receipts).await
    }

    /// Waits until a connection is active. Returns false if it never was: nothing is left of it then. If API Gateway gives no
    /// answer for all that time, the connection counts as active, and a post to it will tell.
    async fn wait_for(&self, registered: Registered<'_>) -> Result<bool, Fault> {
        let Registered { key, token } = registered;
        let environment = self.ports.environment;
        let started = environment.now();
        let mut pause = FIRST_LOOK;
        loop {
            let probe = self.ports.gateway.probe(&key.id).await;
            if probe == Probe::Up {
                return Ok(true);
            }
            if environment.now() > started.plus(ACTIVATION) {
                if probe == Probe::Unknown {
                    return Ok(true);
                }
                Closer::of(self.ports).disconnected(key).await?;
                self.ports
                    .store
                    .forget_token_connection(token, &key.id)
                    .await?;
                return Ok(false);
            }
            // Most connections are active long before the first of these looks.
            if pause == LAST_LOOK && self.has_left(registered).await? {
                return Ok(false);
            }
            environment.sleep(pause).await;
            pause = (pause * 2).min(LAST_LOOK);
        }
    }

    async fn has_entry(&self, key: &ConnectionKey) -> Result<bool, Fault> {
        let connections = self.ports.store.connections(&key.subscriber).await?;
        Ok(connections.contains_key(&key.id))
    }

    /// Returns true if the client is known to have left.
    async fn has_left(&self, Registered { key, token }: Registered<'_>) -> Result<bool, Fault> {
        Ok(!self.has_entry(key).await?
            && !self
                .ports
                .store
                .has_token_connection(token, &key.id)
                .await?)
    }

    /// Closes a SockJS-framed connection that is not registered any more and may still become active. The client does not learn
    /// why. If its token was invalidated, it learns that when it connects again.
    async fn wait_and_close(&self, registered: Registered<'_>) -> Result<(), Fault> {
        let Registered { key, token } = registered;
        if self.wait_for(registered).await? {
            let close = codes::SHUTDOWN;
            let closed = self
                .ports
                .gateway
                .drop_connection(&key.id, Framing::Sockjs, close);
            if closed.await {
                self.ports
                    .store
                    .forget_token_connection(token, &key.id)
                    .await?;
            }
        }
        Ok(())
    }

    /// Closes a connection that was forgotten while it became active. At that time the reason could not be sent to the
    /// client.
    async fn close_forgotten(
        &self,
        Registered { key, token }: Registered<'_>,
        framing: Framing,
    ) -> Result<(), Fault> {
        let closer = Closer::of(self.ports);
        let code = closer.code_of_forgotten(&key.subscriber, token).await?;
        if closer.close(key, framing, code).await? {
            self.ports
                .store
                .forget_token_connection(token, &key.id)
                .await?;
        }
        Ok(())
    }
}
