//! The parts of API Gateway's events that the functions read.
//!
//! The types are our own, because the functions need only these of some forty fields, and only some of them may be missing.
//! Header names come in any case, and keys that do not apply are absent. The authorizer's context contains only strings,
//! because AWS documents both strings and typed values.

use std::collections::BTreeMap;

use lambda_runtime::Diagnostic;
use protocol::{ConnectionId, Domain, RequestId, Subscriber, SubscriberId, Timestamp};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use service::{
    DoorbellOf, Identity,
    ports::{Framing, Jti, TokenHash},
};

use crate::bearer::{Bearer, Headers, bearer, header, offered_bearer, subprotocol};

/// Deserializes an object that may also be `null` or absent.
fn object<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The event of a `$connect` authorizer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizerEvent {
    method_arn: String,
    #[serde(default, deserialize_with = "object")]
    headers: Headers,
    #[serde(default, deserialize_with = "object")]
    query_string_parameters: BTreeMap<String, String>,
}

impl AuthorizerEvent {
    /// Returns the token from the `Authorization` header, the `access_token` parameter or a subprotocol offer, in this order.
    #[must_use]
    pub fn bearer(&self) -> Option<Bearer> {
        bearer(&self.headers, &self.query_string_parameters)
            .or_else(|| offered_bearer(&self.headers))
    }

    /// Returns the framing of the connection. It is SockJS if the query has `framing=sockjs`, which the edge adds to SockJS
    /// URLs.
    #[must_use]
    pub fn framing(&self) -> Framing {
        match self.query_string_parameters.get("framing") {
            Some(framing) if framing == "sockjs" => Framing::Sockjs,
            _ => Framing::Raw,
        }
    }

    /// Returns the `Origin` header, if present.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        header(&self.headers, "origin")
    }

    /// Returns the receiver whose doorbell the connection is to become. Returns `None` if the connection is no doorbell or
    /// its `doorbell` parameter is invalid.
    #[must_use]
    pub fn doorbell(&self) -> Option<DoorbellOf> {
        DoorbellOf::parse(self.doorbell_text()?)
    }

    /// Returns the ARN that the answer allows.
    pub(crate) fn method_arn(&self) -> &str {
        &self.method_arn
    }

    /// Returns the `doorbell` parameter of the URL.
    pub(crate) fn doorbell_text(&self) -> Option<&str> {
        let of = self.query_string_parameters.get("doorbell");
        of.map(String::as_str)
    }
}

/// An event of a WebSocket API: `$connect`, a message, `$disconnect`.
#[derive(Debug, Deserialize)]
#[serde(from = "ConnectionEvent")]
pub enum WebSocketEvent {
    /// The connection belongs to a client.
    Client(ConnectionEvent),
    /// The connection is a doorbell. It carries only the signal that the outbox has new messages.
    Doorbell {
        event: ConnectionEvent,
        /// The receiver that listens, or `None` if the `doorbell` parameter was invalid.
        of: Option<DoorbellOf>,
    },
}

impl From<ConnectionEvent> for WebSocketEvent {
    fn from(event: ConnectionEvent) -> Self {
        let authorizer = event.request_context.authorizer.as_ref();
        match authorizer.and_then(|it| it.doorbell.as_deref()) {
            Some(text) => Self::Doorbell {
                of: DoorbellOf::parse(text),
                event,
            },
            None => Self::Client(event),
        }
    }
}

impl WebSocketEvent {
    /// Returns a span for the log lines of this event. It contains the connection, the request and the domain, and no
    /// content.
    #[must_use]
    pub fn span(&self) -> tracing::Span {
        let (Self::Client(event) | Self::Doorbell { event, .. }) = self;
        let context = &event.request_context;
        let domain = context.authorizer.as_ref().map(|it| it.domain.as_str());
        let (connection, request) = (context.connection_id.as_str(), context.request_id.as_str());
        tracing::info_span!("event", connection, request, domain)
    }
}

/// The content of a [`WebSocketEvent`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionEvent {
    #[serde(default, deserialize_with = "object")]
    headers: Headers,
    request_context: RequestContext,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext {
    connection_id: ConnectionId,
    request_id: RequestId,
    #[serde(default)]
    authorizer: Option<Authorizer>,
}

#[derive(Debug, Deserialize)]
struct Authorizer {
    domain: Domain,
    subscriber: SubscriberId,
    token: TokenHash,
    expires: String,
    #[serde(default)]
    jti: Option<Jti>,
    framing: Framing,
    #[serde(default)]
    doorbell: Option<String>,
}

impl ConnectionEvent {
    /// Returns the id of the connection.
    #[must_use]
    pub const fn connection(&self) -> &ConnectionId {
        &self.request_context.connection_id
    }

    /// Returns API Gateway's request id of the event.
    #[must_use]
    pub const fn request(&self) -> &RequestId {
        &self.request_context.request_id
    }

    /// Returns the identity that the authorizer established.
    ///
    /// # Errors
    /// Fails if the route has no authorizer, which is a deployment mistake.
    pub fn identity(&self) -> Result<Identity, Diagnostic> {
        let missing = || Diagnostic {
            error_type: "Deployment".to_owned(),
            error_message:
                "event has no authorizer context: is the authorizer attached to $connect?"
                    .to_owned(),
        };
        let authorizer = self
            .request_context
            .authorizer
            .as_ref()
            .ok_or_else(missing)?;
        let expires = authorizer.expires.parse().map_err(|_| missing())?;
        Ok(Identity {
            subscriber: Subscriber {
                domain: authorizer.domain.clone(),
                id: authorizer.subscriber.clone(),
            },
            token: authorizer.token.clone(),
            token_expires: Timestamp::from_millis(expires),
            jti: authorizer.jti.clone(),
            framing: authorizer.framing,
        })
    }

