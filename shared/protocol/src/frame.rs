//! What the service says to clients, as it stands on the wire.

use alloc::{string::String, vec::Vec};

use serde::Serialize;

use crate::{
    ChannelId, ChannelSubscriber, Conversation, DeliveryStatus, Destination, Domain, Event,
    EventBody, Json, LeaveReason, Membership, MessageId, Rejection, SubscriberId, Timestamp,
    limits, limits::Limits, model::Presence,
};

/// A server message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum ServerMessage {
    /// The response to `hello`.
    Welcome {
        /// Who the client is.
        subscriber_id: SubscriberId,
        /// In which domain.
        domain: Domain,
        /// Now.
        server_time: Timestamp,
        /// When the token ends.
        #[serde(skip_serializing_if = "Option::is_none")]
        token_expires_at: Option<Timestamp>,
        /// When the connection ends.
        connection_expires_at: Timestamp,
        /// The table of limits.
        limits: Limits,
    },
    /// Follows each handled client message.
    Ack {
        /// The client message's `id`.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// Whether it was honoured.
        status: bool,
        /// Why not.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<Rejection>,
    },
    /// The response to `create-channel`; unasked to whom is invited.
    Invitation {
        /// The channel.
        channel_id: ChannelId,
        /// Its name.
        name: String,
        /// What lets others join, to its creator.
        #[serde(skip_serializing_if = "Option::is_none")]
        invite_token: Option<String>,
        /// Whether the receiver administers it.
        administrator: bool,
        /// The channel's attributes.
        attributes: Json,
        /// Who invites.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<SubscriberId>,
    },
    /// The response to `join-channel`.
    ChannelJoined {
        /// The membership.
        membership: Membership,
        /// The first page of members.
        subscribers: Vec<ChannelSubscriber>,
        /// Where the next page begins.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<String>,
        /// The position from which the client counts on.
        sequence: u64,
    },
    /// The response to `leave-channel`.
    ChannelLeft {
        /// The channel.
        channel_id: ChannelId,
    },
    /// The response to `list-channels`.
    Channels {
        /// A page of memberships.
        channels: Vec<Membership>,
        /// Where the next page begins.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
    /// The response to `list-subscribers`.
    Subscribers {
        /// A page of members.
        subscribers: Vec<ChannelSubscriber>,
        /// Where the next page begins.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
    /// The response to `list-conversations`.
    Conversations {
        /// A page of conversations.
        conversations: Vec<Conversation>,
        /// Where the next page begins.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
    /// How far a message got.
    Delivery {
        /// The message.
        message_id: MessageId,
        /// How far.
        status: DeliveryStatus,
        /// Where.
        #[serde(flatten)]
        destination: Destination,
        /// Its place.
        sequence: u64,
        /// When.
        timestamp: Timestamp,
        /// True if the message was there before.
        #[serde(skip_serializing_if = "core::ops::Not::not")]
        duplicate: bool,
    },
    /// The response to `get-history`.
    History {
        /// Whose log.
        #[serde(flatten)]
        destination: Destination,
        /// Ascending, with void entries.
        events: Vec<WireEvent>,
        /// The first sequence that is retained.
        first_sequence: u64,
        /// The end of the contiguous stored log.
        last_sequence: u64,
        /// Whether there is more in the direction that was asked for.
        more: bool,
    },
    /// The response to `resume`.
    Resumed {
        /// One per position, in order, then those that are new to the client.
        destinations: Vec<ResumedDestination>,
    },
    /// Somebody's presence changed.
    Presence {
        /// Whose, and to what.
        subscriber: Presence,
        /// Grows; a lower one is to be dropped.
        version: u64,
    },
    /// Somebody types, or stopped.
    Typing {
        /// Where.
        #[serde(flatten)]
        destination: TypingDestination,
        /// Whether it types.
        active: bool,
    },
    /// The response to `authorize`.
    Authorized {
        /// When the new token ends.
        #[serde(skip_serializing_if = "Option::is_none")]
        token_expires_at: Option<Timestamp>,
    },
    /// About a minute before the token ends.
    TokenExpiring {
        /// When it ends.
        token_expires_at: Timestamp,
    },
    /// Something could not be pushed: fetch it.
    Resync {
        /// Of which log.
        #[serde(flatten)]
        destination: Destination,
        /// Its end.
        last_sequence: u64,
    },
    /// The last message before the service drops the connection.
    Disconnect {
        /// Why.
        code: DisconnectCode,
        /// Why, as a sentence.
        reason: &'static str,
        /// Whether a new connection with the same token makes sense.
        reconnect: bool,
    },
    /// The response to the actor and the event to the others: what an event of a log is pushed as.
    #[serde(untagged)]
    Event(PushedEvent),
}

/// One destination of `resumed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ResumedDestination {
    /// Which.
    #[serde(flatten)]
    pub destination: Destination,
    /// What follows the position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<WireEvent>>,
    /// The end of its contiguous stored log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sequence: Option<u64>,
    /// Whether that is all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
    /// Why there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Rejection>,
}

impl ResumedDestination {
    /// The destination alone.
    pub(crate) const fn of(destination: Destination) -> Self {
        Self {
            destination,
            events: None,
            last_sequence: None,
            complete: None,
            error: None,
        }
    }
}

/// Where somebody types: in a channel both the channel and who, in a conversation the peer, who is who types.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TypingDestination {
    /// The channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<ChannelId>,
    /// Who types.
    pub subscriber_id: SubscriberId,
}

/// Why the service drops a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DisconnectCode {
    /// Its token was invalidated.
    TokenInvalidated,
    /// Its token expired.
    TokenExpired,
    /// A newer connection took its place.
    ConnectionLimit,
    /// It has lived its two hours.
    ConnectionExpired,
    /// The service or the back end ends it.
    Shutdown,
}

