//! The shape of every decision: what must be read first, what was found, what is committed and what is answered.

use alloc::{boxed::Box, string::String, vec::Vec};

use serde::Serialize;

use crate::{
    Announcement, ChannelId, ChannelKey, ChannelSubscriber, ClientMessage, ConnectionId,
    Conversation, DeliveryStatus, Destination, Json, LogId, Membership, MessageId, Rejection,
    ServerMessage, Subscriber, SubscriberId, Timestamp,
    change::{Invitation, Member, Profile, Roster},
    frame::{self, WireEvent},
    messages::{PageRequest, authorize::BearerToken},
    plan::Plan,
};

/// What surrounds a client message.
#[derive(Clone, Debug)]
pub struct Context {
    /// Who sent it.
    pub subscriber: Subscriber,
    /// Over which connection.
    pub connection: ConnectionId,
    /// Its `id`: what responses reply to.
    pub reply_to: Option<String>,
    /// Now.
    pub now: Timestamp,
    /// When the connection began.
    pub since: Timestamp,
    /// When its token ends, if that is known.
    pub token_expires_at: Option<Timestamp>,
    /// A fresh id, should the decision need one.
    pub fresh_id: String,
}

/// What must be read before a message can be decided. Each is one read or one page; all run at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Whether the message has a required response: pushes wait for it.
    pub response: bool,
    /// A channel's profile, roster and the head of its log.
    pub channel: Option<ChannelKey>,
    /// A row of a channel: the caller's own.
    pub own_member: Option<ChannelKey>,
    /// A row of `channel`: another's.
    pub other_member: Option<SubscriberId>,
    /// The two longest-standing members of a channel.
    pub seniors: Option<ChannelKey>,
    /// The caller's invitation to a channel.
    pub invitation: Option<ChannelId>,
    /// How many channels the caller is a member of.
    pub membership_count: bool,
    /// A page of a channel's members with their presence.
    pub members: Option<(ChannelKey, PageRequest)>,
    /// A page of the caller's channels.
    pub memberships: Option<PageRequest>,
    /// A page of the caller's conversations.
    pub conversations: Option<PageRequest>,
    /// A page of a log.
    pub history: Option<(LogId, Range)>,
    /// The end of a log.
    pub end_of: Option<LogId>,
    /// Pages of many logs after positions, and what else has had events since a time.
    pub resume: Option<Positions>,
}

/// What a client that comes back has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Positions {
    /// The last sequence of each destination.
    pub positions: Vec<(Destination, u64)>,
    /// The last time that it saw.
    pub since: Option<Timestamp>,
}

impl Needs {
    /// A channel and the caller's row of it.
    #[must_use]
    pub fn channel_of(subscriber: &Subscriber, id: &ChannelId) -> Self {
        let channel = ChannelKey {
            domain: subscriber.domain.clone(),
            id: id.clone(),
        };
        Self {
            channel: Some(channel.clone()),
            own_member: Some(channel),
            ..Self::default()
        }
    }
}

/// Which part of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// The last `limit` events.
    Latest {
        /// Events at most.
        limit: usize,
    },
    /// The first `limit` events after a sequence.
    After {
        /// The sequence.
        sequence: u64,
        /// Events at most.
        limit: usize,
    },
    /// The last `limit` events before a sequence.
    Before {
        /// The sequence.
        sequence: u64,
        /// Events at most.
        limit: usize,
    },
}

/// What was found. A field that was not asked for is absent.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The channel's profile.
    pub profile: Option<Profile>,
    /// The channel's roster.
    pub roster: Option<Roster>,
    /// The end of the contiguous stored log.
    pub last_sequence: u64,
    /// The caller's row.
    pub own_member: Option<Member>,
    /// The other's row.
    pub other_member: Option<Member>,
    /// The longest-standing members, in that order.
    pub seniors: Vec<Member>,
    /// The caller's invitation.
    pub invitation: Option<Invitation>,
    /// How many channels the caller is in.
    pub membership_count: usize,
    /// A page of members.
    pub members: Listed<ChannelSubscriber>,
    /// A page of memberships.
    pub memberships: Listed<Membership>,
    /// A page of conversations.
    pub conversations: Listed<Conversation>,
    /// A page of a log.
    pub history: Option<History>,
    /// One page for each position, in order; none where the caller may not read.
    pub resumed: Vec<Option<History>>,
    /// The other destinations that have had events, with the end of their logs.
    pub resumed_new: Vec<(Destination, u64)>,
}