    /// Returns the text of a message, or `None` if the frame was binary.
    #[must_use]
    pub fn text(self) -> Option<String> {
        self.body.filter(|_| !self.is_base64_encoded)
    }

    /// Returns the response to `$connect` that accepts the connection. It echoes the subprotocol if the client offered it,
    /// and never a token that the client offered beside it.
    #[must_use]
    pub fn accept(&self) -> Value {
        match subprotocol(&self.headers) {
            Some(name) => json!({"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": name}}),
            None => json!({"statusCode": 200}),
        }
    }
}

/// An event of an HTTP API, payload format 2.0.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpEvent {
    raw_path: String,
    #[serde(default)]
    raw_query_string: String,
    #[serde(default)]
    cookies: Vec<String>,
    #[serde(default, deserialize_with = "object")]
    headers: Headers,
    #[serde(default, deserialize_with = "object")]
    query_string_parameters: BTreeMap<String, String>,
    request_context: HttpRequestContext,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

#[derive(Debug, Deserialize)]
struct HttpRequestContext {
    http: HttpDescription,
}

#[derive(Debug, Deserialize)]
struct HttpDescription {
    method: String,
}

impl HttpEvent {
    /// Returns the HTTP method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.request_context.http.method
    }

    /// Returns the path. An HTTP API has percent-decoded it once, as its documentation says of all request parameters
    /// (docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html, 2026-11). A function URL passes it
    /// on as the client sent it.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.raw_path
    }

    /// Returns the query string as the client sent it.
    #[must_use]
    pub fn raw_query(&self) -> &str {
        &self.raw_query_string
    }

    /// Returns the header `name`, whose case is ignored.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Returns the cookies as the value of one `Cookie` header.
    #[must_use]
    pub fn cookie(&self) -> Option<String> {
        (!self.cookies.is_empty()).then(|| self.cookies.join("; "))
    }

    /// Returns the token from the `Authorization` header or the `access_token` parameter, in this order.
    #[must_use]
    pub fn bearer(&self) -> Option<Bearer> {
        bearer(&self.headers, &self.query_string_parameters)
    }

    /// Returns the body's bytes, or `None` if its Base64 is invalid. An absent body is empty.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let body = self.body.as_deref().unwrap_or_default();
        if self.is_base64_encoded {
            STANDARD.decode(body).ok()
        } else {
            Some(body.as_bytes().to_vec())
        }
    }

    /// Returns a query parameter.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query_string_parameters.get(name).map(String::as_str)
    }

    /// Returns the body as text, or `None` if it is not UTF-8. An absent body is empty.
    #[must_use]
    pub fn body(&self) -> Option<String> {
        String::from_utf8(self.bytes()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(headers: &Value, query: &Value) -> AuthorizerEvent {
        serde_json::from_value(json!({
            "type": "REQUEST",
            "methodArn": "arn:aws:execute-api:us-east-1:1:a/prod/$connect",
            "headers": headers,
            "queryStringParameters": query,
            "requestContext": {},
        }))
        .unwrap()
    }

    #[test]
    fn bearer_token_sources_have_precedence() {
        let all = event(
            &json!({"authorization": "bearer  A", "SEC-WebSocket-Protocol": "messaging.v1, bearer.C"}),
            &json!({"access_token": "B"}),
        );
        assert_eq!(all.bearer().unwrap().expose(), "A");
        let two = event(
            &json!({"Sec-WebSocket-Protocol": "bearer.C,messaging.v1"}),
            &json!({"access_token": "B"}),
        );
        assert_eq!(two.bearer().unwrap().expose(), "B");
        let one = event(
            &json!({"Sec-WebSocket-Protocol": "bearer.C,messaging.v1"}),
            &Value::Null,
        );
        assert_eq!(one.bearer().unwrap().expose(), "C");
        for none in [
            event(&Value::Null, &Value::Null),
            event(
                &json!({"Authorization": "Basic A"}),
                &json!({"access_token": ""}),
            ),
            event(&json!({"Authorization": "Bearer "}), &Value::Null),
        ] {
            assert!(none.bearer().is_none());
        }
    }

    #[test]
    fn query_parameter_selects_framing() {
        for (query, framing) in [
            (json!({"framing": "sockjs", "t": "1"}), Framing::Sockjs),
            (json!({"framing": "raw"}), Framing::Raw),
            (json!({"framing": ""}), Framing::Raw),
            (Value::Null, Framing::Raw),
        ] {
            assert_eq!(event(&Value::Null, &query).framing(), framing, "{query}");
        }
    }

    #[test]
    fn only_subprotocol_is_echoed() {
        let connect = |offer: &str| -> Value {
            let event: ConnectionEvent = serde_json::from_value(json!({
                "headers": {"Sec-WebSocket-Protocol": offer},
                "requestContext": {"connectionId": "c=", "requestId": "r="},
            }))
            .unwrap();
            event.accept()
        };
        assert_eq!(
            connect("bearer.X, messaging.v1")["headers"]["Sec-WebSocket-Protocol"],
            "messaging.v1"
        );
        assert!(connect("bearer.X").get("headers").is_none());
    }
}
