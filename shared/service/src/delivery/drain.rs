//! Draining a log: one function at a time pushes its events, in order, to every subscriber that they concern.
//!
//! The lease holder reads the events after `sent`, then the members, then their connections. It reads all of them again
//! for each batch and in this order. So a member that joins in the batch is among those that are read. Connections are
//! always read after the event is stored: a connection that begins later finds the event in the history.
//!
//! The members may be read ahead only for a message that comes right after `sent`. Every earlier joining has taken
//! place by then, and the message itself makes no member.
//!
//! One connection gets the events one after the other. Different connections get them at the same time.

use core::time::Duration;

use protocol::{LogId, Timestamp, change::LogEntry};

use super::{
    fan_out::Sent,
    lease::{HeldLease, LogPusher},
    notifier::Notifier,
};
use crate::{
    Store,
    log::{
        history::LogReader,
        lease::is_abandoned,
        slots::{Allocated, LogWork},
    },
    ports::{Environment, Fault, Head, Job, Lease, Measure, Midway, Pushes, Workers},
    timing::{GAP, GAP_LOOK, LEASE},
};

/// Events of one batch.
const BATCH: usize = 50;
/// The age from which the lease is renewed.
const RENEWAL: Duration = Duration::from_secs(3);

/// The state of a drain. [`Draining::next`] decides each step, and [`LogPusher::drain`] executes it.
#[derive(Debug)]
struct Draining {
    held: HeldLease,
    /// From then on the rest is handed on.
    impatient: Timestamp,
    /// The first slot that was found empty, and when. Other functions may allocate slots all the time, so the head's
    /// time of allocation is not enough.
    gap: Option<(u64, Timestamp)>,
    /// True if the last read found no event right after `sent`.
    found_nothing: bool,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Read the next batch.
    Read,
    /// Push a batch.
    Send(Vec<LogEntry>),
    /// Give the lease back.
    GiveBack,
    /// Read the head: there may be more.
    ReadHead,
    /// The writer of this slot died: void it.
    Void(u64),
    /// A slot is still empty: wait.
    Wait,
    Renew,
    /// Hand the lease on to the worker.
    HandOn,
    /// Nothing more to do: the lease was given back or lost.
    Finish,
}

/// What the last step brought.
#[derive(Debug)]
enum Event {
    /// The next batch, empty if there is no event right after `sent`.
    Read(Vec<LogEntry>),
    /// Every receiver has the batch, up to this event.
    Sent(u64),
    /// More was allocated in the meantime, or the lease is lost.
    NotGivenBack,
    Head(Option<Head>),
    /// A gap was voided or waited for.
    Waited,
    Renewed {
        is_held: bool,
    },
}

impl Draining {
    fn next(&mut self, event: Event, now: Timestamp) -> Step {
        match event {
            Event::Read(batch) if batch.is_empty() => {
                self.found_nothing = true;
                self.give_back_or_look()
            }
            Event::Read(batch) => Step::Send(batch),
            Event::Sent(through) => {
                self.held.sent = through;
                self.found_nothing = false;
                self.give_back_or_look()
            }
            Event::NotGivenBack => Step::ReadHead,
            Event::Head(head) => self.after_head(head, now),
            Event::Waited => self.go_on(now),
            Event::Renewed { is_held: true } => Step::Read,
            Event::Renewed { is_held: false } => Step::Finish,
        }
    }

    const fn give_back_or_look(&self) -> Step {
        if self.held.sent >= self.held.sequence {
            Step::GiveBack
        } else {
            Step::ReadHead
        }
    }

    fn after_head(&mut self, head: Option<Head>, now: Timestamp) -> Step {
        let holder = &self.held.lease.holder;
        let head = head.filter(|head| head.lease.as_ref().is_some_and(|it| it.holder == *holder));
        let Some(head) = head else {
            return Step::Finish;
        };
        self.held.sequence = head.sequence;
        if !self.found_nothing || self.held.sent >= head.sequence {
            return self.go_on(now);
        }
        let slot = self.held.sent + 1;
        let since = match self.gap {
            Some((gap, since)) if gap == slot => since,
            _ => now,
        };
        self.gap = Some((slot, since));
        if head.allocated_at.plus(GAP) <= now || since.plus(GAP) <= now {
            Step::Void(slot)
        } else {
            Step::Wait
        }
    }

