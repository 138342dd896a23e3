//! The messages that the service sends to clients, as serialized on the wire.

use alloc::{string::String, vec::Vec};

use serde::Serialize;

use crate::{
    ChannelId, ChannelSubscriber, Conversation, DeliveryStatus, Destination, Domain, Json,
    Membership, MessageId, Rejection, SubscriberId, Timestamp,
    limits::Limits,
    model::Presence,
    wire_event::{PushedEvent, WireEvent},
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
        subscriber_id: SubscriberId,
        domain: Domain,
        server_time: Timestamp,
        /// When the token expires, if known.
        #[serde(skip_serializing_if = "Option::is_none")]
        token_expires_at: Option<Timestamp>,
        connection_expires_at: Timestamp,
        limits: Limits,
    },
    /// Follows each handled client message.
    Ack {
        /// The `id` of the client message.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// True if the message succeeded.
        status: bool,
        /// The rejection if it did not succeed.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<Rejection>,
    },
    /// The response to `create-channel`. Also sent unsolicited to an invited subscriber.
    Invitation {
        channel_id: ChannelId,
        name: String,
        /// Sent to the creator only. Others can join with it.
        #[serde(skip_serializing_if = "Option::is_none")]
        invite_token: Option<String>,
        /// True if the receiver administers the channel.
        administrator: bool,
        /// The channel's attributes.
        attributes: Json,
        /// The administrator that invites.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<SubscriberId>,
    },
    /// The response to `join-channel`.
    ChannelJoined {
        membership: Membership,
        /// The first page of members.
        subscribers: Vec<ChannelSubscriber>,
        /// The cursor of the next page, if there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<String>,
        /// The client's position in the log. Events with the following sequences are pushed.
        sequence: u64,
    },
    /// The response to `leave-channel`.
    ChannelLeft { channel_id: ChannelId },
    /// The response to `list-channels`.
    Channels {
        channels: Vec<Membership>,
        /// The cursor of the next page, if there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
    /// The response to `list-subscribers`.
    Subscribers {
        subscribers: Vec<ChannelSubscriber>,
        /// The cursor of the next page, if there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
    /// The response to `list-conversations`.
    Conversations {
        conversations: Vec<Conversation>,
        /// The cursor of the next page, if there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
    /// The delivery status of a message changed.
    Delivery {
        message_id: MessageId,
        status: DeliveryStatus,
        #[serde(flatten)]
        destination: Destination,
        sequence: u64,
        timestamp: Timestamp,
        /// True if the message had been stored before.
        #[serde(skip_serializing_if = "core::ops::Not::not")]
        duplicate: bool,
    },
    /// The response to `get-history`.
    History {
        #[serde(flatten)]
        destination: Destination,
        /// In ascending order, with void entries.
        events: Vec<WireEvent>,
        /// The first retained sequence.
        first_sequence: u64,
        /// The end of the contiguous stored log.
        last_sequence: u64,
        /// True if the log has more events in the requested direction.
        more: bool,
    },
    /// The response to `resume`.
    Resumed {
        /// One per position, in order, then the destinations that are new to the client.
        destinations: Vec<ResumedDestination>,
    },
    /// The presence of a subscriber changed.
    Presence {
        subscriber: Presence,
        /// Increases. The client drops a message with a lower version.
        version: u64,
    },
    /// A subscriber started or stopped typing.
    Typing {
        #[serde(flatten)]
        destination: TypingDestination,
        /// True if it started, false if it stopped.
        active: bool,
    },
    /// The response to `authorize`.
    Authorized {
        /// When the new token expires, if known.
        #[serde(skip_serializing_if = "Option::is_none")]
        token_expires_at: Option<Timestamp>,
    },
    /// Sent about a minute before the token expires.
    TokenExpiring { token_expires_at: Timestamp },
    /// Events of this log were not pushed. The client fetches them.
    Resync {
        #[serde(flatten)]
        destination: Destination,
        /// The end of the log.
        last_sequence: u64,
    },
    /// The last message before the service closes the connection.
    Disconnect {
        code: DisconnectCode,
        /// The reason as a sentence.
        reason: &'static str,
        /// True if the client may reconnect with the same token.
        reconnect: bool,
    },
    /// An event of a log: the response to its sender, and the push to all others.
    #[serde(untagged)]
    Event(PushedEvent),
}

/// One destination of `resumed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ResumedDestination {
    #[serde(flatten)]
    pub destination: Destination,
    /// The events after the position. `None` for a destination that is new to the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<WireEvent>>,
    /// The end of the contiguous stored log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sequence: Option<u64>,
    /// True if `events` are all events after the position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
    /// Why the destination cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Rejection>,
}

impl ResumedDestination {
    /// Returns the destination without any other field.
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

/// Where a subscriber types: in a channel, or in the conversation with the receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TypingDestination {
    /// `None` in a conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<ChannelId>,
    /// The subscriber that types. In a conversation it is the peer.
    pub subscriber_id: SubscriberId,
}

/// Why the service closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DisconnectCode {
    TokenInvalidated,
    TokenExpired,
    /// A newer connection replaced this one.
    ConnectionLimit,
    /// The connection has reached its maximum age of two hours.
    ConnectionExpired,
    /// The service or the back end closes the connection.
    Shutdown,
}

impl ServerMessage {
    /// Returns the `disconnect` message for `code`.
    #[must_use]
    pub const fn disconnect(code: DisconnectCode) -> Self {
        let (reason, reconnect) = match code {
            DisconnectCode::TokenInvalidated => ("the token was invalidated", false),
            DisconnectCode::TokenExpired => ("the token has expired", false),
            DisconnectCode::ConnectionLimit => ("a newer connection replaced this one", false),
            DisconnectCode::ConnectionExpired => {
                ("the connection has reached its maximum age", true)
            }
            DisconnectCode::Shutdown => ("the service closes the connection", true),
        };
        Self::Disconnect {
            code,
            reason,
            reconnect,
        }
    }

    /// Returns the message as one JSON object, with `reply-to` if it responds to a client message that had an `id`.
    #[must_use]
    pub fn encode(&self, reply_to: Option<&str>) -> String {
        let reply = Reply {
            message: self,
            reply_to,
        };
        // Every key is a string and every value can be serialized, so this cannot fail.
        serde_json::to_string(&reply).unwrap_or_default()
    }
}

/// A server message with the `id` that it replies to.
#[derive(Serialize)]
struct Reply<'a> {
    #[serde(flatten)]
    message: &'a ServerMessage,
    #[serde(rename = "reply-to", skip_serializing_if = "Option::is_none")]
    reply_to: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_to_appears_in_replies_only() {
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
}
