//! From a log's events to connections, in order.
//!
//! Each file uses only those after it: `drain` → `fan_out` → `frames`, `lease`; `notices` → `notifier`; both → `push` → `gate` →
//! `release` → `references`, `post`, `receipts`. A release returns receipts as data, so no file calls back up.

pub(crate) mod drain;
pub(crate) mod fan_out;
mod frames;
pub(crate) mod gate;
pub(crate) mod lease;
mod notices;
pub(crate) mod notifier;
pub(crate) mod post;
pub(crate) mod push;
pub(crate) mod receipts;
mod references;
pub(crate) mod release;
