//! Every retry of the service, as a table of named policies.
//!
//! | policy | retried | retries | pauses |
//! |---|---|---|---|
//! | [`STORE`] | a write or read that failed and is safe to repeat | 8 | 5 ms doubling to 320 ms |
//! | [`CONFLICT`] | a decision that another write overtook | 16 | 5 ms doubling to 40 ms |
//! | [`CLOSING_LOG`] | a change of a channel whose log is closed but whose row is still open | 6 | as [`CONFLICT`] |
//! | [`THROTTLED_ANSWER`] | a throttled response or `ack` | 5 | 40 ms doubling to 320 ms |
//! | [`THROTTLED_PUSH`] | a throttled push, if other posts of the same fan-out succeed | 8 | as [`THROTTLED_ANSWER`] |
//! | [`THROTTLED_IN_VAIN`] | a throttled push, while no other post succeeds either | 3 | as [`THROTTLED_ANSWER`] |
//! | [`CLOSE`] | closing a connection that may still be open | 8 | as [`THROTTLED_ANSWER`] |
//!
//! Each pause is drawn from its length to twice its length. These retries are around calls of a port. Below the port, the
//! store's client repeats a single request at most twice.

use core::time::Duration;

/// How often a call is retried, and how long the pauses between tries are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    /// Tries after the first one.
    pub(crate) retries: u32,
    /// Milliseconds before the first retry. Each later pause is twice as long.
    first: u64,
    /// How often the pause doubles at most.
    doublings: u32,
}

/// For calls of the store that are safe to repeat.
pub(crate) const STORE: Retry = Retry {
    retries: 8,
    first: 5,
    doublings: 6,
};
/// For decisions that another write overtook. The pause stays short: with a longer one, writers that arrive in the meantime
/// would always be first.
pub(crate) const CONFLICT: Retry = Retry {
    retries: 16,
    first: 5,
    doublings: 3,
};
/// For changes of a channel whose log has taken its last event. Its writer is about to end the channel.
pub(crate) const CLOSING_LOG: Retry = Retry {
    retries: 6,
    ..CONFLICT
};
/// For posts of a response or an `ack`.
pub(crate) const THROTTLED_ANSWER: Retry = Retry {
    retries: 5,
    first: 40,
    doublings: 3,
};
/// For pushes. A client that takes only few messages must not keep the other receivers of its log waiting.
pub(crate) const THROTTLED_PUSH: Retry = Retry {
    retries: 8,
    ..THROTTLED_ANSWER
};
/// For pushes while every other post of the fan-out is throttled too.
pub(crate) const THROTTLED_IN_VAIN: Retry = Retry {
    retries: 3,
    ..THROTTLED_ANSWER
};
/// For closing a connection.
pub(crate) const CLOSE: Retry = Retry {
    retries: 8,
    ..THROTTLED_ANSWER
};

impl Retry {
    /// Returns the pause before retry number `attempt` (from 0), or `None` if the tries are used up.
    ///
    /// `salt` spreads the pauses of callers that collided, so that they do not collide again.
    pub(crate) fn pause(self, attempt: u32, salt: &str) -> Option<Duration> {
        if attempt >= self.retries {
            return None;
        }
        let spread = salt
            .bytes()
            .fold(0_u64, |sum, byte| (sum * 31 + u64::from(byte)) % 1_000);
        let base = self.first << attempt.min(self.doublings);
        Some(Duration::from_millis(base + base * spread / 1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_doubles_up_to_its_bound() {
        let pauses: Vec<u128> = (0..)
            .map_while(|attempt| STORE.pause(attempt, ""))
            .map(|pause| pause.as_millis())
            .collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 320]);
        assert_eq!(CONFLICT.pause(9, ""), Some(Duration::from_millis(40)));
        assert_eq!(CONFLICT.pause(16, ""), None);
    }

    #[test]
    fn salt_spreads_pauses_within_bounds() {
        for salt in ["a", "connection", "z9"] {
            let pause = STORE.pause(0, salt).unwrap().as_millis();
            assert!((5..10).contains(&pause), "{salt}: {pause}");
        }
    }
}
