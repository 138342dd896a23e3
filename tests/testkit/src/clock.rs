//! Virtual time: it stands still until a caller moves it.

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use protocol::Timestamp;

/// A clock that its callers move. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    now: Timestamp,
    /// True if a sleeper moves the clock itself.
    automatic: bool,
    timers: BTreeMap<(Timestamp, u64), Waker>,
    next_timer: u64,
}

impl Clock {
    /// A clock that only [`Clock::advance`] and [`Clock::advance_to_next`] move. Sleepers wait for them.
    #[must_use]
    pub fn manual(now: Timestamp) -> Self {
        Self::new(now, false)
    }

    /// A clock that jumps ahead as soon as a task sleeps, for tests without an executor that knows the clock.
    #[must_use]
    pub fn automatic(now: Timestamp) -> Self {
        Self::new(now, true)
    }

    fn new(now: Timestamp, automatic: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            now,
            automatic,
            timers: BTreeMap::new(),
            next_timer: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current virtual time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.lock().now
    }

    /// Moves the clock by `by` and wakes the sleepers whose time has come.
    pub fn advance(&self, by: Duration) {
        let to = self.now().plus(by);
        self.advance_to(to);
    }

    /// Moves the clock to `to`, never back, and wakes the sleepers whose time has come.
    pub fn advance_to(&self, to: Timestamp) {
        let due: Vec<Waker> = {
            let mut state = self.lock();
            state.now = state.now.max(to);
            let after = Timestamp::from_millis(state.now.millis() + 1);
            let later = state.timers.split_off(&(after, 0));
            core::mem::replace(&mut state.timers, later)
                .into_values()
                .collect()
        };
        for waker in due {
            waker.wake();
        }
    }

    /// The time at which the next sleeper wakes.
    #[must_use]
    pub fn next_timer(&self) -> Option<Timestamp> {
        self.lock().timers.keys().next().map(|(at, _)| *at)
    }

    /// Moves the clock to the next timer. Returns false if there is none.
    pub fn advance_to_next(&self) -> bool {
        let next = self.next_timer();
        if let Some(at) = next {
            self.advance_to(at);
        }
        next.is_some()
    }

    /// Returns when the clock stands at least `duration` later than now.
    pub async fn sleep(&self, duration: Duration) {
        let until = self.now().plus(duration);
        pause().await;
        if self.lock().automatic {
            self.advance_to(until);
        }
        Sleep {
            clock: self,
            until,
            timer: None,
        }
        .await;
    }
}

struct Sleep<'a> {
    clock: &'a Clock,
    until: Timestamp,
    timer: Option<(Timestamp, u64)>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let until = self.until;
        let mut state = self.clock.lock();
        if let Some(old) = self.timer {
            state.timers.remove(&old);
        }
        if until <= state.now {
            return Poll::Ready(());
        }
        let timer = (until, state.next_timer);
        state.next_timer += 1;
        state.timers.insert(timer, context.waker().clone());
        drop(state);
        self.timer = Some(timer);
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            self.clock.lock().timers.remove(&timer);
        }
    }
}

/// Lets the executor run other tasks first. Here tasks interleave, and here a task can be killed.
pub async fn pause() {
    let mut paused = false;
    core::future::poll_fn(|context| {
        if paused {
            return Poll::Ready(());
        }
        paused = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, executor::block_on, future::join};

    use super::*;

    #[test]
    fn sleeper_wakes_at_its_deadline() {
        let clock = Clock::manual(Timestamp::from_millis(0));
        let mut sleeper = Box::pin(clock.sleep(Duration::from_millis(10)));
        for _ in 0..3 {
            assert!((&mut sleeper).now_or_never().is_none());
        }
        assert_eq!(clock.next_timer(), Some(Timestamp::from_millis(10)));
        clock.advance(Duration::from_millis(9));
        assert!((&mut sleeper).now_or_never().is_none());
        clock.advance(Duration::from_millis(1));
        assert!(sleeper.now_or_never().is_some());
        assert!(!clock.advance_to_next());
    }

    #[test]
    fn dropped_sleeper_leaves_no_timer() {
        let clock = Clock::manual(Timestamp::from_millis(0));
        let mut sleeper = Box::pin(clock.sleep(Duration::from_secs(1)));
        for _ in 0..2 {
            assert!((&mut sleeper).now_or_never().is_none());
        }
        assert!(clock.next_timer().is_some());
        drop(sleeper);
        assert!(clock.next_timer().is_none());
    }

    #[test]
    fn automatic_clock_advances_on_sleep() {
        let clock = Clock::automatic(Timestamp::from_millis(0));
        block_on(join(
            clock.sleep(Duration::from_secs(3)),
            clock.sleep(Duration::from_secs(5)),
        ));
        assert_eq!(clock.now(), Timestamp::from_millis(5_000));
    }
}
