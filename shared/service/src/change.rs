//! Carrying out a change of a channel: places for its events, then one transaction.
//!
//! | dies after | what lies there | who mends it |
//! |---|---|---|
//! | the places | holes | whoever reads or drains past them closes them with void entries |
//! | the transaction | events nobody has pushed | the lease ends, and the next writer, reader or the sweep drains |
//! | | rows of a channel that ended | the worker, whose job was started before |

use protocol::{
    ChannelKey, ConnectionId, Decision, Known, LogId, Rejection, ServerMessage, backend,
    change::{Change, LogEntry},
    decide::{Commit, Then},
    plan::Plan,
};

use crate::{
    Service, Store,
    append::Allocated,
    ports::{AllocateError, Allocation, Environment, Fault, Measure, Workers},
};

/// Places that were taken for a change and are kept while it is decided again.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    log: LogId,
    /// The last allocation.
    pub(crate) allocated: Allocated,
    /// How many places it took.
    count: u64,
    nonce: String,
}

impl Held {
    /// The log of the places.
    pub(crate) const fn log(&self) -> &LogId {
        &self.log
    }

    fn first(&self) -> u64 {
        self.allocated.head.sequence + 1 - self.count
    }
}

/// The decision to go on with a deletion that has begun, although the caller lost its right meanwhile: the log takes nothing
/// any more, and rights are checked when handling starts.
pub(crate) fn go_on_deleting(begun: Option<&ChannelKey>, known: &Known) -> Option<Decision> {
    let channel = begun?;
    let plan = backend::delete_channel(channel, known).ok()??;
    Some(Decision {
        then: Then::Dismantle(channel.clone()),
        ..Decision::commit(Commit::Change(Box::new(plan)))
    })
}

/// A change that took place.
#[derive(Debug)]
pub(crate) struct Changed {
    /// The events it put into the log.
    pub(crate) entries: Vec<LogEntry>,
    /// The required response.
    pub(crate) answer: Option<ServerMessage>,
}

impl<S: Store, G, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Tries a change once; none if another writer was first, and all is to be read and decided again. Places it takes stand
    /// in `held`, also for the next try.
    pub(crate) async fn try_change(
        &self,
        plan: &Plan,
        origin: Option<&ConnectionId>,
        holder: &str,
        held: &mut Option<Held>,
    ) -> Result<Result<Option<Changed>, Rejection>, Fault> {
        let log = plan.channel.log();
        if plan.create || plan.places() == 0 {
            let nonce = self.environment.fresh_id();
            let at = self.environment.now();
            let (change, answer) = plan.settle(1, at, &nonce, origin);
            let entries = change.entries.clone();
            let committed = self.commit(&log, &change, &nonce).await?;
            return Ok(Ok(committed.then_some(Changed { entries, answer })));
        }
        if let Some(places) = held.take() {
            // Whoever took a place after these may have changed the channel already: an event that is decided after that
            // one must not stand before it. (Who takes one from now on meets the version that was read before.)
            let end = self.store.head(&log).await?.map(|it| it.sequence);
            if places.count < plan.places() || end != Some(places.allocated.head.sequence) {
                self.give_up(places).await?;
            } else {
                *held = Some(places);
            }
        }
        let places = match held {
            Some(places) => places,
            None => match self.places(&log, plan, holder).await? {
                Some(places) => held.insert(places),
                None if plan.close => return self.finish_closing(plan).await.map(Ok),
                None => return Ok(Err(Rejection::no_channel())),
            },
        };
        let at = places.allocated.head.allocated_at;
        let (change, answer) = plan.settle(places.first(), at, &places.nonce, origin);
        if self.commit(&log, &change, &places.nonce).await? {
            // Fewer events than places: what is left over will not be used.
            let used = places.first() + plan.places();
            for sequence in used..=places.allocated.head.sequence {
                self.close_hole(&log, sequence).await?;
            }
            return Ok(Ok(Some(Changed {
                entries: change.entries,
                answer,
            })));
        }
        // Were we so slow that a place was closed as a hole? Then the next try needs others.
        if let Some(entry) = change.entries.first()
            && self
                .store
                .entry(&log, entry.event.sequence)
                .await?
                .is_some()
            && let Some(held) = held.take()
        {
            self.give_up(held).await?;
        }
        Ok(Ok(None))
    }

    /// The log took its last event already, but the channel is still open: whoever closed it died before the transaction.
    /// Its place is used, unless it was closed as a hole; the channel ends all the same.
    async fn finish_closing(&self, plan: &Plan) -> Result<Option<Changed>, Fault> {
        let log = plan.channel.log();
        let Some(head) = self.store.head(&log).await? else {
            return Ok(None);
        };
        let nonce = self.environment.fresh_id();
        let (mut change, answer) = plan.settle(head.sequence, head.allocated_at, &nonce, None);
        if self.store.entry(&log, head.sequence).await?.is_some() {
            change.entries.clear();
        }
        let committed = self.commit(&log, &change, &nonce).await?;
        Ok(committed.then_some(Changed {
            entries: change.entries,
            answer,
        }))
    }

    /// Closes the places that will not be used.
    pub(crate) async fn give_up(&self, held: Held) -> Result<(), Fault> {
        for sequence in held.first()..=held.allocated.head.sequence {
            self.close_hole(&held.log, sequence).await?;
        }
        Ok(())
    }

    /// Carries out the transaction; false on a conflict. After a lost answer the own nonce tells whether it took place.
    async fn commit(&self, log: &LogId, change: &Change, nonce: &str) -> Result<bool, Fault> {
        let mut attempt = 0;
        loop {
            match self.store.change(change).await {
                Ok(()) => return Ok(true),
                Err(Fault::Conflict) if attempt == 0 => {
                    self.environment.measure(Measure::Conflict);
                    return Ok(false);
                }
                Err(Fault::Conflict) => {
                    let Some(first) = change.entries.first() else {
                        return Ok(false);
                    };
                    let stored = self.store.entry(log, first.event.sequence).await?;
                    return Ok(stored.is_some_and(|it| it.nonce == nonce));
                }
                Err(fault) => self.again(&mut attempt, nonce, fault).await?,
            }
        }
    }

    async fn places(&self, log: &LogId, plan: &Plan, holder: &str) -> Result<Option<Held>, Fault> {
        let count = plan.places();
        let mut attempt = 0;
        loop {
            let allocation = Allocation {
                count,
                at: self.environment.now(),
                lease: self.lease(holder),
                close: plan.close,
            };
            match self.store.allocate(log, &allocation).await {
                Ok(head) => {
                    return Ok(Some(Held {
                        log: log.clone(),
                        allocated: head.into(),
                        count,
                        nonce: self.environment.fresh_id(),
                    }));
                }
                Err(AllocateError::NotActive) => return Ok(None),
                Err(AllocateError::Fault(fault)) => {
                    self.again(&mut attempt, holder, fault).await?;
                }
            }
        }
    }
}
