//! Time and randomness that a test controls.

use core::time::Duration;

use protocol::Timestamp;
use service::ports;

use crate::{clock::Clock, random::Random};

/// An [`Environment`](ports::Environment) of a virtual clock and a seed. Clones share both.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub clock: Clock,
    /// The source of ids and tokens.
    pub random: Random,
}

impl Surroundings {
    /// Combines a clock and a random stream.
    #[must_use]
    pub fn new(clock: Clock, random: Random) -> Self {
        Self { clock, random }
    }
}

impl ports::Clock for Surroundings {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn sleep(&self, duration: Duration) {
        self.clock.sleep(duration).await;
    }
}

impl ports::Random for Surroundings {
    fn fresh_id(&self) -> String {
        // The version and the variant of a random UUID (RFC 9562, 5.4).
        let high = (self.random.bits() & !0xf000) | 0x4000;
        let low = (self.random.bits() & !(0b11 << 62)) | (0b10 << 62);
        let hex = format!("{high:016x}{low:016x}");
        let mut id = String::with_capacity(36);
        for (at, digit) in hex.chars().enumerate() {
            if matches!(at, 8 | 12 | 16 | 20) {
                id.push('-');
            }
            id.push(digit);
        }
        id
    }

    fn fresh_token(&self) -> String {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        // 43 characters of base64url are 256 bits.
        (0..43)
            .filter_map(|_| self.random.choose(ALPHABET))
            .map(|byte| char::from(*byte))
            .collect()
    }
}

impl ports::Metrics for Surroundings {}

impl ports::TokenVerifier for Surroundings {}

#[cfg(test)]
mod tests {
    use service::ports::Random as _;

    use super::*;

    #[test]
    fn seed_determines_ids_and_tokens() {
        let surroundings =
            |seed| Surroundings::new(Clock::manual(Timestamp::from_millis(0)), Random::new(seed));
        let (one, same, other) = (surroundings(3), surroundings(3), surroundings(4));
        let id = one.fresh_id();
        assert_eq!((id.len(), &id[14..15]), (36, "4"), "{id}");
        assert!(id.split('-').map(str::len).eq([8, 4, 4, 4, 12]), "{id}");
        assert_eq!(id, same.fresh_id());
        assert_ne!(id, one.fresh_id());
        assert_ne!(id, other.fresh_id());
        assert_eq!(one.fresh_token().len(), 43);
    }
}