impl Known {
    /// The channel's roster, if the channel has not ended: then nobody is a member, even before the rows are gone.
    pub(crate) fn open_roster(&self) -> Option<Roster> {
        self.roster.filter(|it| it.open)
    }
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Listed<T> {
    /// The items.
    pub items: Vec<T>,
    /// The id after which the next page begins, if there is one: the last that was read, also if it is not shown.
    pub next: Option<String>,
}

impl<T: Serialize + Clone> Listed<T> {
    /// As many items as fit the answer, and after which id the next page begins.
    pub(crate) fn page(
        &self,
        context: &Context,
        id: impl Fn(&T) -> &str,
    ) -> (Vec<T>, Option<String>) {
        let fitting = frame::fitting(context.reply_to.as_deref(), self.items.iter());
        let shown: Vec<T> = self.items.iter().take(fitting).cloned().collect();
        let next = if fitting < self.items.len() {
            shown.last().map(|it| id(it).into())
        } else {
            self.next.clone()
        };
        (shown, next)
    }
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            next: None,
        }
    }
}

/// A page of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Ascending.
    pub events: Vec<WireEvent>,
    /// Whether there is more in the direction that was asked for.
    pub more: bool,
    /// The first that is retained.
    pub first_sequence: u64,
    /// The end of the contiguous stored log.
    pub last_sequence: u64,
}

/// What is done about a message: one commit, then what is sent.
#[derive(Clone, Debug)]
#[must_use]
pub struct Decision {
    /// What is committed, atomically.
    pub commit: Commit,
    /// The required response, if it does not come out of the commit.
    pub response: Option<ServerMessage>,
    /// What follows the answer.
    pub follow_up: FollowUp,
}

impl Decision {
    /// Nothing to commit, this to answer.
    pub fn respond(response: ServerMessage) -> Self {
        Self {
            commit: Commit::Nothing,
            response: Some(response),
            follow_up: FollowUp::Nothing,
        }
    }

    /// This to commit, and no response beside the `ack` and what the commit brings.
    pub const fn commit(commit: Commit) -> Self {
        Self {
            commit,
            response: None,
            follow_up: FollowUp::Nothing,
        }
    }

    /// Nothing but the `ack`.
    pub const fn done() -> Self {
        Self::commit(Commit::Nothing)
    }
}

/// What is committed.
#[derive(Clone, Debug)]
pub enum Commit {
    /// Nothing.
    Nothing,
    /// A message at the end of a log.
    Append(Draft),
    /// A change of a channel, with its events at the end of the log.
    Change(Box<Plan>),
    /// The connection's announcement.
    Announce(Announcement),
    /// No announcement any more.
    Unannounce,
    /// How far the caller got.
    ReadCursor(ReadCursor),
    /// A fresh token for the connection.
    Authorize {
        /// The token as it came.
        token: BearerToken,
    },
}

/// How far a subscriber got in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadCursor {
    /// The log.
    pub log: LogId,
    /// How far.
    pub status: DeliveryStatus,
    /// Up to here.
    pub sequence: u64,
}

/// A message that is to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Where to.
    pub log: LogId,
    /// Its id, if the client chose it: only then a repeat can be told.
    pub message_id: Option<MessageId>,
    /// Any JSON.
    pub content: Json,
    /// The client's own.
    pub attributes: Option<Json>,
}

