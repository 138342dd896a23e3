//! A registered connection comes up: it is waited for, a framed client is told that its session is open, and what was
//! parked behind the first gate goes.
//!
//! A framed client takes a second `o` for the loss of its session, so exactly one may tell it, once. Whoever does so takes the
//! first gate for a gate of its own; the job may run twice, also at once, and one of them gets it. `o` is posted again only
//! after an answer that says that it was certainly not taken. If nobody knows whether it was (an answer that is lost, an
//! opener that died), the connection is dropped: its client comes back, or had given up long before.
//!
//! A client may leave at once, and a connection may be dropped before it is up. Either way its entry is gone; what differs
//! is what stands under its token: a drop leaves that as long as nobody knows whether the connection is yet to come up, a
//! `$disconnect` does not, so nothing is waited for after one.

use core::time::Duration;
use std::collections::BTreeMap;

use protocol::{ConnectionId, Subscriber, Timestamp, frame::DisconnectCode};
use sockjs::codes;

use crate::{
    COMING_UP, GATE, POST, Service, Store,
    ports::{
        Connection, Environment, FIRST_GATE, Fault, Framing, Outcome, Probe, Pushes, TokenHash,
        Workers, opener_gate,
    },
    push::Target,
};

/// The first pause before looking again whether a connection is up; it doubles up to the last.
const FIRST_LOOK: Duration = Duration::from_millis(10);
const LAST_LOOK: Duration = Duration::from_secs(1);

/// A connection that is up.
#[derive(Debug)]
pub(crate) struct Up {
    /// All connections of its subscriber.
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    /// Whether nothing was parked when its first gate went, so that nothing can be left of another try of this job.
    pub(crate) settled: bool,
}

impl Up {
    fn unsettled(connections: BTreeMap<ConnectionId, Connection>) -> Self {
        Self {
            connections,
            settled: false,
        }
    }
}

