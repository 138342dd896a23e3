//! A change of a channel before its events have places: what [`decide`](crate::decide()) plans and the service settles.

use alloc::{string::String, vec::Vec};

use crate::{
    ChannelKey, ChannelSubscriber, ConnectionId, Destination, Event, EventBody, Membership,
    ServerMessage, Timestamp,
    change::{Change, LogEntry, Profile, Replace, Roster, RowChange},
    frame::{PushedEvent, WireEvent},
    model::Presence,
};

/// A change of a channel, with sequences counted from 0 until the places are known.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The channel.
    pub channel: ChannelKey,
    /// Whether the channel is made by it: its events then have the places from 1.
    pub create: bool,
    /// Whether its events are the last of the log.
    pub close: bool,
    /// The events, in order.
    pub events: Vec<EventBody>,
    /// The roster, from the version that was read.
    pub roster: Option<Replace<Roster>>,
    /// The profile, from the version that was read.
    pub profile: Option<Replace<Profile>>,
    /// The rows; the sequence of a row is the index of its event.
    pub rows: Vec<RowChange>,
    /// What the caller is answered.
    pub answer: Answer,
}

/// The required response to a change.
#[derive(Clone, Debug)]
pub enum Answer {
    /// None but the `ack`.
    Nothing,
    /// This one.
    Ready(ServerMessage),
    /// The caller joined; its event's place is filled in.
    Joined {
        /// The membership.
        membership: Membership,
        /// The first page of members.
        subscribers: Vec<ChannelSubscriber>,
        /// Where the next page begins.
        next: Option<String>,
    },
    /// The first event, as the others get it.
    Event,
}

impl Plan {
    /// A change of nothing, to be filled in.
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

    /// How many places its events take in the log.
    #[must_use]
    pub fn slots(&self) -> u64 {
        u64::try_from(self.events.len()).unwrap_or(u64::MAX)
    }

    /// Whether the caller's connection gets the events as all others do: it does where no response stands for them. (After
    /// `create-channel` its position is 1, the place of its own joining.)
    #[must_use]
    pub const fn is_pushed_to_caller(&self) -> bool {
        matches!(self.answer, Answer::Nothing)
    }

    /// The change and its answer, once the events have the places from `first` on.
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
            rows: self.rows.iter().map(|row| placed(row, first)).collect(),
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

fn placed(row: &RowChange, first: u64) -> RowChange {
    let mut row = row.clone();
    if let RowChange::Joined { sequence, .. } | RowChange::Left { sequence, .. } = &mut row {
        *sequence += first;
    }
    row
}
