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

use crate::bearer::{Bearer, Headers, bearer, every_header, header, subprotocol};

/// The query parameter that carries a token.
const TOKEN_PARAMETER: &str = "access_token";

/// Deserializes an object that may also be `null` or absent.
fn object<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, V>, D::Error> {
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
    multi_value_headers: BTreeMap<String, Vec<String>>,
    #[serde(default, deserialize_with = "object")]
    query_string_parameters: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "object")]
    multi_value_query_string_parameters: BTreeMap<String, Vec<String>>,
}

impl AuthorizerEvent {
    /// Returns the token from the `Authorization` header, the `access_token` parameter or a subprotocol offer. Returns `None`
    /// if there is more than one.
    #[must_use]
    pub fn bearer(&self) -> Option<Bearer> {
        let every = |name| every_header(&self.headers, &self.multi_value_headers, name);
        let parameters = self
            .multi_value_query_string_parameters
            .get(TOKEN_PARAMETER);
        let last = self.query_string_parameters.get(TOKEN_PARAMETER);
        let parameters = parameters.map_or_else(
            || Vec::from_iter(last.map(String::as_str)),
            |all| all.iter().map(String::as_str).collect(),
        );
        bearer(
            every("authorization"),
            parameters,
            every("sec-websocket-protocol"),
        )
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

    /// Returns the token from the `Authorization` header or the `access_token` parameter. Returns `None` if there is more
    /// than one. Values of the same name arrive joined with commas.
    #[must_use]
    pub fn bearer(&self) -> Option<Bearer> {
        let none = BTreeMap::new();
        bearer(
            every_header(&self.headers, &none, "authorization"),
            self.query(TOKEN_PARAMETER),
            None,
        )
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
    fn bearer_token_has_three_places() {
        for (headers, query, expected) in [
            (json!({"authorization": "bearer  A"}), Value::Null, "A"),
            (
                json!({"SEC-WebSocket-Protocol": "messaging.v1"}),
                json!({"access_token": "B-._~+/="}),
                "B-._~+/=",
            ),
            (
                json!({"Sec-WebSocket-Protocol": "bearer.C,messaging.v1"}),
                json!({"Access_Token": "B"}),
                "C",
            ),
        ] {
            assert_eq!(event(&headers, &query).bearer().unwrap().expose(), expected);
        }
        for (headers, query) in [
            (Value::Null, Value::Null),
            (json!({"Authorization": "Basic A"}), Value::Null),
            (json!({"Authorization": "Bearer "}), Value::Null),
            (Value::Null, json!({"access_token": ""})),
            (Value::Null, json!({"access_token": "a b"})),
        ] {
            assert!(event(&headers, &query).bearer().is_none());
        }
    }

    #[test]
    fn two_tokens_are_none() {
        let offer = json!({"Sec-WebSocket-Protocol": "messaging.v1, bearer.A"});
        let both = json!({"authorization": "Bearer A", "sec-websocket-protocol": "bearer.A"});
        let parameter = json!({"access_token": "A"});
        for (headers, query) in [
            (json!({"Authorization": "Bearer A"}), parameter.clone()),
            (json!({"Authorization": "Basic A"}), parameter.clone()),
            (json!({"Authorization": "Bearer"}), parameter.clone()),
            (json!({"Authorization": ""}), parameter.clone()),
            (
                json!({"Authorization": "Bearer A"}),
                json!({"access_token": ""}),
            ),
            (json!({"Authorization": "Bearer A,Bearer A"}), Value::Null),
            (
                json!({"Authorization": "Bearer A", "authorization": "Bearer A"}),
                Value::Null,
            ),
            (offer, parameter.clone()),
            (both, Value::Null),
            (
                json!({"Sec-WebSocket-Protocol": "bearer.A, bearer.A"}),
                Value::Null,
            ),
            (Value::Null, json!({"access_token": "A,A"})),
        ] {
            assert!(
                event(&headers, &query).bearer().is_none(),
                "{headers} {query}"
            );
        }
    }

    #[test]
    fn all_values_of_authorizer_event_count() {
        let bearer = |headers: Value, query: Value| {
            let event: AuthorizerEvent = serde_json::from_value(json!({
                "methodArn": "arn",
                "headers": {"Authorization": "Bearer B"},
                "multiValueHeaders": headers,
                "queryStringParameters": {},
                "multiValueQueryStringParameters": query,
            }))
            .unwrap();
            event.bearer().map(|it| it.expose().to_owned())
        };
        let one = json!({"Authorization": ["Bearer B"]});
        assert_eq!(bearer(one.clone(), json!({})).as_deref(), Some("B"));
        assert_eq!(bearer(Value::Null, Value::Null).as_deref(), Some("B"));
        let two = json!({"Authorization": ["Bearer A", "Bearer B"]});
        assert_eq!(bearer(two, json!({})), None);
        let cases = json!({"Authorization": ["Bearer B"], "authorization": ["Bearer A"]});
        assert_eq!(bearer(cases, json!({})), None);
        assert_eq!(bearer(one, json!({"access_token": ["A"]})), None);
        let basic = json!({"authorization": ["Basic A"]});
        assert_eq!(bearer(basic, json!({"access_token": ["A"]})), None);
        let other = json!({"Host": ["h"], "Sec-WebSocket-Protocol": ["bearer.A", "bearer.B"]});
        assert_eq!(bearer(other, json!({})), None);
    }

    #[test]
    fn joined_values_of_http_event_are_none() {
        let bearer = |headers: Value, query: Value| {
            let event: HttpEvent = serde_json::from_value(json!({
                "rawPath": "/",
                "headers": headers,
                "queryStringParameters": query,
                "requestContext": {"http": {"method": "GET"}},
            }))
            .unwrap();
            event.bearer().map(|it| it.expose().to_owned())
        };
        let header = json!({"authorization": "Bearer A"});
        assert_eq!(bearer(header.clone(), Value::Null).as_deref(), Some("A"));
        let parameter = json!({"access_token": "A"});
        assert_eq!(bearer(Value::Null, parameter.clone()).as_deref(), Some("A"));
        assert_eq!(bearer(header, parameter.clone()), None);
        assert_eq!(bearer(json!({"authorization": "Basic A"}), parameter), None);
        assert_eq!(
            bearer(json!({"authorization": "Bearer A,Bearer A"}), Value::Null),
            None
        );
        assert_eq!(bearer(Value::Null, json!({"access_token": "A,B"})), None);
        assert_eq!(bearer(Value::Null, json!({"access_token": ",A"})), None);
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
