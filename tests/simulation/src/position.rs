//! The client's rule: a position for each destination, after which the client fetches what is missing.

use std::collections::BTreeSet;

use serde_json::Value;

/// How far a client is in a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) at: u64,
    /// Own messages beyond `at`.
    ahead: BTreeSet<u64>,
    /// True if the client knows that something is missing.
    pub(crate) fetch: bool,
}

impl Position {
    pub(crate) fn told(&mut self, sequence: u64) {
        if sequence > self.at {
            self.ahead.insert(sequence);
        }
        while self.ahead.remove(&(self.at + 1)) {
            self.at += 1;
        }
        let at = self.at;
        self.ahead.retain(|it| *it > at);
    }

    /// Returns true if the client knows everything up to `end`.
    pub(crate) fn knows(&self, end: u64) -> bool {
        self.at >= end
    }

    pub(crate) fn told_page(&mut self, events: &Value) {
        for event in events.as_array().unwrap() {
            self.told(event["sequence"].as_u64().unwrap());
        }
    }
}
