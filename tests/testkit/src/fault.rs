//! Faults, planned or random, and the points where tasks interleave or are killed.

use core::time::Duration;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use service::ports::Fault;

use crate::{
    clock::{Clock, pause},
    random::Random,
};

/// How one call of a port fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// [`Fault::Conflict`]. The call is not applied.
    Conflict,
    /// [`Fault::Refused`]. The call is not applied.
    Refused,
    /// [`Fault::Unknown`]. The call is applied.
    UnknownApplied,
    /// [`Fault::Unknown`]. The call is not applied.
    UnknownNotApplied,
}

/// How often calls fail at random, per thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// [`Failure::Conflict`]. Never on reads.
    pub conflict: u32,
    pub refused: u32,
    pub unknown_applied: u32,
    pub unknown_not_applied: u32,
}

/// The kind of an operation. Only writes can conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

/// The fault settings of one fake. Clones share them.
#[derive(Clone, Debug)]
pub struct Faults(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Clock,
    random: Random,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    planned: BTreeMap<&'static str, VecDeque<Option<Failure>>>,
    rates: Rates,
    latency: Duration,
    spikes: (u32, Duration),
    calls: BTreeMap<&'static str, usize>,
    injected: usize,
}

impl Faults {
    /// Nothing fails until a fault is planned or a rate is set.
    #[must_use]
    pub fn new(clock: Clock, random: Random) -> Self {
        Self(Arc::new(Shared {
            clock,
            random,
            state: Mutex::default(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next call of the port's method `operation` fail like this. Each call of `next` appends to the plan.
    pub fn next(&self, operation: &'static str, failure: Failure) {
        self.after(operation, 0, failure);
    }

    /// As [`Faults::next`], after `successes` calls that succeed.
    pub fn after(&self, operation: &'static str, successes: usize, failure: Failure) {
        let mut state = self.lock();
        let plan = state.planned.entry(operation).or_default();
        plan.extend(core::iter::repeat_n(None, successes));
        plan.push_back(Some(failure));
    }

    /// Sets how often calls fail at random from now on.
    pub fn set_rates(&self, rates: Rates) {
        self.lock().rates = rates;
    }

    /// Sets the greatest latency of each step from now on. Half of it passes before and half after the step is applied.
    pub fn set_latency(&self, most: Duration) {
        self.lock().latency = most;
    }

    /// Sets how often, per thousand steps, a step takes up to `most` longer, before or after it is applied.
    pub fn set_spikes(&self, chance: u32, most: Duration) {
        self.lock().spikes = (chance, most);
    }

    /// Removes all faults and all latency.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.planned.clear();
        state.rates = Rates::default();
        state.latency = Duration::ZERO;
        state.spikes = (0, Duration::ZERO);
    }

    /// The number of calls of a method. A call of several steps (a batch, a second write) counts each.
    #[must_use]
    pub fn calls(&self, operation: &str) -> usize {
        self.lock().calls.get(operation).copied().unwrap_or(0)
    }

    /// The number of calls that were made to fail.
    #[must_use]
    pub fn injected(&self) -> usize {
        self.lock().injected
    }

    /// Executes one step. Other tasks may run before it is applied and before its answer arrives, and it may fail.
    pub(crate) async fn step<T>(
        &self,
        operation: &'static str,
        kind: Kind,
        apply: impl FnOnce() -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.travel().await;
        let failure = self.draw(operation, kind);
        let answer = match failure {
            None | Some(Failure::UnknownApplied) => apply(),
            Some(Failure::Conflict) => Err(Fault::Conflict),
            Some(Failure::Refused) => Err(Fault::Refused(format!("{operation} throttled"))),
            Some(Failure::UnknownNotApplied) => Err(lost(operation)),
        };
        self.travel().await;
        match failure {
            Some(Failure::UnknownApplied) => Err(lost(operation)),
            _ => answer,
        }
    }

    /// Half of a round trip.
    pub(crate) async fn travel(&self) {
        let (most, (chance, spike)) = {
            let state = self.lock();
            (state.latency / 2, state.spikes)
        };
        // Half of the chance for each of the two ways.
        if chance > 0 && self.0.random.below(2_000) < u64::from(chance) {
            let millis = u64::try_from(spike.as_millis()).unwrap_or(u64::MAX);
            let taken = self.0.random.below(millis.saturating_add(1));
            self.lock().injected += 1;
            self.0.clock.sleep(Duration::from_millis(taken)).await;
        }
        if most.is_zero() {
            pause().await;
        } else {
            let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
            let taken = Duration::from_micros(self.0.random.below(micros.saturating_add(1)));
            self.0.clock.sleep(taken).await;
        }
    }

    pub(crate) fn draw(&self, operation: &'static str, kind: Kind) -> Option<Failure> {
        let mut state = self.lock();
        *state.calls.entry(operation).or_default() += 1;
        let planned = state
            .planned
            .get_mut(operation)
            .and_then(VecDeque::pop_front);
        let failure = planned.unwrap_or_else(|| self.by_chance(state.rates, kind));
        state.injected += usize::from(failure.is_some());
        failure
    }

    fn by_chance(&self, rates: Rates, kind: Kind) -> Option<Failure> {
        let conflict = if kind == Kind::Write {
            rates.conflict
        } else {
            0
        };
        let of = [
            (conflict, Failure::Conflict),
            (rates.refused, Failure::Refused),
            (rates.unknown_applied, Failure::UnknownApplied),
            (rates.unknown_not_applied, Failure::UnknownNotApplied),
        ];
        // One draw for each rate, even a rate of zero, so that which call fails does not depend on the other rates.
        of.map(|(rate, failure)| (self.0.random.below(1_000) < u64::from(rate)).then_some(failure))
            .into_iter()
            .flatten()
            .next()
    }
}

fn lost(operation: &str) -> Fault {
    Fault::Unknown(format!("the answer to {operation} was lost"))
}
