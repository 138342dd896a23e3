//! Executing a change of a channel: slots for its events, then one transaction.
//!
//! | the function dies after | what is left | who repairs it |
//! |---|---|---|
//! | the slots | gaps | the next reader or drain voids them |
//! | the transaction | events that were not pushed | the lease ends, and the next writer, reader or expiry run drains the log |
//! | the transaction that ends a channel | rows of a channel that ended | the worker, whose job was started before |

use protocol::{ConnectionId, LogId, Rejection, ServerMessage, change::Change, plan::Plan};

use super::{
    history::LogReader,
    slots::{Allocated, LogWork},
};
use crate::{
    Store,
    parts::part,
    ports::{AllocateError, Allocation, Environment, Fault, Measure, Workers},
};

part! {
    /// Executes changes of channels.
    Changer
}

/// Slots that were taken for a change. They are kept while the change is decided again.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    log: LogId,
    /// The last allocation.
    allocated: Allocated,
    /// How many slots it took.
    count: u64,
    nonce: String,
}

impl Slots {
    fn first(&self) -> u64 {
        self.last() + 1 - self.count
    }

    const fn last(&self) -> u64 {
        self.allocated.head.sequence
    }
}

/// What one try of a change did.
#[derive(Debug)]
pub(crate) enum Tried {
    /// The change took place.
    Done {
        /// The required response, if the change brings one.
        answer: Option<ServerMessage>,
        /// The events that are to be pushed.
        work: LogWork,
    },
    /// Another write was first: everything is to be read and decided again, with these slots.
    Conflict(Option<Slots>),
    /// The change is refused. These slots are not needed any more.
    Rejected(Rejection, Option<Slots>),
}

