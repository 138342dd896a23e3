//! Delivers to every kind of client: through API Gateway to WebSockets, and through the outbox to SockJS sessions over HTTP.

use core::time::Duration;
use std::time::Instant;

use protocol::ConnectionId;
use service::ports::{
    Closing, Environment, Fault, Framing, OUTBOX_BYTES, OUTBOX_MESSAGES, Outcome, Posted, Probe,
    Pushed, Pushes, SessionId, Sessions,
};
use signing::SigningClient;
use sockjs::Close;
use tokio::time::timeout;

use crate::{LIMIT, Management};

/// The message to a doorbell. Its text has no meaning.
const RING: &str = "ring";

/// The port `Pushes` for all kinds of connections.
#[derive(Clone, Debug)]
pub struct Clients<S, E> {
    sockets: Management,
    sessions: S,
    environment: E,
}

impl<S: Sessions, E: Environment> Clients<S, E> {
    /// Creates a port to the WebSockets of the stage at `endpoint` and to `sessions`.
    #[must_use]
    pub fn new(client: SigningClient, endpoint: &str, sessions: S, environment: E) -> Self {
        Self {
            sockets: Management::new(client, endpoint),
            sessions,
            environment,
        }
    }

    async fn push(&self, id: &SessionId, messages: &[&str]) -> Outcome {
        let begun = Instant::now();
        let now = self.environment.now();
        let push = self.sessions.push_to_session(id, messages, now);
        match timeout(LIMIT, push).await {
            Ok(Ok(Pushed::Waiting(doorbell))) => {
                self.ring(doorbell, LIMIT.saturating_sub(begun.elapsed()))
                    .await;
                Outcome::Delivered
            }
            Ok(Ok(Pushed::Full)) if messages.iter().any(|it| it.len() > OUTBOX_BYTES) => {
                Outcome::TooLarge
            }
            Ok(Ok(Pushed::Full) | Err(Fault::Refused(_) | Fault::Conflict)) => Outcome::Throttled,
            Ok(Ok(Pushed::Gone)) => Outcome::Gone,
            Ok(Err(Fault::Unknown(_) | Fault::Corrupt(_))) | Err(_) => Outcome::Unknown,
        }
    }

    /// Notifies a receiver of new messages. If the notification fails, the receiver finds them at its next poll.
    async fn ring(&self, doorbell: Option<ConnectionId>, within: Duration) {
        if let Some(doorbell) = doorbell {
            let ring = self.sockets.post(&doorbell, Framing::Raw, &[RING]);
            let _ = timeout(within, ring).await;
        }
    }

    async fn probe_session(&self, id: &SessionId) -> Probe {
        let now = self.environment.now();
        match timeout(LIMIT, self.sessions.session(&id.key)).await {
            Ok(Ok(session)) => {
                let open = session.filter(|it| it.incarnation == id.incarnation);
                if open.is_some_and(|it| it.is_open(now)) {
                    Probe::Up
                } else {
                    Probe::Gone
                }
            }
            _ => Probe::Unknown,
        }
    }

    /// Closes a session. Its client receives the close frame last.
    async fn close_session(&self, id: &SessionId, close: Close) -> bool {
        let begun = Instant::now();
        let closing = Closing {
            code: close.code,
            reason: close.reason.to_owned(),
        };
        let now = self.environment.now();
        let closed = self.sessions.close_session(id, &closing, now);
        match timeout(LIMIT, closed).await {
            Ok(Ok(doorbell)) => {
                self.ring(doorbell, LIMIT.saturating_sub(begun.elapsed()))
                    .await;
                true
            }
            _ => false,
        }
    }
}

/// Returns the number of leading messages to push in one step, at least one if there is any. They fill at most half an
/// outbox, so that an empty outbox always has room for them. A single larger message goes alone.
fn together(messages: &[&str]) -> usize {
    let mut bytes = 0;
    let fitting = messages.iter().take(OUTBOX_MESSAGES / 2).take_while(|it| {
        bytes += it.len();
        bytes <= OUTBOX_BYTES / 2
    });
    fitting.count().max(1).min(messages.len())
}

impl<S: Sessions, E: Environment> Pushes for Clients<S, E> {
    async fn open_session(&self, connection: &ConnectionId) -> Outcome {
        self.sockets.open_session(connection).await
    }

    async fn post(&self, connection: &ConnectionId, framing: Framing, messages: &[&str]) -> Posted {
        let Some(id) = SessionId::of(connection) else {
            return self.sockets.post(connection, framing, messages).await;
        };
        let count = together(messages);
        let outcome = match messages.get(..count) {
            Some(first @ [_, ..]) => self.push(&id, first).await,
            _ => Outcome::Delivered,
        };
        Posted { count, outcome }
    }

    async fn probe(&self, connection: &ConnectionId) -> Probe {
        match SessionId::of(connection) {
            Some(id) => self.probe_session(&id).await,
            None => self.sockets.probe(connection).await,
        }
    }

    async fn drop_connection(
        &self,
        connection: &ConnectionId,
        framing: Framing,
        close: Close,
    ) -> bool {
        match SessionId::of(connection) {
            Some(id) => self.close_session(&id, close).await,
            None => {
                self.sockets
                    .drop_connection(connection, framing, close)
                    .await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushed_batch_fits_empty_outbox() {
        let half = "x".repeat(OUTBOX_BYTES / 2);
        for (messages, expected) in [
            (vec![], 0),
            (vec!["a"; 3], 3),
            (vec!["a"; OUTBOX_MESSAGES], OUTBOX_MESSAGES / 2),
            (vec![half.as_str(), "a"], 1),
            (vec!["a", half.as_str()], 1),
        ] {
            assert_eq!(together(&messages), expected);
        }
        let whole = "x".repeat(OUTBOX_BYTES);
        assert_eq!(together(&[&whole, "a"]), 1, "at least one message");
    }
}
