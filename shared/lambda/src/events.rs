//! API Gateway's events as far as the functions read them, and the answers of an authorizer.
//!
//! Types of our own: of some forty fields these are needed, and only some of them may be missing. Header names come in any
//! case, keys that do not apply are absent, and the authorizer's context is strings (AWS documents both strings and typed
//! values, so we send strings).

use std::collections::BTreeMap;

use lambda_runtime::Diagnostic;
use protocol::{ConnectionId, Domain, RequestId, Subscriber, SubscriberId, Timestamp};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use service::{
    DoorbellOf, Identity,
    ports::{Fault, Framing, Jti, TokenHash},
};

/// The subprotocol that is selected if the client offers it.
const SUBPROTOCOL: &str = "messaging.v1";
/// The prefix of an offer that carries a token.
const BEARER_OFFER: &str = "bearer.";

/// An object that may also be `null` or absent.
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
    headers: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "object")]
    query_string_parameters: BTreeMap<String, String>,
}

/// A bearer token as it came. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Bearer(String);

impl Bearer {
    fn new(token: &str) -> Option<Self> {
        (!token.is_empty()).then(|| Self(token.to_owned()))
    }

    /// The token.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl AuthorizerEvent {
    /// The token: from the `Authorization` header, the `access_token` parameter or a subprotocol offer; first found wins.
    #[must_use]
    pub fn bearer(&self) -> Option<Bearer> {
        let offer = || {
            let token =
                header_offers(&self.headers).find_map(|offer| offer.strip_prefix(BEARER_OFFER));
            token.and_then(Bearer::new)
        };
        bearer(&self.headers, &self.query_string_parameters).or_else(offer)
    }

    /// How the client's frames are written: as SockJS with `framing=sockjs`, which the edge adds to SockJS's URLs.
    #[must_use]
    pub fn framing(&self) -> Framing {
        match self.query_string_parameters.get("framing") {
            Some(framing) if framing == "sockjs" => Framing::Sockjs,
            _ => Framing::Raw,
        }
    }
}

impl AuthorizerEvent {
    /// The page that asks; none if it is none.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        header(&self.headers, "origin")
    }

    /// Whose doorbell the connection is to be; none if it is to be none, or names nobody.
    #[must_use]
    pub fn doorbell(&self) -> Option<DoorbellOf> {
        DoorbellOf::parse(self.doorbell_text()?)
    }

    /// The same as it stands in the URL.
    fn doorbell_text(&self) -> Option<&str> {
        let of = self.query_string_parameters.get("doorbell");
        of.map(String::as_str)
    }
}

/// The answer of an authorizer that lets somebody in. Its context comes with every later event of the connection.
#[must_use]
pub fn allow(event: &AuthorizerEvent, identity: &Identity) -> Value {
    let mut context = json!({
        "domain": identity.subscriber.domain,
        "subscriber": identity.subscriber.id,
        "token": identity.token,
        "expires": identity.token_expires.millis().to_string(),
        "framing": identity.framing,
    });
    if let (Some(jti), Some(context)) = (&identity.jti, context.as_object_mut()) {
        context.insert("jti".to_owned(), jti.as_str().into());
    }
    if let (Some(doorbell), Some(context)) = (event.doorbell_text(), context.as_object_mut()) {
        context.insert("doorbell".to_owned(), doorbell.into());
    }
    json!({
        "principalId": identity.subscriber.id,
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [{
                "Action": "execute-api:Invoke",
                "Effect": "Allow",
                "Resource": event.method_arn,
            }],
        },
        "context": context,
    })
}

/// The one error that API Gateway turns into 401; its text is the contract
/// (docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-lambda-auth.html, 2026-08).
#[must_use]
pub fn unauthorized() -> Diagnostic {
    Diagnostic {
        error_type: "Unauthorized".to_owned(),
        error_message: "Unauthorized".to_owned(),
    }
}

/// What Lambda is told of a fault: the invocation has failed, and is repeated where that is configured.
#[must_use]
pub fn failed(fault: Fault) -> Diagnostic {
    Diagnostic {
        error_type: "Fault".to_owned(),
        error_message: fault.to_string(),
    }
}

/// An event of a WebSocket API: `$connect`, a message, `$disconnect`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebSocketEvent {
    #[serde(default, deserialize_with = "object")]
    headers: BTreeMap<String, String>,
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

impl WebSocketEvent {
    /// The connection.
    #[must_use]
    pub const fn connection(&self) -> &ConnectionId {
        &self.request_context.connection_id
    }

    /// The invocation.
    #[must_use]
    pub const fn request(&self) -> &RequestId {
        &self.request_context.request_id
    }

    /// Around what is logged of this event: the connection and the domain, and nothing of what was said.
    #[must_use]
    pub fn span(&self) -> tracing::Span {
        let context = &self.request_context;
        let domain = context.authorizer.as_ref().map(|it| it.domain.as_str());
        let (connection, request) = (context.connection_id.as_str(), context.request_id.as_str());
        tracing::info_span!("event", connection, request, domain)
    }

