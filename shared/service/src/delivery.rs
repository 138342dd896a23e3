//! From a log's events to connections, in order.
//!
//! Each file uses only those below it: `drain` → `fan_out` → `frames`, `notices`, `receipts` → `push` → `gate` → `release` →
//! `post`. What a release finds out about receipts is returned as data, so nothing calls back up.

pub(crate) mod drain;
pub(crate) mod fan_out;
mod frames;
pub(crate) mod gate;
pub(crate) mod notices;
pub(crate) mod post;
pub(crate) mod push;
pub(crate) mod receipts;
mod references;
pub(crate) mod release;
