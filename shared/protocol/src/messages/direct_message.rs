//! `direct-message`: sends a message to one subscriber, online or not.
//!
//! `{"type":"direct-message","subscriber-id":"bob","content":{"text":"Hello"},"message-id":"0d9b…"}`

use super::{Fields, Message, Refusal, attributes, content};
use crate::{
    Json, LogId, MessageId, Subscriber, SubscriberId,
    decision::{Commit, Context, Decision, Draft, Known},
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

impl Message for DirectMessage {
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
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

    fn idempotency(&self, subscriber: &Subscriber) -> Option<(LogId, &MessageId)> {
        let log = LogId::direct(subscriber, &self.subscriber_id);
        self.message_id.as_ref().map(|id| (log, id))
    }

    fn decide(&self, context: &Context, _: &Known) -> Result<Decision, Rejection> {
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

/// Returns the `invalid-value` rejection for a conversation of a subscriber with itself.
pub(crate) fn to_oneself() -> Rejection {
    Rejection::invalid("a conversation must be with another subscriber")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decision::{
            Known,
            tests::{check, context},
        },
        error::Code,
    };

    #[test]
    fn both_directions_share_one_log() {
        let log = |from: &str, to: &str| {
            let text =
                alloc::format!(r#"{{"type":"direct-message","subscriber-id":"{to}","content":1}}"#);
            match check(&text, &context(from), &Known::default())
                .unwrap()
                .commit
            {
                Commit::Append(draft) => draft.log,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(log("a", "b"), log("b", "a"));
    }

    #[test]
    fn message_to_oneself_is_rejected() {
        let text = r#"{"type":"direct-message","subscriber-id":"a","content":1}"#;
        assert_eq!(
            check(text, &context("a"), &Known::default())
                .unwrap_err()
                .code,
            Code::InvalidValue
        );
    }
}
