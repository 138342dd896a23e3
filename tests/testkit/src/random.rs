//! Pseudo-random numbers from a seed. The same seed gives the same run.

use std::sync::{Arc, Mutex, PoisonError};

/// A seeded generator (SplitMix64). Clones continue the same stream.
#[derive(Clone, Debug)]
pub struct Random(Arc<Mutex<u64>>);

impl Random {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    /// The next 64 bits.
    #[must_use]
    pub fn bits(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = *state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`, or 0 if `bound` is 0.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        // The bias of the remainder is far below what a test could notice.
        self.bits().checked_rem(bound).unwrap_or(0)
    }

    /// An index into `len` items, or 0 if there are none.
    #[must_use]
    pub fn index(&self, len: usize) -> usize {
        let bound = u64::try_from(len).unwrap_or(u64::MAX);
        usize::try_from(self.below(bound)).unwrap_or(0)
    }

    /// Returns true `per_mille` times in a thousand.
    #[must_use]
    pub fn chance(&self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1_000) < u64::from(per_mille)
    }

    /// One of `items`, or `None` if there are none.
    #[must_use]
    pub fn choose<'a, T>(&self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.index(items.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_one_seeded_stream() {
        let (one, other) = (Random::new(7), Random::new(7));
        let clone = one.clone();
        let drawn = [one.bits(), clone.bits(), one.bits()];
        assert_eq!(drawn, [other.bits(), other.bits(), other.bits()]);
        assert_ne!(drawn[0], drawn[1]);
        assert_ne!(Random::new(8).bits(), drawn[0]);
    }

    #[test]
    fn chance_matches_its_rate() {
        let random = Random::new(1);
        let hits = (0..10_000).filter(|_| random.chance(250)).count();
        assert!((2_200..2_800).contains(&hits), "{hits}");
        assert!((0..1_000).all(|_| !random.chance(0)));
        assert!((0..1_000).all(|_| random.chance(1_000)));
    }
}
