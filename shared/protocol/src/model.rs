//! The models of the wire: subscribers of channels, memberships, conversations, availability.

use alloc::{borrow::ToOwned, string::String};

use serde::{Deserialize, Serialize};

use crate::{ChannelId, Json, SubscriberId, Timestamp, error::Rejection};

/// Whether a subscriber wants to be spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Availability {
    /// Offline, or connected and not announced: others cannot tell.
    #[default]
    Invisible,
    /// Available.
    Available,
    /// Do not disturb.
    Dnd,
    /// Busy.
    Busy,
}

impl Availability {
    /// Parses the wire's word.
    ///
    /// # Errors
    /// `invalid-value` if it is none.
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

/// What a connection announced of its subscriber.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The availability.
    pub availability: Availability,
    /// A free text.
    pub status: String,
    /// The client's own, as it was sent.
    pub attributes: Json,
    /// When; the latest of a subscriber's live connections holds.
    pub at: Timestamp,
}

/// How others see a subscriber. Offline and invisible are the same value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Presence {
    /// The subscriber.
    pub id: SubscriberId,
    /// The status text.
    pub status: String,
    /// The availability.
    pub availability: Availability,
    /// The subscriber's attributes.
    pub attributes: Json,
}

impl Presence {
    /// What others see of `id` while `announcement` holds.
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
    /// Who, and its presence.
    #[serde(flatten)]
    pub presence: Presence,
    /// Whether it administers the channel.
    pub administrator: bool,
}

/// A channel as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Membership {
    /// The channel.
    pub channel_id: ChannelId,
    /// Its name.
    pub name: String,
    /// Whether this member administers it.
    pub administrator: bool,
    /// The channel's attributes.
    pub attributes: Json,
    /// The end of its contiguous stored log.
    pub last_sequence: u64,
    /// What this member has read.
    pub read_sequence: u64,
    /// Events after that.
    pub unread: u64,
}

/// A direct conversation as one of the two sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Conversation {
    /// The peer.
    pub subscriber_id: SubscriberId,
    /// The end of its contiguous stored log.
    pub last_sequence: u64,
    /// What this subscriber has read.
    pub read_sequence: u64,
    /// Messages after that.
    pub unread: u64,
    /// When the last message was allocated.
    pub timestamp: Timestamp,
}

/// How far a message got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryStatus {
    /// In the log, durable.
    Stored,
    /// Handed to a connection of the recipient.
    Received,
    /// Shown to it.
    Displayed,
    /// Read by it.
    Read,
}

/// How far a subscriber got in a log. A later status implies the earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadCursors {
    /// Handed over up to here.
    pub received: u64,
    /// Displayed up to here.
    pub displayed: u64,
    /// Read up to here.
    pub read: u64,
}

/// A channel's name, checked.
///
/// # Errors
/// `invalid-value` if it is empty or longer than the limit.
pub fn parse_name(text: &str) -> Result<String, Rejection> {
    let characters = text.chars().count();
    if (1..=crate::limits::NAME_CHARACTERS).contains(&characters) {
        Ok(text.to_owned())
    } else {
        Err(Rejection::invalid("`name` must be 1 to 128 characters"))
    }
}
