//! The models on the wire: members of channels, memberships, conversations, availability.

use alloc::{borrow::ToOwned, string::String};

use serde::{Deserialize, Serialize};

use crate::{ChannelId, Json, SubscriberId, Timestamp, error::Rejection, text};

/// How available a subscriber is to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Availability {
    /// Offline, or connected without an announcement. Others see no difference.
    #[default]
    Invisible,
    Available,
    /// Do not disturb.
    Dnd,
    Busy,
}

impl Availability {
    /// Parses the word on the wire.
    ///
    /// # Errors
    /// `invalid-value` if it is not one of the four words.
    pub fn parse(text: &str) -> Result<Self, Rejection> {
        match text {
            "invisible" => Ok(Self::Invisible),
            "available" => Ok(Self::Available),
            "dnd" => Ok(Self::Dnd),
            "busy" => Ok(Self::Busy),
            _ => Err(Rejection::invalid(
                "`availability` must be `invisible`, `available`, `dnd` or `busy`",
            )),
        }
    }
}

/// The announcement of a connection about its subscriber.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    pub availability: Availability,
    /// Free text.
    pub status: String,
    /// Defined by the client and passed on byte for byte.
    pub attributes: Json,
    /// The time of the announcement. The latest one among the subscriber's live connections counts.
    pub at: Timestamp,
}

/// The presence of a subscriber as others see it. Offline and invisible are the same value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Presence {
    pub id: SubscriberId,
    pub status: String,
    pub availability: Availability,
    pub attributes: Json,
}

impl Presence {
    /// Returns the presence of `id` while `announcement` is in force.
    #[must_use]
    pub fn of(id: &SubscriberId, announcement: Option<&Announcement>) -> Self {
        let visible = announcement.filter(|it| it.availability != Availability::Invisible);
        Self {
            id: id.clone(),
            status: visible.map_or_else(String::new, |it| it.status.clone()),
            availability: visible.map_or(Availability::Invisible, |it| it.availability),
            attributes: visible.map_or_else(Json::empty_object, |it| it.attributes.clone()),
        }
    }
}

/// A member of a channel as the other members see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChannelSubscriber {
    #[serde(flatten)]
    pub presence: Presence,
    pub administrator: bool,
}

/// A channel as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Membership {
    pub channel_id: ChannelId,
    pub name: String,
    /// True if this member administers the channel.
    pub administrator: bool,
    /// The channel's attributes.
    pub attributes: Json,
    /// The end of the contiguous stored log.
    pub last_sequence: u64,
    /// The last sequence that this member has read.
    pub read_sequence: u64,
    /// The number of events after `read_sequence`.
    pub unread: u64,
}

/// A direct conversation as one of its two participants sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Conversation {
    /// The peer.
    pub subscriber_id: SubscriberId,
    /// The end of the contiguous stored log.
    pub last_sequence: u64,
    /// The last sequence that this subscriber has read.
    pub read_sequence: u64,
    /// The number of messages after `read_sequence`.
    pub unread: u64,
    /// The time when the slot of the last message was allocated.
    pub timestamp: Timestamp,
}

/// The delivery status of a message. Each status implies the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryStatus {
    /// Durable in the log.
    Stored,
    /// Posted to a connection of the recipient.
    Received,
    /// Shown to the recipient.
    Displayed,
    /// Read by the recipient.
    Read,
}

/// The read cursors of a subscriber in a log. Each cursor covers all events up to its sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadCursors {
    pub received: u64,
    pub displayed: u64,
    pub read: u64,
}

/// Checks the name of a channel.
///
/// # Errors
/// `invalid-value` if it is empty or longer than the limit, has no visible character, or could look like another name.
pub fn parse_name(name: &str) -> Result<String, Rejection> {
    let characters = name.chars().count();
    if !(1..=crate::limits::NAME_CHARACTERS).contains(&characters) {
        return Err(Rejection::invalid("`name` must be 1 to 128 characters"));
    }
    if text::is_blank(name) || text::has_control(name) {
        return Err(Rejection::invalid(
            "`name` must have a visible character, and no control or directional formatting character",
        ));
    }
    Ok(name.to_owned())
}
