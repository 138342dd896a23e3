//! Fault injection: failures that occasionally happen on AWS, reproduced here from a seed.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `$disconnect` is not invoked.
    DropDisconnect,
    /// An instance is killed in the middle of an invocation.
    KillInstance,
    /// A DynamoDB call takes up to 300 ms longer.
    DelayDynamodb,
    /// A DynamoDB call is throttled or fails, and is not applied.
    FailDynamodb,
    /// A DynamoDB call is applied, but its reply is lost.
    LoseDynamodbReply,
    /// A DynamoDB write conflicts with another transaction.
    ConflictDynamodb,
    /// A POST to `@connections` is answered 429.
    ThrottlePost,
    /// A POST to `@connections` is never answered, and the message is not sent.
    HangPost,
    /// The message of a POST to `@connections` is sent, but the response is lost.
    LosePostReply,
    /// The 101 of a handshake is sent a while after `$connect` has returned.
    DelayUpgrade,
}

impl Kind {
    /// Every kind, in the order of the help text.
    pub const ALL: [Self; 10] = [
        Self::DropDisconnect,
        Self::KillInstance,
        Self::DelayDynamodb,
        Self::FailDynamodb,
        Self::LoseDynamodbReply,
        Self::ConflictDynamodb,
        Self::ThrottlePost,
        Self::HangPost,
        Self::LosePostReply,
        Self::DelayUpgrade,
    ];

    /// Returns the name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.texts().0
    }

    /// Returns true if the fault occurs in DynamoDB.
    #[must_use]
    pub fn is_of_dynamodb(self) -> bool {
        matches!(
            self,
            Self::DelayDynamodb
                | Self::FailDynamodb
                | Self::LoseDynamodbReply
                | Self::ConflictDynamodb
        )
    }

    /// Returns one line for the help text.
    #[must_use]
    pub fn help(self) -> &'static str {
        self.texts().1
    }

    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::DropDisconnect => ("drop-disconnect", "$disconnect is not invoked"),
            Self::KillInstance => (
                "kill-instance",
                "an instance is killed in the middle of an invocation",
            ),
            Self::DelayDynamodb => (
                "delay-dynamodb",
                "a DynamoDB call takes up to 300 ms longer",
            ),
            Self::FailDynamodb => (
                "fail-dynamodb",
                "a DynamoDB call is throttled or fails, and is not applied",
            ),
            Self::LoseDynamodbReply => (
                "lose-dynamodb-reply",
                "a DynamoDB call is applied, but its reply is lost",
            ),
            Self::ConflictDynamodb => (
                "conflict-dynamodb",
                "a DynamoDB write conflicts with another transaction",
            ),
            Self::ThrottlePost => ("throttle-post", "a POST to @connections is answered 429"),
            Self::HangPost => (
                "hang-post",
                "a POST to @connections is never answered, and the message is not sent",
            ),
            Self::LosePostReply => (
                "lose-post-reply",
                "the message of a POST to @connections is sent, but the response is lost",
            ),
            Self::DelayUpgrade => (
                "delay-upgrade",
                "the 101 of a handshake is sent a while after $connect has returned",
            ),
        }
    }
}

/// One `KIND=RATE` of the command line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    pub kind: Kind,
    /// The probability, 0 to 1.
    pub rate: f64,
}

/// Why a `--fault` is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// The text is not of the form `KIND=RATE`.
    #[error("write it as KIND=RATE, for example throttle-post=0.05")]
    Form,
    /// The kind does not exist.
    #[error("there is no fault `{0}`; the faults are {known}", known = KindNames)]
    Kind(String),
    /// The rate is not a number from 0 to 1.
    #[error("`{0}` is not a rate; a rate is a number from 0 (never) to 1 (always)")]
    Rate(String),
}

struct KindNames;

impl fmt::Display for KindNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Kind::ALL.into_iter().map(Kind::name).collect();
        f.write_str(&names.join(", "))
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, rate_text) = text.split_once('=').ok_or(FaultError::Form)?;
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| FaultError::Kind(name.to_owned()))?;
        let rate = rate_text
            .parse()
            .ok()
            .filter(|rate| (0.0..=1.0).contains(rate))
            .ok_or_else(|| FaultError::Rate(rate_text.to_owned()))?;
        Ok(Self { kind, rate })
    }
}

/// Decides when faults are applied. Cheap to clone. All clones share the random generators.
#[derive(Debug, Clone)]
pub struct Faults {
    dice: Arc<[Die]>,
}

/// The random generator and the state of one kind of fault.
#[derive(Debug)]
struct Die {
    kind: Kind,
    /// The bits of the rate, which can change while the gateway runs.
    rate: AtomicU64,
    struck: AtomicU64,
    rng: Mutex<StdRng>,
}

impl Default for Faults {
    fn default() -> Self {
        Self::new(&[], 0)
    }
}

