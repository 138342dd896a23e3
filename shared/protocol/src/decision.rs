//! The types of a decision: its context, its reads, their results, and what it commits and answers.

use alloc::{boxed::Box, string::String, vec::Vec};

use serde::Serialize;

use crate::{
    Announcement, ChannelId, ChannelKey, ChannelSubscriber, ConnectionId, Conversation,
    DeliveryStatus, Destination, Json, LogId, Membership, MessageId, ServerMessage, Subscriber,
    SubscriberId, Timestamp,
    change::{Invitation, Member, Profile, Roster},
    page_size,
    plan::Plan,
    wire_event::WireEvent,
};

/// The context of a client message.
#[derive(Clone, Debug)]
pub struct Context {
    pub subscriber: Subscriber,
    pub connection: ConnectionId,
    /// The `id` of the message. Responses repeat it as `reply-to`.
    pub reply_to: Option<String>,
    pub now: Timestamp,
    /// When the connection was opened.
    pub since: Timestamp,
    /// When the token of the connection expires, if known.
    pub token_expires_at: Option<Timestamp>,
    /// A fresh id for a decision that needs one.
    pub fresh_id: String,
}

/// What must be read before a message can be decided. Each field is one read or one page. All of them run concurrently.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// True if the message has a required response. Pushes to the connection wait until it was posted.
    pub response: bool,
    /// The profile and roster of a channel, and the head of its log.
    pub channel: Option<ChannelKey>,
    /// The caller's row in this channel.
    pub own_member: Option<ChannelKey>,
    /// Another subscriber's row in `channel`.
    pub other_member: Option<SubscriberId>,
    /// The two longest-standing members of this channel.
    pub seniors: Option<ChannelKey>,
    /// The caller's invitation to this channel.
    pub invitation: Option<ChannelId>,
    /// True if the number of the caller's channels is needed.
    pub membership_count: bool,
    /// A page of the members of this channel, with their presence.
    pub members: Option<(ChannelKey, PageRequest)>,
    /// A page of the caller's channels.
    pub memberships: Option<PageRequest>,
    /// A page of the caller's conversations.
    pub conversations: Option<PageRequest>,
    /// A page of this log.
    pub history: Option<(LogId, Range)>,
    /// The last sequence of this log.
    pub end_of: Option<LogId>,
    /// A page after each position, and the other destinations that had events since a time.
    pub resume: Option<Positions>,
}

/// How much a reconnecting client already has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Positions {
    /// The last sequence that the client has of each destination.
    pub positions: Vec<(Destination, u64)>,
    /// The latest timestamp that the client has seen.
    pub since: Option<Timestamp>,
}

impl Needs {
    /// Needs the channel and the caller's row in it.
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

/// The page that a client requests with `after` and `limit`, both optional.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// The cursor: the last id of the previous page.
    pub after: Option<String>,
    /// The maximum number of items.
    pub limit: usize,
}

/// A part of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// The last `limit` events.
    Latest {
        /// The maximum number of events.
        limit: usize,
    },
    /// The first `limit` events after a sequence.
    After {
        sequence: u64,
        /// The maximum number of events.
        limit: usize,
    },
    /// The last `limit` events before a sequence.
    Before {
        sequence: u64,
        /// The maximum number of events.
        limit: usize,
    },
}

/// The results of the reads in [`Needs`]. A field that was not requested is empty.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub profile: Option<Profile>,
    pub roster: Option<Roster>,
    /// The end of the contiguous stored log.
    pub last_sequence: u64,
    pub own_member: Option<Member>,
    pub other_member: Option<Member>,
    /// The longest-standing members, the oldest first.
    pub seniors: Vec<Member>,
    /// The caller's invitation.
    pub invitation: Option<Invitation>,
    /// The number of channels that the caller is a member of.
    pub membership_count: usize,
    pub members: Listed<ChannelSubscriber>,
    pub memberships: Listed<Membership>,
    pub conversations: Listed<Conversation>,
    pub history: Option<History>,
    /// One page for each position, in order. `None` if the caller may not read the log.
    pub resumed: Vec<Option<History>>,
    /// The other destinations that had events, with the last sequence of their logs.
    pub resumed_new: Vec<(Destination, u64)>,
}

