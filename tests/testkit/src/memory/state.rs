//! The contents of the database.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{
    ChannelId, ChannelKey, ConnectionId, LogId, MessageId, Subscriber, SubscriberId, Timestamp,
    change::{Invitation, LogEntry, Member, Profile, Roster},
};
use service::ports::{
    Connection, Ending, ExpiryCheckpoint, Head, IdempotencyRecord, Jti, Minute, PresenceState,
    SHARDS, Session, SessionKey, TokenHash, TokenRecord,
};

use super::index::Index;

/// A time to live: seconds since the epoch, as in DynamoDB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ttl(i64);

impl Ttl {
    /// `seconds` after `at`.
    pub(super) const fn after(at: Timestamp, seconds: i64) -> Self {
        Self(at.plus_seconds(seconds).seconds_up())
    }

    /// True if the item is still alive at `now`.
    pub(super) const fn holds(self, now: Timestamp) -> bool {
        now.millis() < self.0.saturating_mul(1_000)
    }
}

pub(super) const DAY_SECONDS: i64 = 24 * 60 * 60;

/// The items under an issuer's id.
#[derive(Debug, Default)]
pub(super) struct OfJti {
    pub(super) refused: Option<Ttl>,
    pub(super) tokens: BTreeMap<TokenHash, Ttl>,
}

#[derive(Debug, Default)]
pub(super) struct PresenceItem {
    pub(super) state: PresenceState,
    pub(super) lease: Option<(String, Timestamp)>,
}

#[derive(Debug)]
pub(super) struct MemberRow {
    pub(super) member: Member,
    /// Only tombstones have one.
    pub(super) ttl: Option<Ttl>,
}

/// The items of a channel, without its log.
#[derive(Debug, Default)]
pub(super) struct Channel {
    pub(super) profile: Option<Profile>,
    pub(super) roster: Option<Roster>,
    pub(super) members: BTreeMap<SubscriberId, MemberRow>,
    pub(super) joined: BTreeSet<(u64, SubscriberId)>,
}

impl Channel {
    pub(super) fn member(&self, id: &SubscriberId, now: Timestamp) -> Option<&Member> {
        self.members
            .get(id)
            .filter(|row| row.ttl.is_none_or(|ttl| ttl.holds(now)))
            .map(|row| &row.member)
    }

    /// The row of a current member.
    pub(super) fn current(&mut self, id: &SubscriberId) -> Option<&mut Member> {
        self.members
            .get_mut(id)
            .map(|row| &mut row.member)
            .filter(|member| member.is_current())
    }
}

/// The items of a subscriber.
#[derive(Debug, Default)]
pub(super) struct Person {
    pub(super) tokens: BTreeMap<TokenHash, Ttl>,
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    pub(super) presence: PresenceItem,
    pub(super) channels: BTreeSet<ChannelId>,
    pub(super) former: BTreeMap<ChannelId, Ttl>,
    pub(super) conversations: BTreeSet<SubscriberId>,
    pub(super) invitations: BTreeMap<ChannelId, Invitation>,
}

impl Person {
    /// Removes a connection and its announcement.
    pub(super) fn forget(&mut self, id: &ConnectionId) -> Option<Connection> {
        let connection = self.connections.remove(id)?;
        let presence = &mut self.presence.state;
        if presence.announcements.remove(id).is_some() {
            presence.version += 1;
        }
        Some(connection)
    }
}

/// A token and the connections it authorises.
#[derive(Debug, Default)]
pub(super) struct Token {
    pub(super) record: Option<(TokenRecord, Ttl)>,
    pub(super) connections: BTreeMap<ConnectionId, Ttl>,
}

impl Token {
    pub(super) fn record(&self, now: Timestamp) -> Option<&TokenRecord> {
        self.record
            .as_ref()
            .filter(|(_, ttl)| ttl.holds(now))
            .map(|(record, _)| record)
    }
}

/// All items and indexes.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) tokens: BTreeMap<TokenHash, Token>,
    people: BTreeMap<Subscriber, Person>,
    channels: BTreeMap<ChannelKey, Channel>,
    pub(super) heads: BTreeMap<LogId, Head>,
    events: BTreeMap<LogId, BTreeMap<u64, (LogEntry, Ttl)>>,
    pub(super) idempotency_records:
        BTreeMap<(LogId, SubscriberId, MessageId), (IdempotencyRecord, Ttl)>,
    pub(super) jtis: BTreeMap<Jti, OfJti>,
    pub(super) checkpoint: Option<ExpiryCheckpoint>,
    undrained: Index<u32, (String, LogId)>,
    endings: Index<Minute, Ending>,
    pub(super) sessions: BTreeMap<SessionKey, Session>,
    due: Index<Minute, SessionKey>,
}

impl State {
    pub(super) fn person(&self, subscriber: &Subscriber) -> Option<&Person> {
        self.people.get(subscriber)
    }

    pub(super) fn person_mut(&mut self, subscriber: &Subscriber) -> &mut Person {
        self.people.entry(subscriber.clone()).or_default()
    }

    pub(super) fn channel(&self, key: &ChannelKey) -> Option<&Channel> {
        self.channels.get(key)
    }