    fn go_on(&self, now: Timestamp) -> Step {
        let left = self.held.lease.until.millis() - now.millis();
        let renewal = i64::try_from((LEASE - RENEWAL).as_millis()).unwrap_or(0);
        if now >= self.impatient {
            Step::HandOn
        } else if left < renewal {
            Step::Renew
        } else {
            Step::Read
        }
    }
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> LogPusher<'_, S, G, W, E> {
    /// Pushes what a commit left in a log. With an allocation, drains if the lease is `holder`'s, and schedules a drain if its
    /// holder died. Without one, takes the lease if it is free.
    pub(crate) async fn push(
        &self,
        work: LogWork,
        holder: &str,
        patience: Duration,
    ) -> Result<(), Fault> {
        match work {
            LogWork::Nothing => Ok(()),
            LogWork::Unleased { log } => self.drain_job(&log, None, None, patience).await,
            LogWork::Allocated {
                log,
                allocated,
                entries,
            } => {
                let Allocated { head, ahead, .. } = *allocated;
                match &head.lease {
                    Some(lease) if lease.holder == holder => {
                        let mut held = HeldLease::new(lease.clone(), &head);
                        held.ahead = ahead;
                        match self.drain(&log, held, entries, patience).await {
                            Ok(()) => Ok(()),
                            Err(fault) => self.abandon(&log, holder, fault).await,
                        }
                    }
                    _ => self.ports.schedule_drain_if_abandoned(&log, &head).await,
                }
            }
        }
    }

    /// Leaves the lease as one that ended, after draining failed half-way. The worker takes it over and posts a `resync` for
    /// what may have been pushed. If this fails too, the lease ends by itself and the next function that meets it does the same.
    async fn abandon(&self, log: &LogId, holder: &str, fault: Fault) -> Result<(), Fault> {
        tracing::warn!(%fault, "drain failed, left to the worker");
        let Some(head) = self.ports.store.head(log).await? else {
            return Ok(());
        };
        let Some(lease) = head.lease.filter(|lease| lease.holder == holder) else {
            return Ok(());
        };
        let ended = Lease {
            holder: lease.holder.clone(),
            until: Timestamp::from_millis(0),
        };
        let left = self
            .ports
            .store
            .take_lease(log, Some(&lease), &ended)
            .await?;
        if left.is_some() {
            let job = Job::Drain {
                log: log.clone(),
                holder: None,
            };
            self.ports.workers.start(&job).await?;
        }
        Ok(())
    }

    /// Drains a log under a lease that was handed on to `holder`, or that no function holds.
    pub(crate) async fn drain_job(
        &self,
        log: &LogId,
        holder: Option<&str>,
        midway: Option<Midway>,
        patience: Duration,
    ) -> Result<(), Fault> {
        let Some(head) = self.ports.store.head(log).await? else {
            return Ok(());
        };
        let old = head.lease.as_ref();
        let handed_on = old.is_some_and(|lease| Some(lease.holder.as_str()) == holder);
        let is_free = match old {
            Some(_) => handed_on || is_abandoned(&head, self.ports.environment.now()),
            None => head.sent != head.sequence,
        };
        if !is_free {
            return Ok(());
        }
        let mine = self.ports.fresh_lease();
        // The job may run twice, also at the same time: one of them gets the lease.
        let Some(head_then) = self.ports.store.take_lease(log, old, &mine).await? else {
            return Ok(());
        };
        let mut held = HeldLease::new(mine, &head_then);
        if handed_on {
            held.doubtful = midway.as_ref().map_or(0, |it| it.doubtful);
            held.midway = midway;
        } else if old.is_some() {
            held.doubtful = head_then.sequence;
        }
        self.drain(log, held, Vec::new(), patience).await
    }