/// A connection that was registered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registered<'a> {
    /// Whose.
    pub(crate) subscriber: &'a Subscriber,
    /// Which.
    pub(crate) id: &'a ConnectionId,
    /// Under which token.
    pub(crate) token: &'a TokenHash,
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Waits until an unframed connection is up, and lets go what was parked; none if it is no more.
    ///
    /// # Cost
    /// One write unit for each KiB of the subscriber's connections, as long as nothing was parked.
    pub(crate) async fn come_up(&self, registered: Registered<'_>) -> Result<Option<Up>, Fault> {
        let Registered { subscriber, id, .. } = registered;
        if !self.wait_for(registered).await? {
            return Ok(None);
        }
        // Who parks from here on has seen another gate, and has that seen to.
        if let Some(connections) = self.store.lower_first_gate(subscriber, id).await? {
            let settled = true;
            return Ok(Some(Up {
                connections,
                settled,
            }));
        }
        let connections = self.store.connections(subscriber).await?;
        let Some(connection) = connections.get(id) else {
            self.drop_forgotten(registered, Framing::Raw).await?;
            return Ok(None);
        };
        if let Some(deadline) = connection.gates.get(FIRST_GATE) {
            // Behind a gate of its own: this job may be carried out twice, also at once, and one of them releases.
            let first = BTreeMap::from([(FIRST_GATE.to_owned(), *deadline)]);
            let gate = self.environment.fresh_id();
            let until = self.environment.now().plus(GATE);
            let taken = self
                .store
                .take_gate(subscriber, id, &first, (&gate, until), &[]);
            if let Some(taken) = taken.await? {
                self.release(subscriber, id, &gate, taken, 0).await?;
            }
        }
        Ok(Some(Up::unsettled(connections)))
    }

    /// Tells a framed client that its session is open, and lets go what was parked; none if the connection is no more.
    pub(crate) async fn open_session(
        &self,
        registered: Registered<'_>,
    ) -> Result<Option<Up>, Fault> {
        let Registered { subscriber, id, .. } = registered;
        loop {
            let now = self.environment.now();
            let connections = self.store.connections(subscriber).await?;
            let Some(connection) = connections.get(id) else {
                // Dropped already, but perhaps before it was up; nothing but a close may come before `o`.
                self.wait_and_close(registered).await?;
                return Ok(None);
            };
            let Some(opening) = connection.opening_gate() else {
                // Another try of this job has done it.
                return Ok(Some(Up::unsettled(connections)));
            };
            if connection.gates.get(opening).is_none_or(|it| *it <= now) {
                let target = Target {
                    subscriber: subscriber.clone(),
                    id: id.clone(),
                    connection: connection.clone(),
                    read_at: now,
                };
                self.drop_target(&target).await?;
                return Ok(None);
            }
            let Some(deadline) = connection.gates.get(FIRST_GATE) else {
                // Another try is at it, or died at it: that shows when its gate ends.
                self.environment.sleep(LAST_LOOK).await;
                continue;
            };
            // If the answer is lost, the next try finds the gate of one who died.
            let first = BTreeMap::from([(FIRST_GATE.to_owned(), *deadline)]);
            let gate = opener_gate(&self.environment.fresh_id());
            let taken = self
                .store
                .take_gate(subscriber, id, &first, (&gate, *deadline), &[])
                .await?;
            if taken.is_some() {
                return self.open_behind(registered, &gate, *deadline).await;
            }
        }
    }

    /// The gate is ours: nobody else tells the client.
    async fn open_behind(
        &self,
        registered: Registered<'_>,
        gate: &str,
        deadline: Timestamp,
    ) -> Result<Option<Up>, Fault> {
        let Registered { subscriber, id, .. } = registered;
        let mut pause = FIRST_LOOK;
        loop {
            // Others drop the connection once the gate has ended.
            if deadline <= self.environment.now().plus(POST) {
                self.disconnect(subscriber, id).await?;
                return Ok(None);
            }
            match self.gateway.open_session(id).await {
                Outcome::Delivered => break,
                // It left, or it was dropped; nothing but a close may come before `o`.
                Outcome::Gone if pause == LAST_LOOK && !self.has_entry(registered).await? => {
                    self.wait_and_close(registered).await?;
                    return Ok(None);
                }
                // Not up yet, or too much at once: certainly not taken.
                Outcome::Gone | Outcome::Throttled => self.environment.sleep(pause).await,
                Outcome::TooLarge | Outcome::Unknown => {
                    let (framing, code) = (Framing::Sockjs, DisconnectCode::Shutdown);
                    self.drop_connection(subscriber, id, framing, code).await?;
                    return Ok(None);
                }
            }
            pause = (pause * 2).min(LAST_LOOK);
        }
        // Only now: who drops the connection from here on finds it up.
        let connections = self.store.connections(subscriber).await?;
        let Some(connection) = connections.get(id).cloned() else {
            self.drop_forgotten(registered, Framing::Sockjs).await?;
            return Ok(None);
        };
        self.release(subscriber, id, gate, connection, 0).await?;
        Ok(Some(Up::unsettled(connections)))
    }

    /// Waits until a connection is up; whether it is. One that never is has nothing left afterwards; one of which API Gateway
    /// says nothing in all that time is taken for up: a post to it will tell.
    async fn wait_for(&self, registered: Registered<'_>) -> Result<bool, Fault> {
        let Registered {
            subscriber,
            id,
            token,
        } = registered;
        let started = self.environment.now();
        let mut pause = FIRST_LOOK;
        loop {
            let probe = self.gateway.probe(id).await;
            if probe == Probe::Up {
                return Ok(true);
            }
            if self.environment.now() > started.plus(COMING_UP) {
                if probe == Probe::Unknown {
                    return Ok(true);
                }
                self.disconnect(subscriber, id).await?;
                self.store.forget_token_connection(token, id).await?;
                return Ok(false);
            }
            // Most are up long before the first of these looks.
            if pause == LAST_LOOK && self.has_left(registered).await? {
                return Ok(false);
            }
            self.environment.sleep(pause).await;
            pause = (pause * 2).min(LAST_LOOK);
        }
    }

    async fn has_entry(
        &self,
        Registered { subscriber, id, .. }: Registered<'_>,
    ) -> Result<bool, Fault> {
        let connections = self.store.connections(subscriber).await?;
        Ok(connections.contains_key(id))
    }

    /// Whether the client is known to have left.
    async fn has_left(&self, registered: Registered<'_>) -> Result<bool, Fault> {
        let Registered { id, token, .. } = registered;
        Ok(!self.has_entry(registered).await?
            && !self.store.has_token_connection(token, id).await?)
    }

    /// Closes a framed connection that is not registered any more and may be yet to come up. Why nobody knows: a client whose
    /// token was taken back learns it when it comes again.
    async fn wait_and_close(&self, registered: Registered<'_>) -> Result<(), Fault> {
        let Registered { id, token, .. } = registered;
        if self.wait_for(registered).await? {
            let close = codes::SHUTDOWN;
            let dropped = self.gateway.drop_connection(id, Framing::Sockjs, close);
            if dropped.await {
                self.store.forget_token_connection(token, id).await?;
            }
        }
        Ok(())
    }

    /// Dropped while it came up, when nobody could tell it so.
    async fn drop_forgotten(
        &self,
        registered: Registered<'_>,
        framing: Framing,
    ) -> Result<(), Fault> {
        let Registered {
            subscriber,
            id,
            token,
        } = registered;
        let code = self.code_of_forgotten(subscriber, token).await?;
        if self.drop_connection(subscriber, id, framing, code).await? {
            self.store.forget_token_connection(token, id).await?;
        }
        Ok(())
    }
}
