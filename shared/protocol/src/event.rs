//! Entries of a log.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::{Json, MessageId, SubscriberId, Timestamp};

/// One entry of a destination's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The position in the log: 1, 2, 3 …
    pub sequence: u64,
    /// The time when the writer allocated the slot.
    pub timestamp: Timestamp,
    pub body: EventBody,
}

impl Event {
    /// Returns the message id and the sender if the event is a message.
    #[must_use]
    pub const fn message(&self) -> Option<(&MessageId, &SubscriberId)> {
        match &self.body {
            EventBody::Message {
                message_id, from, ..
            } => Some((message_id, from)),
            _ => None,
        }
    }
}

/// The kind of an event, and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventBody {
    /// A message to the channel or the peer.
    Message {
        message_id: MessageId,
        from: SubscriberId,
        /// Any JSON, byte for byte as it was sent.
        content: Json,
        /// Defined by the client, byte for byte as it was sent.
        attributes: Option<Json>,
    },
    /// A subscriber became a member.
    SubscriberJoined {
        subscriber_id: SubscriberId,
        administrator: bool,
    },
    /// A subscriber is no longer a member.
    SubscriberLeft {
        subscriber_id: SubscriberId,
        reason: LeaveReason,
    },
    /// A member got or lost the right to administer the channel.
    AdministratorChanged {
        subscriber_id: SubscriberId,
        administrator: bool,
    },
    /// The channel's name or attributes changed. Both new values are given.
    ChannelUpdated { name: String, attributes: Json },
    /// The channel was deleted. This is the last event of its log.
    ChannelDeleted,
    /// No event: the writer that had allocated this slot died before it wrote.
    Void,
}

/// Why a membership ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaveReason {
    /// The member left.
    Left,
    /// An administrator or a back end removed the member.
    Removed,
}
