//! Delivery to clients: API Gateway's `@connections` and the meaning of its responses.
//!
//! `POST`, `GET` and `DELETE /@connections/{id}` as in
//! docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html (2026-08).

mod clients;

use core::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use protocol::ConnectionId;
use service::ports::{Framing, Outcome, Posted, Probe, Pushes};
use signing::{Call, SendError, SigningClient};
use sockjs::{Close, frame};

pub use clients::Clients;

/// The time limit of a post. After it the outcome is unknown. Leases and gates depend on this limit.
const LIMIT: Duration = Duration::from_secs(2);

/// The management API of one stage.
#[derive(Clone, Debug)]
pub struct Management {
    client: SigningClient,
    endpoint: String,
}

impl Management {
    /// Creates a client of the management API at `endpoint`, which ends with the stage.
    #[must_use]
    pub fn new(client: SigningClient, endpoint: &str) -> Self {
        Self {
            client,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
        }
    }

    /// Closes a WebSocket with a code and a reason. API Gateway documents no way to do this. Only the local gateway
    /// supports it, for SockJS's conformance suite.
    pub async fn close_saying(&self, connection: &ConnectionId, close: Close) {
        let reason = utf8_percent_encode(close.reason, NON_ALPHANUMERIC);
        let url = format!(
            "{}?code={}&reason={reason}",
            self.url(connection),
            close.code
        );
        let _ = self.call(Method::DELETE, &url, Bytes::new()).await;
    }

    /// Returns the URL of a connection. An id ends in `=`, which must be escaped.
    fn url(&self, connection: &ConnectionId) -> String {
        let id = utf8_percent_encode(connection.as_str(), NON_ALPHANUMERIC);
        format!("{}/@connections/{id}", self.endpoint)
    }

    async fn call(&self, method: Method, url: &str, body: Bytes) -> Result<StatusCode, SendError> {
        let call = Call {
            service: "execute-api",
            method,
            url,
            headers: &[],
            body,
            limit: LIMIT,
        };
        self.client.send(call).await.map(|(status, _)| status)
    }

    async fn send(&self, connection: &ConnectionId, body: String) -> Outcome {
        let url = self.url(connection);
        outcome(self.call(Method::POST, &url, body.into()).await)
    }
}

impl Pushes for Management {
    async fn open_session(&self, connection: &ConnectionId) -> Outcome {
        self.send(connection, frame::OPEN.to_owned()).await
    }

    async fn post(&self, connection: &ConnectionId, framing: Framing, messages: &[&str]) -> Posted {
        let (body, count) = framing.frame(messages);
        let outcome = match count {
            0 => Outcome::Delivered,
            _ => self.send(connection, body).await,
        };
        Posted { count, outcome }
    }

    async fn probe(&self, connection: &ConnectionId) -> Probe {
        let url = self.url(connection);
        match self.call(Method::GET, &url, Bytes::new()).await {
            Ok(StatusCode::OK) => Probe::Up,
            Ok(StatusCode::GONE) => Probe::Gone,
            _ => Probe::Unknown,
        }
    }

    async fn drop_connection(
        &self,
        connection: &ConnectionId,
        framing: Framing,
        close: Close,
    ) -> bool {
        // API Gateway closes without a reason, so a SockJS client gets the reason in a close frame first.
        if framing == Framing::Sockjs {
            let _ = self.send(connection, close.frame()).await;
        }
        let url = self.url(connection);
        matches!(
            self.call(Method::DELETE, &url, Bytes::new()).await,
            Ok(StatusCode::NO_CONTENT | StatusCode::GONE)
        )
    }
}

/// Returns the outcome of a post. With any response except the four documented ones the frame may have been delivered.
fn outcome(answer: Result<StatusCode, SendError>) -> Outcome {
    match answer {
        Ok(StatusCode::OK) => Outcome::Delivered,
        Ok(StatusCode::GONE) => Outcome::Gone,
        Ok(StatusCode::PAYLOAD_TOO_LARGE) => Outcome::TooLarge,
        Ok(StatusCode::TOO_MANY_REQUESTS) | Err(SendError::NotSent | SendError::Unsendable) => {
            Outcome::Throttled
        }
        Ok(_) | Err(SendError::Lost) => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_maps_to_outcome() {
        for (status, meaning) in [
            (200, Outcome::Delivered),
            (410, Outcome::Gone),
            (413, Outcome::TooLarge),
            (429, Outcome::Throttled),
            (403, Outcome::Unknown),
            (500, Outcome::Unknown),
            (504, Outcome::Unknown),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(outcome(Ok(status)), meaning, "{status}");
        }
        assert_eq!(outcome(Err(SendError::Lost)), Outcome::Unknown);
        assert_eq!(outcome(Err(SendError::NotSent)), Outcome::Throttled);
    }
}