impl Faults {
    /// Creates the faults of the command line. The same seed gives the same decisions. If a kind is given twice, the
    /// last rate applies.
    #[must_use]
    pub fn new(faults: &[Fault], seed: u64) -> Self {
        let dice = Kind::ALL
            .into_iter()
            .zip(0..)
            .map(|(kind, number)| Die {
                kind,
                rate: AtomicU64::new(0),
                struck: AtomicU64::new(0),
                // Derive the seed from the kind, so that other faults do not change this one.
                rng: Mutex::new(StdRng::seed_from_u64(seed ^ (number << 32))),
            })
            .collect();
        let all = Self { dice };
        for fault in faults {
            all.set(*fault);
        }
        all
    }

    /// Changes the rate of a fault from now on.
    pub fn set(&self, fault: Fault) {
        if let Some(die) = self.die(fault.kind) {
            die.rate.store(fault.rate.to_bits(), Ordering::Relaxed);
        }
    }

    /// Decides at random if the fault `kind` is applied now.
    #[must_use]
    pub fn strikes(&self, kind: Kind) -> bool {
        self.die(kind).is_some_and(|die| {
            let rate = f64::from_bits(die.rate.load(Ordering::Relaxed));
            let struck = rate > 0.0 && die.rng().random_bool(rate);
            if struck {
                die.struck.fetch_add(1, Ordering::Relaxed);
            }
            struck
        })
    }

    /// Returns how often each kind was applied.
    #[must_use]
    pub fn struck(&self) -> BTreeMap<&'static str, u64> {
        let count = |die: &Die| (die.kind.name(), die.struck.load(Ordering::Relaxed));
        self.dice.iter().map(count).collect()
    }

    /// Returns a random duration below `most` for an applied fault of `kind`.
    #[must_use]
    pub fn delay(&self, kind: Kind, most: Duration) -> Duration {
        self.die(kind).map_or(Duration::ZERO, |die| {
            most.mul_f64(die.rng().random_range(0.0..1.0))
        })
    }

    /// Chooses at random between two equally likely variants of an applied fault of `kind`.
    #[must_use]
    pub fn heads(&self, kind: Kind) -> bool {
        self.die(kind).is_some_and(|die| die.rng().random_bool(0.5))
    }

    fn die(&self, kind: Kind) -> Option<&Die> {
        self.dice.iter().find(|die| die.kind == kind)
    }
}

impl Die {
    fn rng(&self) -> MutexGuard<'_, StdRng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throws(faults: &[&str], seed: u64, kind: Kind) -> Vec<bool> {
        let faults: Vec<Fault> = faults.iter().map(|fault| fault.parse().unwrap()).collect();
        let faults = Faults::new(&faults, seed);
        (0..1000).map(|_| faults.strikes(kind)).collect()
    }

    #[test]
    fn seed_repeats_regardless_of_other_faults() {
        let alone = throws(&["throttle-post=0.3"], 7, Kind::ThrottlePost);
        let beside = throws(
            &["hang-post=0.5", "throttle-post=0.3"],
            7,
            Kind::ThrottlePost,
        );
        assert_eq!(alone, beside);
        assert_ne!(alone, throws(&["throttle-post=0.3"], 8, Kind::ThrottlePost));
    }

    #[test]
    fn fault_rates_are_kept() {
        let struck = |fault: &str| {
            throws(&[fault], 1, Kind::HangPost)
                .iter()
                .filter(|struck| **struck)
                .count()
        };
        assert_eq!(struck("hang-post=0"), 0);
        assert_eq!(struck("hang-post=1"), 1000);
        assert!((200..300).contains(&struck("hang-post=0.25")));
        assert_eq!(struck("throttle-post=1"), 0, "another kind");
    }

    #[test]
    fn changed_rate_applies_and_is_counted() {
        let faults = Faults::default();
        assert!(!faults.strikes(Kind::HangPost));
        faults.set("hang-post=1".parse().unwrap());
        assert!(faults.strikes(Kind::HangPost) && faults.strikes(Kind::HangPost));
        faults.set("hang-post=0".parse().unwrap());
        assert!(!faults.strikes(Kind::HangPost));
        assert_eq!(faults.struck()["hang-post"], 2);
        assert_eq!(faults.struck()["kill-instance"], 0);
    }

    #[test]
    fn invalid_fault_explains_syntax() {
        let refusal = |text: &str| text.parse::<Fault>().unwrap_err().to_string();
        assert!(refusal("hang-post").contains("KIND=RATE"));
        assert!(refusal("hang=1").contains("hang-post, lose-post-reply"));
        for rate in [
            "hang-post=1.1",
            "hang-post=-0.1",
            "hang-post=NaN",
            "hang-post=often",
        ] {
            assert!(
                refusal(rate).contains("from 0 (never) to 1 (always)"),
                "{rate}"
            );
        }
    }
}