/// What follows the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FollowUp {
    /// Nothing.
    #[default]
    Nothing,
    /// Others are told the caller's presence.
    PublishPresence,
    /// The caller has received the peers' messages up to here.
    Received(Vec<(LogId, u64)>),
    /// Somebody is told that it is invited.
    Invite(SubscriberId, ChannelKey),
    /// The others are told that the caller types, or stopped.
    Typing(LogId, bool),
    /// The rows of a channel that ended are removed.
    Dismantle(ChannelKey),
}

impl ClientMessage {
    /// What must be read before it can be decided for `subscriber`.
    #[must_use]
    pub fn needs(&self, subscriber: &Subscriber) -> Needs {
        match self {
            Self::Hello(_) | Self::Authorize(_) => Needs {
                response: true,
                ..Needs::default()
            },
            Self::CreateChannel(it) => it.needs(subscriber),
            Self::JoinChannel(it) => it.needs(subscriber),
            Self::LeaveChannel(it) => it.needs(subscriber),
            Self::ListChannels(it) => it.needs(),
            Self::ListSubscribers(it) => it.needs(subscriber),
            Self::ListConversations(it) => it.needs(),
            Self::ChannelMessage(it) => it.needs(subscriber),
            Self::DirectMessage(it) => it.needs(),
            Self::GetHistory(it) => it.needs(subscriber),
            Self::UpdateChannel(it) => it.needs(subscriber),
            Self::DeleteChannel(it) => it.needs(subscriber),
            Self::InviteSubscriber(it) => it.needs(subscriber),
            Self::RemoveSubscriber(it) => it.needs(subscriber),
            Self::SetAdministrator(it) => it.needs(subscriber),
            Self::Delivery(it) => it.needs(subscriber),
            Self::Resume(it) => it.needs(),
            Self::Typing(it) => it.needs(subscriber),
            Self::Ping(_) | Self::Announce(_) | Self::Unannounce(_) => Needs::default(),
        }
    }
}

impl ClientMessage {
    /// The log and the id by which a repeat of this message can be told.
    #[must_use]
    pub fn idempotency(&self, subscriber: &Subscriber) -> Option<(LogId, &MessageId)> {
        match self {
            Self::ChannelMessage(it) => it.idempotency(subscriber),
            Self::DirectMessage(it) => it.idempotency(subscriber),
            _ => None,
        }
    }
}

