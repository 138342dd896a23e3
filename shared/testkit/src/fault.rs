//! What goes wrong, on demand or by chance, and where tasks can be interleaved or killed.

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
    /// [`Fault::Conflict`]; nothing is done.
    Conflict,
    /// [`Fault::Refused`]; nothing is done.
    Refused,
    /// [`Fault::Unknown`]; it is done.
    UnknownApplied,
    /// [`Fault::Unknown`]; nothing is done.
    UnknownNotApplied,
}

/// How often calls fail by chance, in a thousand each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// [`Failure::Conflict`]; never on reads.
    pub conflict: u32,
    /// [`Failure::Refused`].
    pub refused: u32,
    /// [`Failure::UnknownApplied`].
    pub unknown_applied: u32,
    /// [`Failure::UnknownNotApplied`].
    pub unknown_not_applied: u32,
}

/// Whether an operation changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

/// The knobs of one fake. Clones turn the same knobs.
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
    /// Nothing fails until it is told to.
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

    /// The next call of the port's method `operation` fails like this; each call adds one to the queue.
    pub fn next(&self, operation: &'static str, failure: Failure) {
        self.after(operation, 0, failure);
    }

    /// As [`Faults::next`], after `successes` calls that go well.
    pub fn after(&self, operation: &'static str, successes: usize, failure: Failure) {
        let mut state = self.lock();
        let plan = state.planned.entry(operation).or_default();
        plan.extend(core::iter::repeat_n(None, successes));
        plan.push_back(Some(failure));
    }

    /// From now on calls fail this often by chance.
    pub fn set_rates(&self, rates: Rates) {
        self.lock().rates = rates;
    }

    /// From now on each step takes up to this long, half of it before and half of it after it takes place.
    pub fn set_latency(&self, most: Duration) {
        self.lock().latency = most;
    }

    /// From now on a step takes, this often in a thousand, up to this much longer, before or after it takes place.
    pub fn set_spikes(&self, chance: u32, most: Duration) {
        self.lock().spikes = (chance, most);
    }

    /// From now on everything goes well at once.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.planned.clear();
        state.rates = Rates::default();
        state.latency = Duration::ZERO;
        state.spikes = (0, Duration::ZERO);
    }

    /// How often a method was called; a call that takes several steps (a batch, a second write) counts each.
    #[must_use]
    pub fn calls(&self, operation: &str) -> usize {
        self.lock().calls.get(operation).copied().unwrap_or(0)
    }

    /// How many calls were made to fail.
    #[must_use]
    pub fn injected(&self) -> usize {
        self.lock().injected
    }

    /// Carries out one step: others may go before it takes place and before its answer arrives, and it may fail.
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

    /// Half of the way to the other side and back.
    pub(crate) async fn travel(&self) {
        let (most, (chance, spike)) = {
            let state = self.lock();
            (state.latency / 2, state.spikes)
        };
        // Half of the chance on each of the two ways.
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
        // One draw for each, also if it cannot hit: which call fails does not depend on the other rates.
        of.map(|(rate, failure)| (self.0.random.below(1_000) < u64::from(rate)).then_some(failure))
            .into_iter()
            .flatten()
            .next()
    }
}

fn lost(operation: &str) -> Fault {
    Fault::Unknown(format!("the answer to {operation} was lost"))
}
