//! The capacity that all requests consumed, as DynamoDB would bill it.

use std::sync::{Mutex, PoisonError};

use dynoxide::DynoxideError;
use dynoxide::types::ConsumedCapacity;
use serde::Serialize;

/// Capacity units and requests since the start.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Units {
    read: f64,
    write: f64,
    requests: u64,
}

/// The kind of units that a request consumes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Read,
    Write,
}

/// Adds up the consumed capacity.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Units>);

impl Tally {
    /// Records a successful request.
    pub(super) fn answered(&self, kind: Kind, consumed: &Option<impl Consumed>) {
        self.add(kind, consumed.as_ref().map_or(0.0, Consumed::units));
    }

    /// Records a failed request. A failed condition costs as much as the write. The engine does not report how much, so
    /// this uses DynamoDB's minimum: 1 for an item and 2 for each item of a transaction
    /// (docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html, 2026-08).
    pub(super) fn failed(&self, kind: Kind, error: &DynoxideError) {
        let items = match error {
            DynoxideError::ConditionalCheckFailedException(..) => 1.0,
            DynoxideError::TransactionCanceledException(_, reasons) => {
                reasons.iter().map(|_| 2.0).sum()
            }
            _ => 0.0,
        };
        self.add(kind, items);
    }

    fn add(&self, kind: Kind, consumed: f64) {
        let mut units = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        units.requests += 1;
        match kind {
            Kind::Read => units.read += consumed,
            Kind::Write => units.write += consumed,
        }
    }

    /// Returns the sums as JSON.
    pub(super) fn to_json(&self) -> String {
        let units = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::json!(units).to_string()
    }
}

/// Returns true if the caller requested the consumed capacity.
pub(super) fn is_asked(level: &Option<String>) -> bool {
    level.as_deref().is_some_and(|level| level != "NONE")
}

/// The consumed capacity in a response, of one table or of each table.
pub(super) trait Consumed {
    /// Returns the total units.
    fn units(&self) -> f64;
}

impl Consumed for ConsumedCapacity {
    fn units(&self) -> f64 {
        self.capacity_units
    }
}

impl Consumed for Vec<ConsumedCapacity> {
    fn units(&self) -> f64 {
        self.iter().map(|table| table.capacity_units).sum()
    }
}
