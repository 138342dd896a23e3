//! The answers of the authorizer, and the errors with which a function fails.

use lambda_runtime::Diagnostic;
use serde_json::{Value, json};
use service::{Identity, ports::Fault};

use crate::events::AuthorizerEvent;

const UNAUTHORIZED: &str = "Unauthorized";

/// Returns the authorizer response that allows the connection. API Gateway adds its context to every later event of the
/// connection.
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
                "Resource": event.method_arn(),
            }],
        },
        "context": context,
    })
}

/// Returns the only error that API Gateway turns into a 401. Its text is the contract
/// (docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-lambda-auth.html, 2026-08).
#[must_use]
pub fn unauthorized() -> Diagnostic {
    Diagnostic {
        error_type: UNAUTHORIZED.to_owned(),
        error_message: UNAUTHORIZED.to_owned(),
    }
}

/// Returns true if the error is [`unauthorized`]'s.
pub(crate) fn is_refusal(error: &Diagnostic) -> bool {
    error.error_type == UNAUTHORIZED
}

/// Returns the error that reports a fault to Lambda. The invocation fails, and Lambda retries it where that is configured.
#[must_use]
pub fn failed(fault: Fault) -> Diagnostic {
    Diagnostic {
        error_type: "Fault".to_owned(),
        error_message: fault.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Domain, Subscriber, SubscriberId, Timestamp};
    use service::ports::{Framing, Jti, TokenHash};

    use super::*;
    use crate::events::WebSocketEvent;

    #[test]
    fn identity_survives_authorizer_context() {
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
        let authorizer: AuthorizerEvent = serde_json::from_value(json!({
            "methodArn": "arn:aws:execute-api:us-east-1:1:a/prod/$connect",
        }))
        .unwrap();
        for identity in [opaque, signed] {
            let mut context = allow(&authorizer, &identity)["context"].clone();
            assert!(context.as_object().unwrap().values().all(Value::is_string));
            context["principalId"] = json!("alice");
            let event: WebSocketEvent = serde_json::from_value(json!({
                "requestContext": {"connectionId": "c=", "requestId": "r=", "authorizer": context},
                "body": "{}",
                "isBase64Encoded": false,
            }))
            .unwrap();
            let WebSocketEvent::Client(message) = event else {
                panic!("the connection is no doorbell");
            };
            assert_eq!(message.identity().unwrap(), identity);
            assert_eq!(message.text().unwrap(), "{}");
        }
    }

    #[test]
    fn doorbell_survives_authorizer_context() {
        let authorizer: AuthorizerEvent = serde_json::from_value(json!({
            "methodArn": "arn:aws:execute-api:us-east-1:1:a/prod/$connect",
            "queryStringParameters": {"doorbell": "invalid"},
        }))
        .unwrap();
        let identity = Identity {
            subscriber: Subscriber {
                domain: Domain::parse("d").unwrap(),
                id: SubscriberId::parse("alice").unwrap(),
            },
            token: TokenHash::of("t"),
            token_expires: Timestamp::from_millis(1_700_000_000_000),
            jti: None,
            framing: Framing::Raw,
        };
        let context = allow(&authorizer, &identity)["context"].clone();
        let event: WebSocketEvent = serde_json::from_value(json!({
            "requestContext": {"connectionId": "c=", "requestId": "r=", "authorizer": context},
        }))
        .unwrap();
        assert!(matches!(event, WebSocketEvent::Doorbell { of: None, .. }));
    }
}