    pub(super) fn channel_mut(&mut self, key: &ChannelKey) -> &mut Channel {
        self.channels.entry(key.clone()).or_default()
    }

    pub(super) fn connection_mut(
        &mut self,
        subscriber: &Subscriber,
        id: &ConnectionId,
    ) -> Option<&mut Connection> {
        self.people.get_mut(subscriber)?.connections.get_mut(id)
    }

    /// The entries of a log within `range`, without those past their time to live.
    pub(super) fn entries(
        &self,
        log: &LogId,
        range: (core::ops::Bound<u64>, core::ops::Bound<u64>),
        now: Timestamp,
    ) -> impl DoubleEndedIterator<Item = &LogEntry> {
        self.events
            .get(log)
            .into_iter()
            .flat_map(move |entries| entries.range(range))
            .filter(move |(_, (_, ttl))| ttl.holds(now))
            .map(|(_, (entry, _))| entry)
    }

    pub(super) fn entry(&self, log: &LogId, sequence: u64, now: Timestamp) -> Option<&LogEntry> {
        use core::ops::Bound::Included;
        self.entries(log, (Included(sequence), Included(sequence)), now)
            .next()
    }

    pub(super) fn put_entry(&mut self, log: &LogId, entry: &LogEntry) {
        let ttl = Ttl::after(
            entry.event.timestamp,
            protocol::limits::HISTORY_DAYS * DAY_SECONDS,
        );
        self.events
            .entry(log.clone())
            .or_default()
            .insert(entry.event.sequence, (entry.clone(), ttl));
    }

    /// Voids an entry if it has this nonce: removes its body and origin.
    pub(super) fn void_entry(&mut self, log: &LogId, sequence: u64, nonce: &str) {
        let entries = self.events.get_mut(log);
        if let Some((entry, _)) = entries.and_then(|it| it.get_mut(&sequence))
            && entry.nonce == nonce
        {
            entry.event.body = protocol::EventBody::Void;
            entry.origin = None;
        }
    }

    /// Creates a head without a lease and with nothing pushed.
    pub(super) fn put_head(&mut self, log: &LogId, sequence: u64, at: Timestamp) {
        let head = Head {
            active: true,
            sequence,
            sent: 0,
            lease: None,
            allocated_at: at,
            removal_at: None,
            read_cursors: match log {
                LogId::Channel(_) => BTreeMap::new(),
                LogId::Direct { low, high, .. } => [low, high]
                    .map(|id| (id.clone(), Default::default()))
                    .into(),
            },
        };
        self.heads.insert(log.clone(), head);
        if sequence > 0 {
            self.set_undrained(log, true);
        }
    }

    /// Adds a connection under a token.
    pub(super) fn put_token_connection(
        &mut self,
        token: &TokenHash,
        id: &ConnectionId,
        ends_at: Timestamp,
    ) {
        let ttl = Ttl::after(ends_at, DAY_SECONDS);
        let connections = &mut self.tokens.entry(token.clone()).or_default().connections;
        connections.insert(id.clone(), ttl);
        self.set_ending(of_connection(token, id), Some(Minute::of(ends_at)));
    }

    /// Removes a connection under a token.
    pub(super) fn forget_token_connection(&mut self, token: &TokenHash, id: &ConnectionId) {
        let there = self.tokens.get_mut(token);
        if there.is_some_and(|it| it.connections.remove(id).is_some()) {
            self.set_ending(of_connection(token, id), None);
        }
    }

    /// Applies the index updates due at `now`. Writes from now on become visible at `later`.
    pub(super) fn index_at(&mut self, now: Timestamp, later: Timestamp) {
        self.undrained.at(now, later);
        self.endings.at(now, later);
        self.due.at(now, later);
    }

    pub(super) fn set_undrained(&mut self, log: &LogId, undrained: bool) {
        let key = log.to_string();
        let shard = undrained.then(|| shard_of(&key));
        self.undrained.put((key, log.clone()), shard);
    }

    /// The undrained logs of a shard with their keys, ordered by key.
    pub(super) fn undrained(&self, shard: u32) -> Option<&BTreeSet<(String, LogId)>> {
        self.undrained.partition(shard)
    }

    pub(super) fn set_ending(&mut self, ending: Ending, minute: Option<Minute>) {
        self.endings.put(ending, minute);
    }

    pub(super) fn set_due(&mut self, key: &SessionKey, minute: Option<Minute>) {
        self.due.put(key.clone(), minute);
    }

    /// The sessions that are due in a minute.
    pub(super) fn due(&self, minute: Minute) -> Option<&BTreeSet<SessionKey>> {
        self.due.partition(minute)
    }

    /// The tokens and connections that end in a minute.
    pub(super) fn endings(&self, minute: Minute) -> Option<&BTreeSet<Ending>> {
        self.endings.partition(minute)
    }
}

fn of_connection(token: &TokenHash, id: &ConnectionId) -> Ending {
    Ending {
        token: token.clone(),
        connection: Some(id.clone()),
    }
}

/// The shard of a log's key: FNV-1a.
fn shard_of(key: &str) -> u32 {
    key.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    }) % SHARDS
}