/// Decides a message. Total over what was found: it may be called again with fresher knowledge.
///
/// # Errors
/// The rejection that the client is answered with.
pub fn decide(
    message: &ClientMessage,
    context: &Context,
    known: &Known,
) -> Result<Decision, Rejection> {
    match message {
        ClientMessage::Hello(it) => Ok(it.decide(context)),
        ClientMessage::Ping(_) => Ok(Decision::done()),
        ClientMessage::Announce(it) => Ok(it.decide(context)),
        ClientMessage::Unannounce(it) => Ok(it.decide()),
        ClientMessage::CreateChannel(it) => it.decide(context, known),
        ClientMessage::JoinChannel(it) => it.decide(context, known),
        ClientMessage::LeaveChannel(it) => it.decide(context, known),
        ClientMessage::ListChannels(it) => Ok(it.decide(context, known)),
        ClientMessage::ListSubscribers(it) => it.decide(context, known),
        ClientMessage::ListConversations(it) => Ok(it.decide(context, known)),
        ClientMessage::ChannelMessage(it) => it.decide(context, known),
        ClientMessage::DirectMessage(it) => it.decide(context),
        ClientMessage::GetHistory(it) => it.decide(context, known),
        ClientMessage::UpdateChannel(it) => it.decide(context, known),
        ClientMessage::DeleteChannel(it) => it.decide(context, known),
        ClientMessage::InviteSubscriber(it) => it.decide(context, known),
        ClientMessage::RemoveSubscriber(it) => it.decide(context, known),
        ClientMessage::SetAdministrator(it) => it.decide(context, known),
        ClientMessage::Delivery(it) => it.decide(context, known),
        ClientMessage::Resume(it) => Ok(it.decide(context, known)),
        ClientMessage::Typing(it) => it.decide(context, known),
        ClientMessage::Authorize(it) => Ok(it.decide()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use alloc::format;

    use serde_json::Value;

    use super::*;
    use crate::{
        Domain, Event, EventBody, SubscriberId, change::Change, digest::sha256_hex,
        messages::tests::parsed, model::Presence,
    };

    /// `id` of domain `d`, one second after the epoch.
    pub(crate) fn context(id: &str) -> Context {
        Context {
            subscriber: Subscriber {
                domain: Domain::parse("d").unwrap(),
                id: SubscriberId::parse(id).unwrap(),
            },
            connection: ConnectionId("connection=".into()),
            reply_to: None,
            now: Timestamp::from_millis(1_000),
            since: Timestamp::from_millis(0),
            token_expires_at: None,
            fresh_id: "fresh".into(),
        }
    }

    /// An open channel with these members, the invite token `t` and six events; version 5 of its roster.
    pub(crate) fn channel_known(members: &[&str]) -> Known {
        Known {
            profile: Some(Profile {
                name: "Team".into(),
                attributes: Json::empty_object(),
                invite_hash: Some(sha256_hex(b"t")),
                creator: Some(SubscriberId::parse("anna").unwrap()),
                version: 1,
            }),
            roster: Some(Roster {
                open: true,
                members: 2,
                administrators: 1,
                version: 5,
            }),
            last_sequence: 6,
            members: Listed {
                items: members
                    .iter()
                    .map(|id| ChannelSubscriber {
                        presence: Presence::of(&SubscriberId::parse(id).unwrap(), None),
                        administrator: false,
                    })
                    .collect(),
                next: None,
            },
            ..Known::default()
        }
    }

    /// The same channel, read by its administrator `anna`.
    pub(crate) fn administrator_known() -> Known {
        Known {
            own_member: Some(Member {
                administrator: true,
                ..member("anna", 1)
            }),
            ..channel_known(&[])
        }
    }

    /// A member who is no administrator.
    pub(crate) fn member(id: &str, joined: u64) -> Member {
        Member {
            subscriber: SubscriberId::parse(id).unwrap(),
            administrator: false,
            joined,
            left: None,
            displayed: 0,
            read: 0,
        }
    }

    /// A message of about so many bytes.
    pub(crate) fn event(sequence: u64, bytes: usize) -> WireEvent {
        WireEvent::new(
            &Event {
                sequence,
                timestamp: Timestamp::from_millis(0),
                body: EventBody::Message {
                    message_id: MessageId::parse("m").unwrap(),
                    from: SubscriberId::parse("a").unwrap(),
                    content: Json::parse(&format!("\"{}\"", "x".repeat(bytes))).unwrap(),
                    attributes: None,
                },
            },
            |id| Presence::of(id, None),
        )
    }

    /// The decision about `text`.
    pub(crate) fn check(
        text: &str,
        context: &Context,
        known: &Known,
    ) -> Result<Decision, Rejection> {
        decide(&parsed(text), context, known)
    }

    /// The response to `text`, which commits nothing.
    pub(crate) fn respond(text: &str, context: &Context, known: &Known) -> Value {
        let decision = check(text, context, known).unwrap();
        assert!(matches!(decision.commit, Commit::Nothing), "{decision:?}");
        serde_json::from_str(&decision.response.unwrap().encode(None)).unwrap()
    }

    /// The change that `text` commits at the place after `known.last_sequence`, and its answer.
    pub(crate) fn change(text: &str, context: &Context, known: &Known) -> (Change, Value) {
        let Commit::Change(plan) = check(text, context, known).unwrap().commit else {
            panic!("{text} changes nothing");
        };
        let (change, answer) = plan.settle(
            known.last_sequence + 1,
            context.now,
            "nonce",
            Some(&context.connection),
        );
        assert_eq!(plan.slots(), u64::try_from(change.entries.len()).unwrap());
        (
            change,
            serde_json::from_str(&answer.unwrap().encode(None)).unwrap(),
        )
    }
}
