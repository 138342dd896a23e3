//! What comes over a connection is taken apart into messages, and taken at all only from a connection that is registered,
//! open and not past its end.

use core::time::Duration;

use protocol::{RequestId, Subscriber, frame::DisconnectCode, limits};

use crate::{
    GATE, Identity, Service, Store,
    expire::code_at_end,
    message::Incoming,
    ports::{Environment, Fault, Framing, Pushes, TokenHash, Workers},
    push::Target,
};

/// How long a message waits before it looks again whether its connection's session is open.
const OPENING: Duration = Duration::from_millis(50);

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Handles what came over a WebSocket: a message, or a frame of several, one after the other. What is no frame ends a
    /// framed connection.
    ///
    /// If this dies half-way, the rest is not handled and has no `ack`, as if it had been sent one by one.
    ///
    /// # Errors
    /// As [`Self::message`], the first; the others are handled nevertheless.
    pub async fn receive(&self, incoming: &Incoming) -> Result<(), Fault> {
        if incoming.identity.framing != Framing::Sockjs {
            return Box::pin(self.message(incoming)).await;
        }
        let Ok(messages) = sockjs::frame::decode_text(&incoming.body) else {
            return Box::pin(self.drop_broken(incoming)).await;
        };
        let mut failed = Ok(());
        for (place, body) in messages.into_iter().enumerate() {
            let message = Incoming {
                // Each has a gate of its own.
                request: RequestId(format!("{}.{place}", incoming.request)),
                body,
                ..incoming.clone()
            };
            failed = failed.and(Box::pin(self.message(&message)).await);
        }
        failed
    }

    /// The sender's connection, if it is registered and not past its end. Otherwise it is told so and dropped: nothing is
    /// accepted from a token that no longer holds, also before the drop.
    pub(crate) async fn admit(&self, incoming: &Incoming) -> Result<Option<Target>, Fault> {
        self.admit_behind(incoming, None).await
    }

    /// The same, with a gate raised in the same step if there will be a response.
    pub(crate) async fn admit_behind(
        &self,
        incoming: &Incoming,
        gate: Option<&str>,
    ) -> Result<Option<Target>, Fault> {
        let subscriber = &incoming.identity.subscriber;
        let id = &incoming.connection;
        let patience = self.environment.now().plus(GATE);
        let mut attempt = 0;
        let (now, connection) = loop {
            let now = self.environment.now();
            let read = match gate {
                Some(gate) => {
                    let deadline = now.plus(GATE);
                    let raised = self.store.raise_gate(subscriber, id, gate, deadline).await;
                    raised.map(Result::ok)
                }
                None => {
                    let connections = self.store.connections(subscriber).await;
                    connections.map(|mut it| it.remove(id))
                }
            };
            match read {
                // Faster than its `o`, which comes before everything else.
                Ok(Some(read)) if read.opening_gate().is_some() && now < patience => {
                    self.environment.sleep(OPENING).await;
                }
                Ok(read) => break (now, read),
                // Who is not admitted is not answered either: a passing fault must not be the reason.
                Err(fault) => self.again(&mut attempt, id.as_str(), fault).await?,
            }
        };
        match connection {
            Some(connection) if now < connection.ends_at => {
                let target = Target {
                    subscriber: subscriber.clone(),
                    id: id.clone(),
                    connection,
                    read_at: now,
                };
                if target.connection.opening_gate().is_some() {
                    self.drop_target(&target).await?;
                    return Ok(None);
                }
                Ok(Some(target))
            }
            Some(connection) => {
                let code = code_at_end(&connection);
                self.drop_connection(subscriber, id, connection.framing, code)
                    .await?;
                Ok(None)
            }
            None => {
                self.turn_away(incoming).await?;
                Ok(None)
            }
        }
    }

    /// A message over a connection that is not registered: it was dropped, and this may be the last it hears of us.
    async fn turn_away(&self, incoming: &Incoming) -> Result<(), Fault> {
        let Identity {
            token,
            subscriber,
            framing,
            ..
        } = &incoming.identity;
        let code = self.code_of_forgotten(subscriber, token).await?;
        self.drop_connection(subscriber, &incoming.connection, *framing, code)
            .await?;
        Ok(())
    }

    /// Why a connection is not registered any more, as far as its token and the others tell.
    pub(crate) async fn code_of_forgotten(
        &self,
        subscriber: &Subscriber,
        token: &TokenHash,
    ) -> Result<DisconnectCode, Fault> {
        let now = self.environment.now();
        Ok(match self.store.token(token).await? {
            Some(record) if record.is_good(now) => {
                let others = self.store.connections(subscriber).await?.len();
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
