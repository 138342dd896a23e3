//! All the storage ports in memory, with the delays and faults of a remote database.

mod change;
mod channels;
mod connections;
mod index;
mod logs;
mod presence;
mod sessions;
mod signed;
mod state;
mod tokens;

use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::{
    ChannelKey, LogId, SubscriberId, Timestamp,
    change::{Member, Roster},
};
use service::ports::{Fault, Head, Page};

use self::state::State;
use crate::fault::Kind;
pub use crate::{
    clock::Clock,
    fault::{Failure, Faults, Rates},
    jobs::Jobs,
    random::Random,
    sockets::{Forced, Frame, Sockets},
    surroundings::Surroundings,
};

/// How many keys one batch read takes (BatchGetItem: 100 keys,
/// docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html, 2026-08).
const BATCH: usize = 100;

/// The storage ports in memory. Clones are the same database.
///
/// Other tasks may run around each step. A call that a real adapter executes in several steps takes several here, so
/// that a task may be killed between them.
#[derive(Clone, Debug)]
pub struct Memory {
    clock: Clock,
    faults: Faults,
    state: Arc<Mutex<State>>,
    knobs: Arc<Mutex<Knobs>>,
}

#[derive(Debug, Default)]
struct Knobs {
    page: Option<usize>,
    index_lag: Duration,
    ignored: Option<Condition>,
}

/// A condition that an adapter could omit by mistake. A test that still passes without it does not test it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// An idempotency record is set only if there is none.
    IdempotencyRecord,
    /// An entry is put only into an empty slot.
    Entry,
    /// An allocation takes the lease only if it is free.
    Lease,
    /// A change of membership applies only to the roster that was read.
    Roster,
    /// A log's lease is released only if nothing was allocated meanwhile.
    Release,
    /// A raised gate is stored.
    Gate,
    /// Parked references are stored.
    Parked,
    /// A gate is lowered only if nothing is parked behind it. Without the condition the parked references are lost with
    /// it.
    Lower,
    /// A connection is registered only under a valid token.
    Token,
    /// A former member is not a member.
    Membership,
    /// The allocation for a removal is noted in the head.
    Removal,
}

impl Memory {
    /// An empty database. `clock` decides what is past its time to live.
    #[must_use]
    pub fn new(clock: Clock, faults: Faults) -> Self {
        Self {
            clock,
            faults,
            state: Arc::default(),
            knobs: Arc::default(),
        }
    }

    /// An empty database without faults, whose clock jumps ahead when a task sleeps.
    #[must_use]
    pub fn simple(now: Timestamp) -> Self {
        let clock = Clock::automatic(now);
        Self::new(clock.clone(), Faults::new(clock, Random::new(0)))
    }

    /// The fault settings. Operations are named as the methods of the ports.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The clock of the database.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Limits every page to this many items from now on, whatever the caller asks for.
    pub fn cap_pages(&self, most: Option<usize>) {
        self.knob(|it| it.page = most.map(|most| most.max(1)));
    }

    /// Makes the database omit this condition from now on.
    pub fn ignore(&self, condition: Condition) {
        self.knob(|it| it.ignored = Some(condition));
    }

    fn ignores(&self, condition: Condition) -> bool {
        self.knob(|it| it.ignored == Some(condition))
    }

    /// The current row of a member or former member, for a test that looks without taking a step.
    #[must_use]
    pub fn row(&self, channel: &ChannelKey, subscriber: &SubscriberId) -> Option<Member> {
        self.look(|state| {
            let channel = state.channel(channel)?;
            channel.member(subscriber, self.clock.now()).cloned()
        })
    }

    /// The current roster and members of a channel, if it is open. Takes no step.
    #[must_use]
    pub fn rows(&self, channel: &ChannelKey) -> Option<(Roster, Vec<Member>)> {
        self.look(|state| {
            let channel = state.channel(channel)?;
            let rows = channel.members.values().map(|row| row.member.clone());
            let roster = channel.roster.filter(|it| it.open)?;
            Some((roster, rows.filter(Member::is_current).collect()))
        })
    }

    /// A log's current head. Takes no step.
    #[must_use]
    pub fn head_now(&self, log: &LogId) -> Option<Head> {
        self.look(|state| state.heads.get(log).cloned())
    }

    /// The current head of every log. Takes no step.
    #[must_use]
    pub fn all_heads(&self) -> Vec<(LogId, Head)> {
        self.look(|state| {
            let heads = state.heads.iter();
            heads
                .map(|(log, head)| (log.clone(), head.clone()))
                .collect()
        })
    }

    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets how late eventually consistent reads are from now on.
    pub fn set_index_lag(&self, lag: Duration) {
        self.knob(|it| it.index_lag = lag);
    }

    fn knob<T>(&self, turn: impl FnOnce(&mut Knobs) -> T) -> T {
        turn(&mut self.knobs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn read<T>(
        &self,
        operation: &'static str,
        look: impl FnOnce(&State, Timestamp) -> T,
    ) -> Result<T, Fault> {
        self.step(operation, Kind::Read, |state, now| Ok(look(state, now)))
            .await
    }

    async fn write<T>(
        &self,
        operation: &'static str,
        apply: impl FnOnce(&mut State, Timestamp) -> T,
    ) -> Result<T, Fault> {
        self.step(operation, Kind::Write, |state, now| Ok(apply(state, now)))
            .await
    }

    async fn step<T>(
        &self,
        operation: &'static str,
        kind: Kind,
        apply: impl FnOnce(&mut State, Timestamp) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.faults
            .step(operation, kind, || {
                let now = self.clock.now();
                let lag = self.knob(|it| it.index_lag);
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.index_at(now, now.plus(lag));
                apply(&mut state, now)
            })
            .await
    }

    /// Reads many keys in batches. A write between two batches is visible to the later one only.
    async fn batch<K: Clone, T>(
        &self,
        operation: &'static str,
        keys: &[K],
        look: impl Fn(&State, Timestamp, &K) -> Option<T>,
    ) -> Result<Vec<(K, T)>, Fault> {
        let mut found = Vec::new();
        for keys in keys.chunks(self.cap(BATCH)) {
            let batch = self.read(operation, |state, now| {
                keys.iter()
                    .filter_map(|key| look(state, now, key).map(|it| (key.clone(), it)))
                    .collect::<Vec<_>>()
            });
            found.extend(batch.await?);
        }
        Ok(found)
    }

    /// `limit`, or the page limit that a test set if that is lower.
    fn cap(&self, limit: usize) -> usize {
        self.knob(|it| it.page)
            .map_or(limit, |most| limit.min(most))
    }
}

/// The first `limit` of `items`. `more` is set if there are others.
fn page<T>(items: impl Iterator<Item = T>, limit: usize) -> Page<T> {
    let mut items: Vec<T> = items.take(limit.saturating_add(1)).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    Page { items, more }
}

/// The range of keys after `after`.
fn beyond<K: Clone + Ord>(after: Option<&K>) -> (core::ops::Bound<K>, core::ops::Bound<K>) {
    use core::ops::Bound::{Excluded, Unbounded};
    (
        after.map_or(Unbounded, |key| Excluded(key.clone())),
        Unbounded,
    )
}

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod tests;
