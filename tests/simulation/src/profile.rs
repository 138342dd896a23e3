//! Which faults a run has.

/// The faults of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    /// Functions die.
    pub(crate) deaths: bool,
    /// The store refuses, loses answers, conflicts, returns small pages, and its index lags.
    pub(crate) store: bool,
    /// Posts are lost, throttled, or of unknown outcome.
    pub(crate) posts: bool,
    /// Jobs are delivered twice.
    pub(crate) twice: bool,
    /// Now and then the store takes longer than a lease lasts, and a post takes as long as it may.
    pub(crate) slow: bool,
    /// Invocations are late or lost.
    pub(crate) wire: bool,
}

/// The number of profiles. The seed modulo this number selects the profile.
pub(crate) const PROFILES: u64 = 8;

impl Profile {
    /// Profile 0 has no faults, the last one has all, and each of the others has one kind.
    pub(crate) fn of(seed: u64) -> Self {
        let is = |profile| [profile, PROFILES - 1].contains(&(seed % PROFILES));
        Self {
            deaths: is(1),
            store: is(2),
            posts: is(3),
            twice: is(4),
            slow: is(5),
            wire: is(6),
        }
    }

    pub(crate) fn is_faulty(self) -> bool {
        self != Self::default()
    }

    /// Returns true if every call is answered, and soon.
    pub(crate) fn is_prompt(self) -> bool {
        !(self.deaths || self.store || self.posts || self.slow)
    }
}