    /// Pushes until nothing is left, then gives the lease back. After `patience` the lease is handed on to the worker.
    /// `fresh` are events right after `sent` that need not be read.
    async fn drain(
        &self,
        log: &LogId,
        held: HeldLease,
        fresh: Vec<LogEntry>,
        patience: Duration,
    ) -> Result<(), Fault> {
        let environment = self.ports.environment;
        let store = self.ports.store;
        let fresh = contiguous(fresh, held.sent);
        let mut draining = Draining {
            held,
            impatient: environment.now().plus(patience),
            gap: None,
            found_nothing: false,
        };
        let mut step = if fresh.is_empty() {
            Step::Read
        } else {
            Step::Send(fresh)
        };
        loop {
            let event = match step {
                Step::Read => Event::Read(self.next_batch(log, &mut draining.held).await?),
                Step::Send(batch) => {
                    let impatient = draining.impatient;
                    let sending = self.send(log, &mut draining.held, &batch, impatient);
                    match Box::pin(sending).await? {
                        Sent::All { through, receipts } => {
                            Notifier::of(self.ports).deliver(receipts).await?;
                            if let Some(oldest) = batch.first() {
                                let age = self.ports.since(oldest.event.timestamp);
                                environment.measure(Measure::DrainAge(age));
                            }
                            Event::Sent(through)
                        }
                        Sent::Lost => return Ok(()),
                        Sent::Until { midway, receipts } => {
                            Notifier::of(self.ports).deliver(receipts).await?;
                            draining.held.midway = Some(midway);
                            return self.hand_on(log, draining.held).await;
                        }
                    }
                }
                Step::GiveBack => {
                    let HeldLease { lease, sent, .. } = &draining.held;
                    if store.release(log, &lease.holder, *sent).await? {
                        return Ok(());
                    }
                    Event::NotGivenBack
                }
                Step::ReadHead => Event::Head(store.head(log).await?),
                Step::Void(slot) => {
                    LogReader::of(self.ports).void_slot(log, slot).await?;
                    Event::Waited
                }
                Step::Wait => {
                    environment.sleep(GAP_LOOK).await;
                    Event::Waited
                }
                Step::Renew => Event::Renewed {
                    is_held: self.renew(log, &mut draining.held).await?,
                },
                Step::HandOn => return self.hand_on(log, draining.held).await,
                Step::Finish => return Ok(()),
            };
            step = draining.next(event, environment.now());
        }
    }

    async fn next_batch(&self, log: &LogId, held: &mut HeldLease) -> Result<Vec<LogEntry>, Fault> {
        if let Some(through) = held.midway.as_ref().map(|midway| midway.through) {
            let batch = self.batch_through(log, held.sent, through).await?;
            if batch.last().map(|entry| entry.event.sequence) == Some(through) {
                return Ok(batch);
            }
            // The batch that some receivers had cannot be read any more, because events are past their time to live. So
            // every receiver gets a `resync`.
            held.midway = None;
            held.doubtful = through;
        }
        if held.sent >= held.sequence {
            return Ok(Vec::new());
        }
        let slice = self
            .ports
            .store
            .entries_after(log, held.sent, held.sequence, BATCH)
            .await?;
        Ok(contiguous(slice.entries, held.sent))
    }

    /// Reads the batch that another invocation began, however many pages it takes now.
    async fn batch_through(
        &self,
        log: &LogId,
        sent: u64,
        through: u64,
    ) -> Result<Vec<LogEntry>, Fault> {
        let (mut batch, mut end) = (Vec::new(), sent);
        while end < through {
            let slice = self
                .ports
                .store
                .entries_after(log, end, through, BATCH)
                .await?;
            let more = contiguous(slice.entries, end);
            let Some(last) = more.last() else {
                break;
            };
            end = last.event.sequence;
            batch.extend(more);
        }
        Ok(batch)
    }