impl Known {
    /// Returns the roster, unless the channel has ended. An ended channel has no members, even before their rows are deleted.
    pub(crate) fn open_roster(&self) -> Option<Roster> {
        self.roster.filter(|it| it.open)
    }
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Listed<T> {
    pub items: Vec<T>,
    /// The id after which the next page begins, if there is one. It is the last id that was read, even if that item is not
    /// shown.
    pub next: Option<String>,
}

impl<T: Serialize + Clone> Listed<T> {
    /// Returns as many items as fit into the answer, and the id after which the next page begins.
    pub(crate) fn page(
        &self,
        context: &Context,
        id: impl Fn(&T) -> &str,
    ) -> (Vec<T>, Option<String>) {
        let fitting = page_size::fitting(context.reply_to.as_deref(), self.items.iter());
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
    /// In ascending order.
    pub events: Vec<WireEvent>,
    /// True if the log has more events in the requested direction.
    pub more: bool,
    /// The first retained sequence.
    pub first_sequence: u64,
    /// The end of the contiguous stored log.
    pub last_sequence: u64,
}

/// The decision about a message: one commit, then the response, then the follow-up.
#[derive(Clone, Debug)]
#[must_use]
pub struct Decision {
    /// Committed atomically.
    pub commit: Commit,
    /// The required response, unless the commit produces it.
    pub response: Option<ServerMessage>,
    /// Runs after the answer.
    pub follow_up: FollowUp,
}

impl Decision {
    /// Commits nothing and answers with `response`.
    pub fn respond(response: ServerMessage) -> Self {
        Self {
            commit: Commit::Nothing,
            response: Some(response),
            follow_up: FollowUp::Nothing,
        }
    }

    /// Commits `commit`. The only answers are the `ack` and the response that the commit produces.
    pub const fn commit(commit: Commit) -> Self {
        Self {
            commit,
            response: None,
            follow_up: FollowUp::Nothing,
        }
    }

    /// Commits nothing and answers with the `ack` only.
    pub const fn done() -> Self {
        Self::commit(Commit::Nothing)
    }
}

/// The write of a decision.
#[derive(Clone, Debug)]
pub enum Commit {
    Nothing,
    /// Appends a message to a log.
    Append(Draft),
    /// Changes a channel and appends the events to its log.
    Change(Box<Plan>),
    /// Stores the announcement of the connection.
    Announce(Announcement),
    /// Deletes the announcement of the connection.
    Unannounce,
    /// Moves a read cursor of the caller forward.
    ReadCursor(ReadCursor),
    /// Gives the connection a fresh token.
    Authorize {
        token: BearerToken,
    },
}

/// A position of a subscriber in a log: the events up to `sequence` have this status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadCursor {
    pub log: LogId,
    pub status: DeliveryStatus,
    pub sequence: u64,
}

/// A message to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    pub log: LogId,
    /// The message id, if the client chose it. Without one, a repeat cannot be recognised.
    pub message_id: Option<MessageId>,
    pub content: Json,
    pub attributes: Option<Json>,
}

/// What runs after the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FollowUp {
    #[default]
    Nothing,
    /// Publishes the caller's presence to others.
    PublishPresence,
    /// Records that the caller has received the messages of these direct conversations up to these sequences.
    Received(Vec<(LogId, u64)>),
    /// Notifies this subscriber of its invitation to the channel.
    Invite(SubscriberId, ChannelKey),
    /// Notifies the other participants that the caller started (`true`) or stopped typing.
    Typing(LogId, bool),
    /// Deletes the rows of a channel that has ended.
    Dismantle(ChannelKey),
}

/// A bearer token as received. `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(String);

impl BearerToken {
    /// Wraps the token from a message.
    pub(crate) const fn new(token: String) -> Self {
        Self(token)
    }

    /// Returns the token.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl core::fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("BearerToken(..)")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use alloc::format;

    use serde_json::Value;

    use super::*;
    use crate::{
        Domain, Event, EventBody, Rejection, change::Change, digest::sha256_hex,
        messages::tests::parsed, model::Presence,
    };

    /// Returns the context of subscriber `id` of domain `d`, one second after the epoch.
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

    /// Returns an open channel with these members, the invite token `t`, six events and version 5 of its roster.
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

    /// Returns the same channel as its administrator `anna` reads it.
    pub(crate) fn administrator_known() -> Known {
        Known {
            own_member: Some(Member {
                administrator: true,
                ..member("anna", 1)
            }),
            ..channel_known(&[])
        }
    }

    /// Returns a member that is no administrator.
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

    /// Returns a message of about `bytes` bytes.
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

    /// Decides the message `text`.
    pub(crate) fn check(
        text: &str,
        context: &Context,
        known: &Known,
    ) -> Result<Decision, Rejection> {
        parsed(text).decide(context, known)
    }

    /// Returns the response to `text`, and asserts that it commits nothing.
    pub(crate) fn respond(text: &str, context: &Context, known: &Known) -> Value {
        let decision = check(text, context, known).unwrap();
        assert!(matches!(decision.commit, Commit::Nothing), "{decision:?}");
        serde_json::from_str(&decision.response.unwrap().encode(None)).unwrap()
    }

    /// Returns the change that `text` commits from the sequence after `known.last_sequence` on, and its answer.
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
