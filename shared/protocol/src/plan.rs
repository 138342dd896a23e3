//! A change of a channel before its events have sequences.
//!
//! [`ClientMessage::decide`](crate::ClientMessage::decide) plans the change. The service allocates the slots and settles it.

use alloc::{string::String, vec::Vec};

use crate::{
    ChannelKey, ChannelSubscriber, ConnectionId, Destination, Event, EventBody, LeaveReason,
    Membership, ServerMessage, Timestamp,
    change::{Change, LogEntry, Profile, Replace, Roster, RowChange},
    model::Presence,
    wire_event::{PushedEvent, WireEvent},
};

/// A change of a channel. Its sequences count from 0 until the slots are allocated.
#[derive(Clone, Debug)]
pub struct Plan {
    pub channel: ChannelKey,
    /// True if the change creates the channel. Its events then have the sequences from 1 on.
    pub create: bool,
    /// True if its events are the last of the log.
    pub close: bool,
    pub events: Vec<EventBody>,
    pub roster: Option<Replace<Roster>>,
    pub profile: Option<Replace<Profile>>,
    /// The changes of rows. The sequence of a row is the index of its event.
    pub rows: Vec<RowChange>,
    pub answer: Answer,
}

/// The required response to a change.
#[derive(Clone, Debug)]
pub enum Answer {
    /// No response, only the `ack`.
    Nothing,
    /// This response.
    Ready(ServerMessage),
    /// `channel-joined`. The sequence of the event is filled in later.
    Joined {
        membership: Membership,
        /// The first page of members.
        subscribers: Vec<ChannelSubscriber>,
        /// The cursor of the next page.
        next: Option<String>,
    },
    /// The first event, as the others get it.
    Event,
}

impl Plan {
    /// Returns a plan that changes nothing, as a base for other plans.
    #[must_use]
    pub const fn empty(channel: ChannelKey) -> Self {
        Self {
            channel,
            create: false,
            close: false,
            events: Vec::new(),
            roster: None,
            profile: None,
            rows: Vec::new(),
            answer: Answer::Nothing,
        }
    }

    /// Returns true if the change removes a member, which did not leave by itself.
    #[must_use]
    pub fn removes_member(&self) -> bool {
        let is_removal = |event: &EventBody| {
            matches!(
                event,
                EventBody::SubscriberLeft {
                    reason: LeaveReason::Removed,
                    ..
                }
            )
        };
        self.events.iter().any(is_removal)
    }

    /// Returns how many slots of the log the events need.
    #[must_use]
    pub fn slots(&self) -> u64 {
        u64::try_from(self.events.len()).unwrap_or(u64::MAX)
    }

    /// Returns true if the events are pushed to the caller's connection too.
    ///
    /// They are if no response replaces them. After `create-channel` the caller's position is 1, the sequence of its own
    /// `subscriber-joined` event.
    #[must_use]
    pub const fn is_pushed_to_caller(&self) -> bool {
        matches!(self.answer, Answer::Nothing)
    }

    /// Returns the change and its answer, with sequences from `first` on for the events.
    #[must_use]
    pub fn settle(
        &self,
        first: u64,
        at: Timestamp,
        nonce: &str,
        origin: Option<&ConnectionId>,
    ) -> (Change, Option<ServerMessage>) {
        let entries: Vec<LogEntry> = (first..)
            .zip(&self.events)
            .map(|(sequence, body)| LogEntry {
                event: Event {
                    sequence,
                    timestamp: at,
                    body: body.clone(),
                },
                nonce: nonce.into(),
                origin: origin.cloned(),
            })
            .collect();
        let answer = self.answer(first, entries.first());
        let change = Change {
            channel: self.channel.clone(),
            at,
            head: self.create.then(|| first + self.slots() - 1),
            entries,
            roster: self.roster.clone(),
            profile: self.profile.clone(),
            rows: self.rows.iter().map(|row| shifted(row, first)).collect(),
        };
        (change, answer)
    }

    fn answer(&self, first: u64, entry: Option<&LogEntry>) -> Option<ServerMessage> {
        match &self.answer {
            Answer::Nothing => None,
            Answer::Ready(message) => Some(message.clone()),
            Answer::Joined {
                membership,
                subscribers,
                next,
            } => Some(ServerMessage::ChannelJoined {
                membership: Membership {
                    last_sequence: first,
                    read_sequence: first,
                    unread: 0,
                    ..membership.clone()
                },
                subscribers: subscribers.clone(),
                next: next.clone(),
                sequence: first,
            }),
            Answer::Event => {
                let event = WireEvent::new(&entry?.event, |id| Presence::of(id, None));
                PushedEvent::new(Destination::Channel(self.channel.id.clone()), event)
                    .map(ServerMessage::Event)
            }
        }
    }
}

/// Returns `row` with a sequence counted from `first` instead of 0.
fn shifted(row: &RowChange, first: u64) -> RowChange {
    let mut row = row.clone();
    if let RowChange::Joined { sequence, .. } | RowChange::Left { sequence, .. } = &mut row {
        *sequence += first;
    }
    row
}