    /// Hands the lease on to the worker, with the receiver within a batch at which it continues. If the job is lost,
    /// the lease ends by itself and is taken over.
    async fn hand_on(&self, log: &LogId, mut held: HeldLease) -> Result<(), Fault> {
        if !self.renew(log, &mut held).await? {
            return Ok(());
        }
        let (mine, next) = (held.lease, self.ports.fresh_lease());
        let handed_on = self.ports.store.take_lease(log, Some(&mine), &next).await?;
        if handed_on.is_none() {
            return Ok(());
        }
        let (log, holder) = (log.clone(), next.holder);
        let job = match held.midway {
            Some(midway) => Job::GoOn {
                log,
                holder,
                midway,
            },
            None => Job::Drain {
                log,
                holder: Some(holder),
            },
        };
        self.ports.workers.start(&job).await
    }
}

/// Returns the entries that follow `sent` without a gap.
fn contiguous(entries: Vec<LogEntry>, sent: u64) -> Vec<LogEntry> {
    let mut next = sent;
    entries
        .into_iter()
        .skip_while(|entry| entry.event.sequence <= sent)
        .take_while(|entry| {
            next += 1;
            entry.event.sequence == next
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn head(sequence: u64, holder: &str) -> Head {
        Head {
            active: true,
            sequence,
            sent: 0,
            lease: Some(Lease {
                holder: holder.to_owned(),
                until: NOW.plus(LEASE),
            }),
            allocated_at: NOW,
            read_cursors: BTreeMap::new(),
            removal_at: None,
        }
    }

    fn draining(sent: u64, sequence: u64) -> Draining {
        let head = head(sequence, "me");
        let mut held = HeldLease::new(head.lease.clone().unwrap(), &head);
        held.sent = sent;
        Draining {
            held,
            impatient: NOW.plus_seconds(30),
            gap: None,
            found_nothing: false,
        }
    }

    #[test]
    fn finished_drain_gives_lease_back() {
        let mut draining = draining(0, 2);
        assert_eq!(draining.next(Event::Sent(1), NOW), Step::ReadHead);
        assert_eq!(draining.next(Event::Sent(2), NOW), Step::GiveBack);
        assert_eq!(draining.next(Event::NotGivenBack, NOW), Step::ReadHead);
        let more = Event::Head(Some(head(3, "me")));
        assert_eq!(draining.next(more, NOW), Step::Read);
    }

    #[test]
    fn lost_lease_ends_the_drain() {
        let theirs = Event::Head(Some(head(3, "other")));
        assert_eq!(draining(1, 2).next(theirs, NOW), Step::Finish);
        assert_eq!(draining(1, 2).next(Event::Head(None), NOW), Step::Finish);
        let renewed = Event::Renewed { is_held: false };
        assert_eq!(draining(1, 2).next(renewed, NOW), Step::Finish);
    }

    #[test]
    fn gap_is_voided_despite_steady_allocations() {
        let mut draining = draining(1, 2);
        let look = |draining: &mut Draining, millis: u64| {
            let now = NOW.plus(Duration::from_millis(millis));
            draining.next(Event::Read(Vec::new()), now);
            // Another writer allocates all the time, so the head's own time never gets old.
            let head = Head {
                allocated_at: now,
                ..head(9, "me")
            };
            draining.next(Event::Head(Some(head)), now)
        };
        assert_eq!(look(&mut draining, 0), Step::Wait);
        assert_eq!(look(&mut draining, 999), Step::Wait);
        assert_eq!(look(&mut draining, 1_000), Step::Void(2));
    }

    #[test]
    fn old_lease_renews_and_hands_on() {
        let mut draining = draining(1, 2);
        let after = |draining: &mut Draining, seconds| {
            draining.next(Event::Waited, NOW.plus_seconds(seconds))
        };
        assert_eq!(after(&mut draining, 2), Step::Read);
        assert_eq!(after(&mut draining, 4), Step::Renew);
        assert_eq!(after(&mut draining, 30), Step::HandOn);
    }
}
