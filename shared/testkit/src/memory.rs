//! All the storage ports in memory, as unkind as a database far away.

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
/// Around each step other tasks may go; a call that a real adapter carries out in several steps takes several here,
/// so that a task may be killed between them.
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

/// A condition that a careless adapter might forget: a test that still passes without it does not test it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// A marker is only set where none stands.
    Marker,
    /// An entry is only put where none stands.
    Entry,
    /// An allocation takes the lease only if nobody holds it.
    Lease,
    /// A change of membership meets the roster that was read.
    Roster,
    /// A log's lease is only given back if nothing was allocated meanwhile.
    Release,
    /// A gate that is raised stands.
    Gate,
    /// What is parked is kept.
    Parked,
    /// A gate is only lowered if nothing is parked behind it, and what is parked is then lost with it.
    Lower,
    /// A connection is only registered under a token that is good.
    Token,
    /// Who has left a channel is no member of it.
    Membership,
}

impl Memory {
    /// An empty database; `clock` says what is past its time to live.
    #[must_use]
    pub fn new(clock: Clock, faults: Faults) -> Self {
        Self {
            clock,
            faults,
            state: Arc::default(),
            knobs: Arc::default(),
        }
    }

    /// An empty database with a clock that jumps ahead when somebody sleeps, and no faults.
    #[must_use]
    pub fn simple(now: Timestamp) -> Self {
        let clock = Clock::automatic(now);
        Self::new(clock.clone(), Faults::new(clock, Random::new(0)))
    }

    /// The knobs for what fails; operations are named as the methods of the ports.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// From now on no page has more items than this, whatever is asked for.
    pub fn cap_pages(&self, most: Option<usize>) {
        self.knob(|it| it.page = most.map(|most| most.max(1)));
    }

    /// From now on the database forgets this condition.
    pub fn ignore(&self, condition: Condition) {
        self.knob(|it| it.ignored = Some(condition));
    }

    fn ignores(&self, condition: Condition) -> bool {
        self.knob(|it| it.ignored == Some(condition))
    }

    /// The row of a member, or of who was one, as it stands now: for a test that looks without taking a step.
    #[must_use]
    pub fn row(&self, channel: &ChannelKey, subscriber: &SubscriberId) -> Option<Member> {
        self.look(|state| {
            let channel = state.channel(channel)?;
            channel.member(subscriber, self.clock.now()).cloned()
        })
    }

    /// Every current member of a channel that is open, as they stand now, with the roster.
    #[must_use]
    pub fn rows(&self, channel: &ChannelKey) -> Option<(Roster, Vec<Member>)> {
        self.look(|state| {
            let channel = state.channel(channel)?;
            let rows = channel.members.values().map(|row| row.member.clone());
            let roster = channel.roster.filter(|it| it.open)?;
            Some((roster, rows.filter(Member::is_current).collect()))
        })
    }

    /// A log's head, as it stands now.
    #[must_use]
    pub fn head_now(&self, log: &LogId) -> Option<Head> {
        self.look(|state| state.heads.get(log).cloned())
    }

    /// Every log's head, as it stands now.
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

    /// From now on what is eventually consistent is this late.
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

    /// Reads many keys in batches; what is written between two batches is seen by the later one only.
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

    /// As many as were asked for, or as the knob allows.
    fn cap(&self, limit: usize) -> usize {
        self.knob(|it| it.page)
            .map_or(limit, |most| limit.min(most))
    }
}

/// The first `limit` of `items`, and whether there are more.
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
