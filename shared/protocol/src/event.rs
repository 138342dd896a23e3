//! Entries of a log.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::{Json, MessageId, SubscriberId, Timestamp};

/// One entry of a destination's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place: 1, 2, 3 … in commit order.
    pub sequence: u64,
    /// When its writer allocated the place.
    pub timestamp: Timestamp,
    /// What happened.
    pub body: EventBody,
}

impl Event {
    /// The id and the sender, if it is a message.
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

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventBody {
    /// A message to the channel or the peer.
    Message {
        /// The sender's id of it.
        message_id: MessageId,
        /// The sender.
        from: SubscriberId,
        /// Any JSON, as it was sent.
        content: Json,
        /// The client's own, as it was sent.
        attributes: Option<Json>,
    },
    /// Somebody became a member.
    SubscriberJoined {
        /// Who.
        subscriber_id: SubscriberId,
        /// With which right.
        administrator: bool,
    },
    /// Somebody is a member no more.
    SubscriberLeft {
        /// Who.
        subscriber_id: SubscriberId,
        /// Why.
        reason: LeaveReason,
    },
    /// A member's right changed.
    AdministratorChanged {
        /// Whose.
        subscriber_id: SubscriberId,
        /// To what.
        administrator: bool,
    },
    /// The channel's name or attributes changed.
    ChannelUpdated {
        /// The name now.
        name: String,
        /// The attributes now.
        attributes: Json,
    },
    /// The channel is no more; the last event of its log.
    ChannelDeleted,
    /// Nothing: the writer that had this place died before it wrote.
    Void,
}

/// Why a member is one no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaveReason {
    /// It left.
    Left,
    /// An administrator removed it.
    Removed,
}
