//! The counts and violations of all devices, and the summary of a soak.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

/// The number of violations that the summary shows in full.
const SHOWN: usize = 20;

/// A count of the summary table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Count {
    Stored,
    AnsweredAsDuplicate,
    Repeated,
    Pushed,
    PushedTwice,
    Resyncs,
    Gaps,
    Connections,
    Refused,
    Resumes,
    Resumed,
    Paged,
    Unanswered,
    NoResponse,
    FunctionErrors,
    Unavailable,
    Dropped,
}

/// A violated invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Violation {
    Lost,
    Duplicated,
    OutOfOrder,
    Different,
    SilentGap,
    NeverDelivered,
    ResumeNotContiguous,
    AnsweredTwice,
}

impl Violation {
    const ALL: [Self; 8] = [
        Self::Lost,
        Self::Duplicated,
        Self::OutOfOrder,
        Self::Different,
        Self::SilentGap,
        Self::NeverDelivered,
        Self::ResumeNotContiguous,
        Self::AnsweredTwice,
    ];

    const fn text(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::OutOfOrder => "out of order",
            Self::Different => "seen differently",
            Self::SilentGap => "gaps without a resync",
            Self::NeverDelivered => "log ends that were never delivered",
            Self::ResumeNotContiguous => "resumes with a gap",
            Self::AnsweredTwice => "answered twice",
        }
    }
}

impl Count {
    const fn text(self) -> &'static str {
        match self {
            Self::Stored => "messages stored",
            Self::AnsweredAsDuplicate => "  of these retried and answered as duplicate",
            Self::Repeated => "repeated on purpose",
            Self::Pushed => "events pushed to devices",
            Self::PushedTwice => "  of these pushed before",
            Self::Resyncs => "resyncs",
            Self::Gaps => "gaps fetched",
            Self::Connections => "connections",
            Self::Refused => "failed handshakes that were retried",
            Self::Resumes => "resumes",
            Self::Resumed => "  events in them",
            Self::Paged => "events paged by get-history",
            Self::Unanswered => "retried without an answer",
            Self::NoResponse => "acknowledged with the response lost",
            Self::FunctionErrors => "function errors received",
            Self::Unavailable => "answered `unavailable`",
            Self::Dropped => "connections dropped by the service",
        }
    }
}

/// The shared counts.
#[derive(Debug)]
pub(super) struct Tally {
    begun: Instant,
    until: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    counts: BTreeMap<Count, u64>,
    violations: BTreeMap<Violation, u64>,
    details: Vec<String>,
}

impl Tally {
    pub(super) fn new(until: Instant) -> Self {
        Self {
            begun: Instant::now(),
            until,
            inner: Mutex::default(),
        }
    }

    /// Returns true if the time for sending is over.
    pub(super) fn is_over(&self) -> bool {
        self.until <= Instant::now()
    }

    pub(super) fn add(&self, what: Count, number: u64) {
        *self.lock().counts.entry(what).or_default() += number;
    }

    pub(super) fn one(&self, what: Count) {
        self.add(what, 1);
    }

    pub(super) fn violated(&self, what: Violation, detail: &str) {
        let mut inner = self.lock();
        *inner.violations.entry(what).or_default() += 1;
        if inner.details.len() < SHOWN {
            let after = self.begun.elapsed().as_secs_f64();
            inner
                .details
                .push(format!("{}: {detail} ({after:.1} s)", what.text()));
        }
    }

    #[allow(clippy::print_stdout, reason = "a tool that shows its progress")]
    pub(super) fn print_progress(&self, messages: u64) {
        let inner = self.lock();
        let count = |what| inner.counts.get(&what).copied().unwrap_or(0);
        println!(
            "{:>6.0} s: {} of {messages} stored, {} pushed, {} connections, {} resyncs, {} violations",
            self.begun.elapsed().as_secs_f64(),
            count(Count::Stored),
            count(Count::Pushed),
            count(Count::Connections),
            count(Count::Resyncs),
            inner.violations.values().sum::<u64>(),
        );
    }

    /// Returns the summary. `struck` has the number of injections of each fault.
    pub(super) fn summary(&self, took: Duration, struck: &Value) -> Summary {
        let inner = self.lock();
        let faults = struck.as_object().into_iter().flatten();
        Summary {
            took,
            counts: inner.counts.clone(),
            faults: faults
                .filter_map(|(name, count)| Some((name.clone(), count.as_u64()?)))
                .collect(),
            violations: inner.violations.clone(),
            details: inner.details.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The results of a soak. Its `Display` is a table.
#[derive(Clone, Debug)]
pub struct Summary {
    took: Duration,
    counts: BTreeMap<Count, u64>,
    faults: BTreeMap<String, u64>,
    violations: BTreeMap<Violation, u64>,
    details: Vec<String>,
}

impl Summary {
    /// Returns the number of stored messages.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.counts.get(&Count::Stored).copied().unwrap_or(0)
    }

    /// Returns how often a fault, such as `hang-post`, was injected.
    #[must_use]
    pub fn struck(&self, fault: &str) -> u64 {
        self.faults.get(fault).copied().unwrap_or(0)
    }

    /// Checks that all invariants held.
    ///
    /// # Errors
    /// Fails if an invariant was violated.
    pub fn verdict(&self) -> Result<()> {
        ensure!(
            self.violations.is_empty(),
            "the invariants do not hold\n{self}"
        );
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: &dyn fmt::Display| writeln!(f, "{name:<46} {value:>10}");
        for (what, count) in &self.counts {
            line(what.text(), count)?;
        }
        line(
            "seconds of sending",
            &format!("{:.0}", self.took.as_secs_f64()),
        )?;
        let rate = |what| {
            let count = self.counts.get(&what).copied().unwrap_or(0);
            let count = u32::try_from(count).map_or(f64::INFINITY, f64::from);
            format!("{:.0}", count / self.took.as_secs_f64())
        };
        line("messages a second", &rate(Count::Stored))?;
        line("pushes a second", &rate(Count::Pushed))?;
        for (name, count) in &self.faults {
            line(&format!("fault {name}"), count)?;
        }
        line("total faults", &self.faults.values().sum::<u64>())?;
        for violation in Violation::ALL {
            let count = self.violations.get(&violation).copied().unwrap_or(0);
            line(&format!("VIOLATION {}", violation.text()), &count)?;
        }
        for detail in &self.details {
            writeln!(f, "{detail}")?;
        }
        Ok(())
    }
}
