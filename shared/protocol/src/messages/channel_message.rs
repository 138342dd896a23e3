//! `channel-message`: sends a message to every member of a channel.
//!
//! `{"type":"channel-message","channel-id":"c-1","content":{"text":"Hello"},"message-id":"0d9b…"}`

use super::{Fields, Message, Refusal, attributes, content};
use crate::{
    ChannelId, ChannelKey, Json, LogId, MessageId, Subscriber,
    decision::{Commit, Context, Decision, Draft, Known, Needs},
    error::Rejection,
    rights,
};

/// `channel-message`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelMessage {
    channel_id: ChannelId,
    content: Json,
    message_id: Option<MessageId>,
    attributes: Option<Json>,
}

impl Message for ChannelMessage {
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let channel_id = fields.string("channel-id")?;
        let json = fields.any("content")?;
        let message_id = fields.optional_string("message-id")?;
        let object = fields.object("attributes")?;

        Ok(Self {
            channel_id: ChannelId::parse(&channel_id)?,
            content: content(json)?,
            message_id: message_id.as_deref().map(MessageId::parse).transpose()?,
            attributes: attributes(object)?,
        })
    }

    fn needs(&self, subscriber: &Subscriber) -> Needs {
        Needs {
            own_member: Some(self.channel(subscriber)),
            ..Needs::default()
        }
    }

    fn idempotency(&self, subscriber: &Subscriber) -> Option<(LogId, &MessageId)> {
        let log = self.channel(subscriber).log();
        self.message_id.as_ref().map(|id| (log, id))
    }

    fn decide(&self, context: &Context, known: &Known) -> Result<Decision, Rejection> {
        rights::member(known)?;
        Ok(Decision::commit(Commit::Append(Draft {
            log: self.channel(&context.subscriber).log(),
            message_id: self.message_id.clone(),
            content: self.content.clone(),
            attributes: self.attributes.clone(),
        })))
    }
}

impl ChannelMessage {
    fn channel(&self, subscriber: &Subscriber) -> ChannelKey {
        ChannelKey {
            domain: subscriber.domain.clone(),
            id: self.channel_id.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::{
        decision::tests::{channel_known, check, context, member},
        error::Code,
        messages::tests::{ignored, parsed, rejected},
    };

    const MESSAGE: &str = r#"{"type":"channel-message","channel-id":"c","content":null}"#;

    #[test]
    fn only_members_may_send() {
        let mut known = channel_known(&["anna"]);
        assert_eq!(
            check(MESSAGE, &context("bob"), &known).unwrap_err(),
            Rejection::no_channel()
        );
        known.own_member = Some(member("bob", 1));
        let decision = check(MESSAGE, &context("bob"), &known).unwrap();
        assert!(
            matches!(decision.commit, Commit::Append(draft) if draft.content.as_str() == "null")
        );
        known.own_member.as_mut().unwrap().left = Some(2);
        assert!(check(MESSAGE, &context("bob"), &known).is_err());
    }

    #[test]
    fn content_above_limit_is_rejected() {
        let message = |content: &str| {
            format!(r#"{{"type":"channel-message","channel-id":"c","content":{content}}}"#)
        };
        for content in ["null", "1e308", "[]", "\"x\"", "{\"a\":1,\"a\":2}"] {
            parsed(&message(content));
        }
        parsed(&message(&format!("\"{}\"", "x".repeat(16 * 1024 - 2))));
        assert_eq!(
            rejected(&message(&format!("\"{}\"", "x".repeat(16 * 1024 - 1)))),
            Code::TooLarge
        );
        assert_eq!(rejected(&message("[1e999]")), Code::InvalidValue);
        ignored(&[
            r#"{"type":"channel-message","channel-id":"c"}"#,
            r#"{"type":"channel-message","content":1}"#,
            r#"{"type":"channel-message","channel-id":"","content":1,"message-id":null}"#,
        ]);
    }
}
