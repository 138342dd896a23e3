//! A token bucket, as AWS enforces its rates: it fills at a rate and holds a burst.

use std::sync::{Arc, Mutex, PoisonError};

use protocol::Timestamp;

use crate::clock::Clock;

/// Fractions of a token, so that a bucket fills by the millisecond.
const PARTS: u64 = 1_000;

/// A token bucket. Clones are the same one, as everything in an account shares its quotas.
#[derive(Clone, Debug)]
pub struct Bucket {
    clock: Clock,
    rate: u64,
    burst: u64,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    parts: u64,
    filled: Timestamp,
    taken: u64,
    refused: u64,
}

impl Bucket {
    /// A full bucket of `burst` tokens that gains `rate` tokens each second.
    #[must_use]
    pub fn new(clock: Clock, rate: u64, burst: u64) -> Self {
        let state = State {
            parts: burst * PARTS,
            filled: clock.now(),
            taken: 0,
            refused: 0,
        };
        Self {
            clock,
            rate,
            burst,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Takes a token. Returns false if there is none.
    #[must_use]
    pub fn take(&self) -> bool {
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let millis = u64::try_from(now.millis() - state.filled.millis()).unwrap_or(0);
        // One token per second is one part per millisecond.
        let parts = state.parts.saturating_add(millis.saturating_mul(self.rate));
        state.parts = parts.min(self.burst * PARTS);
        state.filled = now;
        let there = state.parts >= PARTS;
        if there {
            state.parts -= PARTS;
            state.taken += 1;
        } else {
            state.refused += 1;
        }
        there
    }

    /// How many tokens were taken, and how often there was none.
    #[must_use]
    pub fn used(&self) -> (u64, u64) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.taken, state.refused)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    #[test]
    fn bucket_gives_burst_then_rate() {
        let clock = Clock::manual(Timestamp::from_millis(0));
        let bucket = Bucket::new(clock.clone(), 500, 20);
        let took = || (0..100).filter(|_| bucket.take()).count();
        assert_eq!(took(), 20);
        clock.advance(Duration::from_millis(3));
        assert_eq!(took(), 1, "one and a half tokens accrued");
        clock.advance(Duration::from_millis(1));
        assert_eq!(took(), 1, "fractions are kept");
        clock.advance(Duration::from_secs(60));
        assert_eq!(bucket.clone().used(), (22, 278));
        assert_eq!(took(), 20, "capped at the burst");
    }
}
