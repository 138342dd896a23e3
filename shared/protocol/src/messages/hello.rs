//! `hello`: who am I, until when, within which limits.
//!
//! `{"type":"hello","id":"1"}`

use super::{Fields, Refusal};
use crate::{
    ServerMessage,
    decide::{Context, Decision},
    limits,
};

/// `hello`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello;

impl Hello {
    #[expect(clippy::unnecessary_wraps, reason = "the parsers have one signature")]
    pub(super) fn parse(_: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self)
    }

    pub(crate) fn decide(&self, context: &Context) -> Decision {
        Decision::respond(ServerMessage::Welcome {
            subscriber_id: context.subscriber.id.clone(),
            domain: context.subscriber.domain.clone(),
            server_time: context.now,
            token_expires_at: context.token_expires_at,
            connection_expires_at: context.since.plus_seconds(limits::CONNECTION_SECONDS),
            limits: limits::LIMITS,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::decide::tests::{context, respond};

    #[test]
    fn welcome_tells_who_and_until_when() {
        let welcome = respond(r#"{"type":"hello"}"#, &context("alice"), &Default::default());
        assert_eq!(welcome["type"], "welcome");
        assert_eq!(welcome["subscriber-id"], "alice");
        assert_eq!(welcome["domain"], "d");
        assert_eq!(welcome["server-time"], "1970-01-01T00:00:01.000Z");
        assert_eq!(welcome["connection-expires-at"], "1970-01-01T02:00:00.000Z");
        assert_eq!(welcome["limits"]["content-bytes"], 16_384);
        assert!(welcome.get("token-expires-at").is_none());
    }
}
