//! `direct-message`: a message to one subscriber, online or not.
//!
//! `{"type":"direct-message","subscriber-id":"bob","content":{"text":"Hello"},"message-id":"0d9b…"}`

use super::{Fields, Refusal, attributes, content};
use crate::{
    Json, LogId, MessageId, Subscriber, SubscriberId,
    decide::{Commit, Context, Decision, Draft, Needs},
    error::Rejection,
};

/// `direct-message`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectMessage {
    subscriber_id: SubscriberId,
    content: Json,
    message_id: Option<MessageId>,
    attributes: Option<Json>,
}

impl DirectMessage {
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let subscriber_id = fields.string("subscriber-id")?;
        let json = fields.any("content")?;
        let message_id = fields.optional_string("message-id")?;
        let object = fields.object("attributes")?;

        Ok(Self {
            subscriber_id: SubscriberId::parse(&subscriber_id)?,
            content: content(json)?,
            message_id: message_id.as_deref().map(MessageId::parse).transpose()?,
            attributes: attributes(object)?,
        })
    }

    pub(crate) fn idempotency(&self, subscriber: &Subscriber) -> Option<(LogId, &MessageId)> {
        let log = LogId::direct(subscriber, &self.subscriber_id);
        self.message_id.as_ref().map(|id| (log, id))
    }

    pub(crate) fn needs(&self) -> Needs {
        Needs::default()
    }

    pub(crate) fn decide(&self, context: &Context) -> Result<Decision, Rejection> {
        if self.subscriber_id == context.subscriber.id {
            return Err(to_oneself());
        }
        Ok(Decision::commit(Commit::Append(Draft {
            log: LogId::direct(&context.subscriber, &self.subscriber_id),
            message_id: self.message_id.clone(),
            content: self.content.clone(),
            attributes: self.attributes.clone(),
        })))
    }
}

/// `invalid-value` for a conversation of somebody with itself.
pub(crate) fn to_oneself() -> Rejection {
    Rejection::invalid("a conversation is with somebody else")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decide::{Known, tests::{check, context}},
        error::Code,
    };

    #[test]
    fn both_directions_go_to_one_log() {
        let log = |from: &str, to: &str| {
            let text = alloc::format!(r#"{{"type":"direct-message","subscriber-id":"{to}","content":1}}"#);
            match check(&text, &context(from), &Known::default()).unwrap().commit {
                Commit::Append(draft) => draft.log,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(log("a", "b"), log("b", "a"));
    }

    #[test]
    fn nobody_writes_to_oneself() {
        let text = r#"{"type":"direct-message","subscriber-id":"a","content":1}"#;
        assert_eq!(
            check(text, &context("a"), &Known::default()).unwrap_err().code,
            Code::InvalidValue
        );
    }
}
