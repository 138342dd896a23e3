//! The way out to clients: API Gateway's `@connections`, and what each of its answers means.
//!
//! `POST`, `GET` and `DELETE /@connections/{id}` as in
//! docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html (2026-08).

use core::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use protocol::ConnectionId;
use service::ports::{Framing, Outcome, Probe, Pushes};
use signing::{Call, SendError, SigningClient};

/// A post that takes longer is one of unknown outcome; leases and gates count on it.
const LIMIT: Duration = Duration::from_secs(2);

/// The management API of one stage.
#[derive(Clone, Debug)]
pub struct Management {
    client: SigningClient,
    endpoint: String,
}

impl Management {
    /// The management API at `endpoint`, which ends with the stage.
    #[must_use]
    pub fn new(client: SigningClient, endpoint: &str) -> Self {
        Self {
            client,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
        }
    }

    async fn call(
        &self,
        method: Method,
        connection: &ConnectionId,
        body: Bytes,
    ) -> Result<StatusCode, SendError> {
        // An id ends in `=`, which has to be escaped.
        let id = utf8_percent_encode(connection.as_str(), NON_ALPHANUMERIC);
        let url = format!("{}/@connections/{id}", self.endpoint);
        let call = Call {
            service: "execute-api",
            method,
            url: &url,
            headers: &[],
            body,
            limit: LIMIT,
        };
        self.client.send(call).await.map(|(status, _)| status)
    }
}

impl Pushes for Management {
    async fn post(&self, connection: &ConnectionId, framing: Framing, frame: &str) -> Outcome {
        let body = match framing {
            Framing::Raw | Framing::Session => Bytes::copy_from_slice(frame.as_bytes()),
            Framing::Sockjs => Bytes::from(sockjs_frame(frame)),
        };
        outcome(self.call(Method::POST, connection, body).await)
    }

    async fn probe(&self, connection: &ConnectionId) -> Probe {
        match self.call(Method::GET, connection, Bytes::new()).await {
            Ok(StatusCode::OK) => Probe::Up,
            Ok(StatusCode::GONE) => Probe::Gone,
            _ => Probe::Unknown,
        }
    }

    async fn drop_connection(&self, connection: &ConnectionId) -> bool {
        matches!(
            self.call(Method::DELETE, connection, Bytes::new()).await,
            Ok(StatusCode::NO_CONTENT | StatusCode::GONE)
        )
    }
}

/// What an answer to a post means. Anything that is not one of the four documented answers may have been delivered.
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

/// One message as a SockJS frame.
fn sockjs_frame(message: &str) -> String {
    format!("a[{}]", serde_json::Value::from(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_means_one_thing() {
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

    #[test]
    fn a_sockjs_frame_is_an_array_of_one_string() {
        assert_eq!(sockjs_frame(r#"{"a":"b"}"#), r#"a["{\"a\":\"b\"}"]"#);
    }
}
