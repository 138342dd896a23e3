//! The items of a channel, and a subscriber's items about channels.

use protocol::{
    ChannelId, SubscriberId, Timestamp,
    change::{Invitation, Member, Profile, Roster},
};
use serde::{Deserialize, Serialize};
use service::ports::{Fault, Receiver};

use super::PROFILE;
use crate::items::{json, millis};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ProfileItem {
    name: String,
    /// The JSON text that the client sent.
    attributes: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    invite_hash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    creator: Option<SubscriberId>,
    version: u64,
}

impl ProfileItem {
    pub(super) fn new(profile: &Profile) -> Self {
        Self {
            name: profile.name.clone(),
            attributes: profile.attributes.as_str().to_owned(),
            invite_hash: profile.invite_hash.clone(),
            creator: profile.creator.clone(),
            version: profile.version,
        }
    }

    pub(super) fn profile(self) -> Result<Profile, Fault> {
        Ok(Profile {
            name: self.name,
            attributes: json(&self.attributes, PROFILE)?,
            invite_hash: self.invite_hash,
            creator: self.creator,
            version: self.version,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct RosterItem {
    open: bool,
    members: u64,
    administrators: u64,
    version: u64,
}

impl From<Roster> for RosterItem {
    fn from(roster: Roster) -> Self {
        Self {
            open: roster.open,
            members: roster.members,
            administrators: roster.administrators,
            version: roster.version,
        }
    }
}

impl From<RosterItem> for Roster {
    fn from(item: RosterItem) -> Self {
        Self {
            open: item.open,
            members: item.members,
            administrators: item.administrators,
            version: item.version,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct MemberItem {
    administrator: bool,
    joined: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<u64>,
    displayed: u64,
    read: u64,
}

impl MemberItem {
    /// Creates a new member, which has displayed and read nothing.
    pub(super) const fn new(administrator: bool, joined: u64) -> Self {
        Self {
            administrator,
            joined,
            left: None,
            displayed: 0,
            read: 0,
        }
    }

    pub(super) const fn member(self, subscriber: SubscriberId) -> Member {
        Member {
            subscriber,
            administrator: self.administrator,
            joined: self.joined,
            left: self.left,
            displayed: self.displayed,
            read: self.read,
        }
    }
}

/// The attributes of a member's row that a fan-out needs. They are a third of all, and take a third of the time to parse.
#[derive(Deserialize)]
pub(super) struct ReceiverItem {
    joined: u64,
    left: Option<u64>,
}

impl ReceiverItem {
    pub(super) const PROJECTION: &str = "#item, #joined, #left, #ttl";

    pub(super) const fn receiver(self, subscriber: SubscriberId) -> Receiver {
        Receiver {
            subscriber,
            joined: self.joined,
            left: self.left,
        }
    }
}

/// A row that has only the sequence of joining beside its key.
#[derive(Serialize)]
pub(super) struct JoinedItem {
    pub(super) joined: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct InvitationItem {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<SubscriberId>,
    #[serde(with = "millis")]
    at: Timestamp,
}

impl InvitationItem {
    pub(super) fn new(from: Option<&SubscriberId>, at: Timestamp) -> Self {
        Self {
            from: from.cloned(),
            at,
        }
    }

    pub(super) fn invitation(self, channel: ChannelId) -> Invitation {
        Invitation {
            channel,
            from: self.from,
            at: self.at,
        }
    }
}

/// A former membership. It is kept for as long as the channel's log may contain messages of the subscriber.
#[derive(Serialize)]
pub(super) struct FormerItem {
    ttl: i64,
}

impl FormerItem {
    pub(super) const fn new(left: Timestamp) -> Self {
        // One day longer than the last event that the subscriber may have written.
        let days = protocol::limits::HISTORY_DAYS + 1;
        Self {
            ttl: left.plus_seconds(days * 24 * 60 * 60).seconds_up(),
        }
    }
}