    /// Who the authorizer found.
    ///
    /// # Errors
    /// If the route has no authorizer: a mistake of the deployment.
    pub fn identity(&self) -> Result<Identity, Diagnostic> {
        let missing = || Diagnostic {
            error_type: "Deployment".to_owned(),
            error_message:
                "the event has no authorizer context: is the authorizer attached to $connect?"
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

    /// Whether the connection is a doorbell: nothing is said over it but that something is new.
    #[must_use]
    pub fn is_doorbell(&self) -> bool {
        let authorizer = self.request_context.authorizer.as_ref();
        authorizer.is_some_and(|it| it.doorbell.is_some())
    }

    /// Whose doorbell the connection is; none if it is no doorbell or names nobody.
    #[must_use]
    pub fn doorbell(&self) -> Option<DoorbellOf> {
        let authorizer = self.request_context.authorizer.as_ref()?;
        DoorbellOf::parse(authorizer.doorbell.as_deref()?)
    }

    /// The text of a message; none if it was not text.
    #[must_use]
    pub fn text(self) -> Option<String> {
        self.body.filter(|_| !self.is_base64_encoded)
    }

    /// The answer to `$connect` that lets the connection begin. The subprotocol is echoed if it was offered, the token
    /// that may stand beside it never.
    #[must_use]
    pub fn accept(&self) -> Value {
        if header_offers(&self.headers).any(|offer| offer == SUBPROTOCOL) {
            json!({"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": SUBPROTOCOL}})
        } else {
            json!({"statusCode": 200})
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
    headers: BTreeMap<String, String>,
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
    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.request_context.http.method
    }

    /// The path, still percent-encoded.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.raw_path
    }

    /// The query as it was sent.
    #[must_use]
    pub fn raw_query(&self) -> &str {
        &self.raw_query_string
    }

    /// A header, whose name is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The cookies, as one `Cookie` header has them.
    #[must_use]
    pub fn cookie(&self) -> Option<String> {
        (!self.cookies.is_empty()).then(|| self.cookies.join("; "))
    }

    /// The token: from the `Authorization` header or the `access_token` parameter; first found wins.
    #[must_use]
    pub fn bearer(&self) -> Option<Bearer> {
        bearer(&self.headers, &self.query_string_parameters)
    }

    /// The body as it was sent; none if it cannot be decoded. An absent one is empty.
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

    /// A query parameter.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query_string_parameters.get(name).map(String::as_str)
    }

    /// The body as text; none if it is not UTF-8. An absent one is empty.
    #[must_use]
    pub fn body(&self) -> Option<String> {
        String::from_utf8(self.bytes()?).ok()
    }
}

fn header<'a>(headers: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

/// The token in the `Authorization` header or in the `access_token` parameter.
fn bearer(headers: &BTreeMap<String, String>, query: &BTreeMap<String, String>) -> Option<Bearer> {
    let header = header(headers, "authorization").and_then(|value| {
        let (scheme, token) = value.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let parameter = query.get("access_token").map(String::as_str);
    header.or(parameter).and_then(Bearer::new)
}

fn header_offers(headers: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    header(headers, "sec-websocket-protocol")
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
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
    fn the_token_is_found_in_three_places_the_first_wins() {
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
    fn framing_is_asked_for_by_a_parameter() {
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
    fn the_identity_survives_the_way_through_the_gateway() {
        let opaque = Identity {
            subscriber: Subscriber {
                domain: Domain::parse("d").unwrap(),
                id: SubscriberId::parse("alice").unwrap(),
            },
            token: TokenHash::of("t"),
            token_expires: Timestamp::from_millis(1_700_000_000_000),
            jti: None,
            framing: Framing::Raw,
        };
        let signed = Identity {
            token: TokenHash::of_signed("h.p"),
            jti: Some(Jti::new("https://issuer.example", "a#b")),
            framing: Framing::Sockjs,
            ..opaque.clone()
        };
        for identity in [opaque, signed] {
            let mut context = allow(&event(&json!({}), &json!({})), &identity)["context"].clone();
            assert!(context.as_object().unwrap().values().all(Value::is_string));
            context["principalId"] = json!("alice");
            let message: WebSocketEvent = serde_json::from_value(json!({
                "requestContext": {"connectionId": "c=", "requestId": "r=", "authorizer": context},
                "body": "{}",
                "isBase64Encoded": false,
            }))
            .unwrap();
            assert_eq!(message.identity().unwrap(), identity);
            assert_eq!(message.text().unwrap(), "{}");
        }
    }

    #[test]
    fn the_subprotocol_is_echoed_and_the_token_is_not() {
        let connect = |offer: &str| -> Value {
            let event: WebSocketEvent = serde_json::from_value(json!({
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