impl<S: Store, G, W: Workers, E: Environment> Changer<'_, S, G, W, E> {
    /// Tries a change once, with the slots that an earlier try took.
    pub(crate) async fn try_change(
        &self,
        plan: &Plan,
        origin: Option<&ConnectionId>,
        holder: &str,
        slots: Option<Slots>,
    ) -> Result<Tried, Fault> {
        let log = plan.channel.log();
        if plan.create || plan.slots() == 0 {
            return self.change_without_slots(plan, origin, slots).await;
        }
        // 1. Slots: those of an earlier try if they are still the last ones, new ones otherwise.
        let kept = match slots {
            Some(slots) => self.keep_if_last(plan, slots).await?,
            None => None,
        };
        let taken = match kept {
            Some(slots) => Some(slots),
            None => self.take_slots(&log, plan, holder).await?,
        };
        let slots = match taken {
            Some(slots) => slots,
            None if plan.close => return self.finish_closing(plan).await,
            None => return Ok(Tried::Rejected(Rejection::no_channel(), None)),
        };

        // 2. The transaction.
        let at = slots.allocated.head.allocated_at;
        let (change, answer) = plan.settle(slots.first(), at, &slots.nonce, origin);
        if self.commit(&log, &change, &slots.nonce).await? {
            // The plan may need fewer slots than an earlier try took.
            for sequence in slots.first() + plan.slots()..=slots.last() {
                self.reader().void_slot(&log, sequence).await?;
            }
            let work = LogWork::Allocated {
                log,
                allocated: Box::new(slots.allocated),
                entries: change.entries,
            };
            return Ok(Tried::Done { answer, work });
        }

        // 3. After a conflict the slots serve the next try, unless a reader has voided them.
        if let Some(entry) = change.entries.first() {
            let first = self.ports.store.entry(&log, entry.event.sequence).await?;
            if first.is_some() {
                self.give_up(slots).await?;
                return Ok(Tried::Conflict(None));
            }
        }
        Ok(Tried::Conflict(Some(slots)))
    }

    /// Tries a change that creates its log, or that has no events.
    async fn change_without_slots(
        &self,
        plan: &Plan,
        origin: Option<&ConnectionId>,
        slots: Option<Slots>,
    ) -> Result<Tried, Fault> {
        let log = plan.channel.log();
        let nonce = self.ports.environment.fresh_id();
        let at = self.ports.environment.now();
        let (change, answer) = plan.settle(1, at, &nonce, origin);
        if !self.commit(&log, &change, &nonce).await? {
            return Ok(Tried::Conflict(slots));
        }
        let work = match slots {
            Some(slots) => self.give_up(slots).await?,
            None if change.entries.is_empty() => LogWork::Nothing,
            None => LogWork::Unleased { log },
        };
        Ok(Tried::Done { answer, work })
    }

    /// Returns the slots if they still serve, and voids them otherwise.
    ///
    /// A writer that took a later slot may have changed the channel already, and an event that is decided after that change
    /// must not stand before it. A writer that takes a slot from now on meets the version that was read before.
    async fn keep_if_last(&self, plan: &Plan, slots: Slots) -> Result<Option<Slots>, Fault> {
        let head = self.ports.store.head(&slots.log).await?;
        if slots.count >= plan.slots() && head.is_some_and(|head| head.sequence == slots.last()) {
            return Ok(Some(slots));
        }
        self.give_up(slots).await?;
        Ok(None)
    }

    /// Ends a channel whose log has taken its last event but which is still open: the writer of that event died before the
    /// transaction. The event's slot is used unless it was voided. The channel ends either way.
    async fn finish_closing(&self, plan: &Plan) -> Result<Tried, Fault> {
        let log = plan.channel.log();
        let Some(head) = self.ports.store.head(&log).await? else {
            return Ok(Tried::Conflict(None));
        };
        let nonce = self.ports.environment.fresh_id();
        let (mut change, answer) = plan.settle(head.sequence, head.allocated_at, &nonce, None);
        let last = self.ports.store.entry(&log, head.sequence).await?;
        if last.is_some() {
            change.entries.clear();
        }
        if !self.commit(&log, &change, &nonce).await? {
            return Ok(Tried::Conflict(None));
        }
        let work = if change.entries.is_empty() {
            LogWork::Nothing
        } else {
            LogWork::Unleased { log }
        };
        Ok(Tried::Done { answer, work })
    }

    /// Voids slots that will not be used. The log may still have to be drained: the lease may have come with them.
    pub(crate) async fn give_up(&self, slots: Slots) -> Result<LogWork, Fault> {
        for sequence in slots.first()..=slots.last() {
            self.reader().void_slot(&slots.log, sequence).await?;
        }
        Ok(LogWork::Allocated {
            log: slots.log,
            allocated: Box::new(slots.allocated),
            entries: Vec::new(),
        })
    }

    /// Executes the transaction. Returns false on a conflict. If the answer is lost, the nonce of the stored event
    /// tells if the transaction took place.
    async fn commit(&self, log: &LogId, change: &Change, nonce: &str) -> Result<bool, Fault> {
        let store = self.ports.store;
        let mut attempt = 0;
        loop {
            match store.change(change).await {
                Ok(()) => return Ok(true),
                Err(Fault::Conflict) if attempt == 0 => {
                    self.ports.environment.measure(Measure::Conflict);
                    return Ok(false);
                }
                Err(Fault::Conflict) => {
                    let Some(first) = change.entries.first() else {
                        return Ok(false);
                    };
                    let stored = store.entry(log, first.event.sequence).await?;
                    return Ok(stored.is_some_and(|entry| entry.nonce == nonce));
                }
                Err(fault) => self.ports.retry_store(&mut attempt, nonce, fault).await?,
            }
        }
    }

    /// Takes slots for the events of `plan`. Returns `None` if the log takes no more events.
    async fn take_slots(
        &self,
        log: &LogId,
        plan: &Plan,
        holder: &str,
    ) -> Result<Option<Slots>, Fault> {
        let count = plan.slots();
        let mut attempt = 0;
        loop {
            let allocation = Allocation {
                count,
                at: self.ports.environment.now(),
                lease: self.ports.lease(holder),
                close: plan.close,
                removal: plan.removes_member(),
            };
            match self.ports.store.allocate(log, &allocation).await {
                Ok(head) => {
                    return Ok(Some(Slots {
                        log: log.clone(),
                        allocated: head.into(),
                        count,
                        nonce: self.ports.environment.fresh_id(),
                    }));
                }
                Err(AllocateError::NotActive) => return Ok(None),
                Err(AllocateError::Fault(fault)) => {
                    self.ports.retry_store(&mut attempt, holder, fault).await?;
                }
            }
        }
    }

    const fn reader(&self) -> LogReader<'_, S, G, W, E> {
        LogReader::of(self.ports)
    }
}
