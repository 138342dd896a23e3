//! Events of a log as serialized on the wire, in a page and in a push.

use alloc::string::String;

use serde::Serialize;

use crate::{
    ChannelSubscriber, Destination, Event, EventBody, Json, LeaveReason, MessageId, SubscriberId,
    Timestamp, model::Presence,
};

/// A pushed event. Its `type` is the kind of the event, or for messages `channel-message` or `direct-message`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PushedEvent {
    #[serde(rename = "type")]
    message_type: &'static str,
    #[serde(flatten)]
    destination: Destination,
    #[serde(flatten)]
    event: WireEvent,
}

impl PushedEvent {
    /// Returns the push of the event to a participant that names the log `destination`.
    ///
    /// Returns `None` for a void entry, which is not pushed.
    #[must_use]
    pub fn new(destination: Destination, event: WireEvent) -> Option<Self> {
        let message_type = match (&event.body, &destination) {
            (WireBody::Message { .. }, Destination::Channel(_)) => "channel-message",
            (WireBody::Message { .. }, Destination::Subscriber(_)) => "direct-message",
            (WireBody::SubscriberJoined { .. }, _) => "subscriber-joined",
            (WireBody::SubscriberLeft { .. }, _) => "subscriber-left",
            (WireBody::AdministratorChanged { .. }, _) => "administrator-changed",
            (WireBody::ChannelUpdated { .. }, _) => "channel-updated",
            (WireBody::ChannelDeleted {}, _) => "channel-deleted",
            (WireBody::Void {}, _) => return None,
        };
        Some(Self {
            message_type,
            destination,
            event,
        })
    }
}

/// An event as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WireEvent {
    #[serde(flatten)]
    body: WireBody,
    pub sequence: u64,
    timestamp: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
enum WireBody {
    Message {
        message_id: MessageId,
        from: SubscriberId,
        content: Json,
        #[serde(skip_serializing_if = "Option::is_none")]
        attributes: Option<Json>,
    },
    SubscriberJoined {
        subscriber: ChannelSubscriber,
    },
    SubscriberLeft {
        subscriber_id: SubscriberId,
        reason: LeaveReason,
    },
    AdministratorChanged {
        subscriber_id: SubscriberId,
        administrator: bool,
    },
    ChannelUpdated {
        name: String,
        attributes: Json,
    },
    ChannelDeleted {},
    Void {},
}

impl WireEvent {
    /// Returns the event as clients see it. `presence` returns the presence of a subscriber that joined.
    #[must_use]
    pub fn new(event: &Event, presence: impl Fn(&SubscriberId) -> Presence) -> Self {
        let body = match event.body.clone() {
            EventBody::Message {
                message_id,
                from,
                content,
                attributes,
            } => WireBody::Message {
                message_id,
                from,
                content,
                attributes,
            },
            EventBody::SubscriberJoined {
                subscriber_id,
                administrator,
            } => WireBody::SubscriberJoined {
                subscriber: ChannelSubscriber {
                    presence: presence(&subscriber_id),
                    administrator,
                },
            },
            EventBody::SubscriberLeft {
                subscriber_id,
                reason,
            } => WireBody::SubscriberLeft {
                subscriber_id,
                reason,
            },
            EventBody::AdministratorChanged {
                subscriber_id,
                administrator,
            } => WireBody::AdministratorChanged {
                subscriber_id,
                administrator,
            },
            EventBody::ChannelUpdated { name, attributes } => {
                WireBody::ChannelUpdated { name, attributes }
            }
            EventBody::ChannelDeleted => WireBody::ChannelDeleted {},
            EventBody::Void => WireBody::Void {},
        };
        Self {
            body,
            sequence: event.sequence,
            timestamp: event.timestamp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChannelId, ServerMessage};

    fn id(text: &str) -> SubscriberId {
        SubscriberId::parse(text).unwrap()
    }

    #[test]
    fn pushed_content_is_byte_for_byte() {
        let event = WireEvent::new(
            &Event {
                sequence: 7,
                timestamp: Timestamp::from_millis(0),
                body: EventBody::Message {
                    message_id: MessageId::parse("m").unwrap(),
                    from: id("a"),
                    content: Json::parse(r#"{ "n":1e400, "n":2 }"#).unwrap(),
                    attributes: None,
                },
            },
            |id| Presence::of(id, None),
        );
        let peer = Destination::Subscriber(id("a"));
        let pushed = PushedEvent::new(peer, event.clone()).unwrap();
        assert_eq!(
            ServerMessage::Event(pushed).encode(None),
            r#"{"type":"direct-message","subscriber-id":"a","kind":"message","message-id":"m","from":"a","content":{ "n":1e400, "n":2 },"sequence":7,"timestamp":"1970-01-01T00:00:00.000Z"}"#
        );
        let channel = Destination::Channel(ChannelId::parse("c").unwrap());
        let pushed = PushedEvent::new(channel, event).unwrap();
        assert!(
            ServerMessage::Event(pushed)
                .encode(None)
                .starts_with(r#"{"type":"channel-message","channel-id":"c","kind":"message""#)
        );
    }

    #[test]
    fn joined_event_contains_presence() {
        let joined = WireEvent::new(
            &Event {
                sequence: 1,
                timestamp: Timestamp::from_millis(0),
                body: EventBody::SubscriberJoined {
                    subscriber_id: id("a"),
                    administrator: true,
                },
            },
            |id| Presence::of(id, None),
        );
        assert_eq!(
            serde_json::to_string(&joined).unwrap(),
            r#"{"kind":"subscriber-joined","subscriber":{"id":"a","status":"","availability":"invisible","attributes":{},"administrator":true},"sequence":1,"timestamp":"1970-01-01T00:00:00.000Z"}"#
        );
    }
}