impl ServerMessage {
    /// The `disconnect` message for `code`.
    #[must_use]
    pub const fn disconnect(code: DisconnectCode) -> Self {
        let (reason, reconnect) = match code {
            DisconnectCode::TokenInvalidated => ("the token was invalidated", false),
            DisconnectCode::TokenExpired => ("the token has expired", false),
            DisconnectCode::ConnectionLimit => ("a newer connection took its place", false),
            DisconnectCode::ConnectionExpired => ("the connection has reached its age", true),
            DisconnectCode::Shutdown => ("the service ends the connection", true),
        };
        Self::Disconnect {
            code,
            reason,
            reconnect,
        }
    }

    /// The frame: one JSON object, with `reply-to` if it responds to a client message that had an `id`.
    #[must_use]
    pub fn encode(&self, reply_to: Option<&str>) -> String {
        let frame = Frame {
            message: self,
            reply_to,
        };
        // Every key is a string and every value serialises: there is nothing that could fail.
        serde_json::to_string(&frame).unwrap_or_default()
    }
}

/// A server message with what it replies to.
#[derive(Serialize)]
pub struct Frame<'a> {
    #[serde(flatten)]
    message: &'a ServerMessage,
    #[serde(rename = "reply-to", skip_serializing_if = "Option::is_none")]
    reply_to: Option<&'a str>,
}

/// An event as it is pushed: its `type` is the kind, or tells a channel's messages from a conversation's.
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
    /// The event as who names its log `destination` gets it. A void entry is no event to push: none.
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
    /// Its place.
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
    /// The event as clients see it; `presence` tells how others see who joined.
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

/// An upper bound of the bytes of `text` once it stands in a SockJS frame, where every quote and control is escaped and
/// every character outside the Basic Multilingual Plane becomes two escapes.
#[must_use]
pub fn framed_bytes(text: &str) -> usize {
    text.chars()
        .map(|character| match character {
            '"' | '\\' => 2,
            '\0'..='\x1f' => 6,
            _ => match character.len_utf8() {
                3 => 6,
                4 => 12,
                bytes => bytes,
            },
        })
        .sum()
}

/// What is left of one server message for items.
pub(crate) struct Budget {
    left: usize,
    empty: bool,
}

impl Budget {
    /// The budget of a message that replies to `reply_to`.
    pub(crate) fn new(reply_to: Option<&str>) -> Self {
        // What a page carries besides its items and `reply-to`: ids, names, attributes of a membership, the SockJS frame.
        // Attributes at most triple: two escapes for a character outside the Basic Multilingual Plane.
        const REST: usize = 4 * 1024 + 3 * limits::ATTRIBUTES_BYTES;
        let escaped = serde_json::to_string(&reply_to).unwrap_or_default();
        Self {
            left: limits::SERVER_MESSAGE_BYTES.saturating_sub(REST + framed_bytes(&escaped)),
            empty: true,
        }
    }

    /// Takes the room of `item`, which stands in the message in any case.
    pub(crate) fn reserve(&mut self, item: &impl Serialize) {
        self.left = self.left.saturating_sub(item_bytes(item));
        self.empty = false;
    }

    /// Whether `item` still fits; the first one always does. Once one did not, none does.
    pub(crate) fn takes(&mut self, item: &impl Serialize) -> bool {
        let bytes = item_bytes(item);
        let fits = bytes <= self.left || self.empty;
        self.empty = false;
        self.left = if fits {
            self.left.saturating_sub(bytes)
        } else {
            0
        };
        fits
    }
}

/// What an item of a list takes, with its comma.
fn item_bytes(item: &impl Serialize) -> usize {
    serde_json::to_string(item).map_or(0, |text| framed_bytes(&text) + 1)
}

/// What the items of a list take in a server message.
#[must_use]
pub fn items_bytes<'a, T: Serialize + 'a>(items: impl Iterator<Item = &'a T>) -> usize {
    items.map(item_bytes).sum()
}

/// How many of `items`, in this order, fit one server message that replies to `reply_to`: at least one.
#[must_use]
pub fn fitting<'a, T: Serialize + 'a>(
    reply_to: Option<&str>,
    items: impl Iterator<Item = &'a T>,
) -> usize {
    let mut budget = Budget::new(reply_to);
    items.take_while(|item| budget.takes(item)).count()
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn id(text: &str) -> SubscriberId {
        SubscriberId::parse(text).unwrap()
    }

    #[test]
    fn a_pushed_message_has_its_destination_and_its_content_byte_for_byte() {
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
    fn reply_to_is_there_only_for_a_reply() {
        let ack = ServerMessage::Ack {
            id: Some(String::from("\u{0}é")),
            status: true,
            error: None,
        };
        assert_eq!(
            ack.encode(Some("\u{0}é")),
            "{\"type\":\"ack\",\"id\":\"\\u0000é\",\"status\":true,\"reply-to\":\"\\u0000é\"}"
        );
        let ack = ServerMessage::Ack {
            id: None,
            status: false,
            error: Some(Rejection::no_channel()),
        };
        assert!(!ack.encode(None).contains("reply-to"));
    }

    #[test]
    fn a_page_ends_before_the_limit_but_has_one_item_at_least() {
        let item = "x".repeat(limits::CONTENT_BYTES);
        assert_eq!(fitting(None, vec![&item; 100].into_iter()), 6);
        let escaped = "\u{0}".repeat(limits::CONTENT_BYTES);
        assert_eq!(fitting(None, vec![&escaped; 100].into_iter()), 1);
    }

    #[test]
    fn who_joined_is_shown_with_its_presence() {
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
