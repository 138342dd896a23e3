//! `hello`: returns the caller's identity, the expiry times and the limits.
//!
//! `{"type":"hello","id":"1"}`

use super::{Fields, Message, Refusal};
use crate::{
    ServerMessage, Subscriber,
    decision::{Context, Decision, Known, Needs},
    error::Rejection,
    limits,
};

/// `hello`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello;

impl Message for Hello {
    fn parse(_: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn needs(&self, _: &Subscriber) -> Needs {
        Needs {
            response: true,
            ..Needs::default()
        }
    }

    fn decide(&self, context: &Context, _: &Known) -> Result<Decision, Rejection> {
        Ok(Decision::respond(ServerMessage::Welcome {
            subscriber_id: context.subscriber.id.clone(),
            domain: context.subscriber.domain.clone(),
            server_time: context.now,
            token_expires_at: context.token_expires_at,
            connection_expires_at: context.since.plus_seconds(limits::CONNECTION_SECONDS),
            limits: limits::LIMITS,
        }))
    }
}

#[cfg(test)]
mod tests {
    use crate::decision::tests::{context, respond};

    #[test]
    fn welcome_has_identity_expiry_and_limits() {
        let welcome = respond(
            r#"{"type":"hello"}"#,
            &context("alice"),
            &Default::default(),
        );
        assert_eq!(welcome["type"], "welcome");
        assert_eq!(welcome["subscriber-id"], "alice");
        assert_eq!(welcome["domain"], "d");
        assert_eq!(welcome["server-time"], "1970-01-01T00:00:01.000Z");
        assert_eq!(welcome["connection-expires-at"], "1970-01-01T02:00:00.000Z");
        assert_eq!(welcome["limits"]["content-bytes"], 16_384);
        assert!(welcome.get("token-expires-at").is_none());
    }
}
