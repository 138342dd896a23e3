//! Slots that a function took at the end of a log, and what it leaves there for the lease holder.

use protocol::{LogId, change::LogEntry};

use crate::ports::{Head, Page, Receiver};

/// The last slot of an allocation.
#[derive(Clone, Debug)]
pub(crate) struct Allocated {
    /// The head as the allocation left it.
    pub(crate) head: Head,
    /// The event, once it is in the slot.
    pub(crate) entry: Option<LogEntry>,
    /// The first receivers of the event, if they were read while it was stored.
    pub(crate) ahead: Option<Page<Receiver>>,
}

impl From<Head> for Allocated {
    fn from(head: Head) -> Self {
        Self {
            head,
            entry: None,
            ahead: None,
        }
    }
}

/// What a commit leaves in a log to be pushed.
#[derive(Debug, Default)]
pub(crate) enum LogWork {
    #[default]
    Nothing,
    /// Slots were allocated. The head in `allocated` names the lease holder, who has to drain the log.
    Allocated {
        log: LogId,
        allocated: Box<Allocated>,
        /// The events in these slots. Empty if the slots were voided.
        entries: Vec<LogEntry>,
    },
    /// Events were committed without an allocation, so no function took the lease.
    Unleased { log: LogId },
}

impl LogWork {
    /// The log, if anything was left in one.
    pub(crate) const fn log(&self) -> Option<&LogId> {
        match self {
            Self::Nothing => None,
            Self::Allocated { log, .. } | Self::Unleased { log } => Some(log),
        }
    }
}
