//! Pushing a log's events: one function at a time, in order, to everybody whom they concern.
//!
//! Who holds the lease reads what lies above `sent`, then who is a member, then their connections; each is read anew for
//! each batch, in this order, so that a member whose joining is in the batch is among those who are read. Only a message that
//! comes right after what was pushed may have its members read before it lies in the log: whoever joined earlier is among
//! them, and it is no joining itself. Connections are always read after it: one that comes later finds it in the history. To
//! one connection the events go one after the other, to different ones at once.

use core::time::Duration;

use protocol::{LogId, Timestamp, change::LogEntry};

use crate::{
    HOLE, LEASE, LEASE_GRACE, LEASE_LEFT, Service, Store,
    append::Allocated,
    fan_out::Sent,
    ports::{
        Environment, Fault, Head, Job, Lease, Measure, Midway, Page, Pushes, Receiver, Workers,
    },
};

/// Events of one batch.
const BATCH: usize = 50;
/// How long to wait before looking for a missing event again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A lease that is held, and how far it came.
#[derive(Clone, Debug)]
pub(crate) struct Holding {
    /// The lease.
    pub(crate) lease: Lease,
    /// Everything up to here was pushed.
    pub(crate) sent: u64,
    /// The last place that is known to be allocated.
    pub(crate) sequence: u64,
    /// Up to here somebody else may have pushed: everybody gets a `resync` instead.
    pub(crate) doubtful: u64,
    /// Where another invocation left off within a batch.
    pub(crate) midway: Option<Midway>,
    /// The first of those whom the first batch concerns, if they were read already.
    pub(crate) ahead: Option<Page<Receiver>>,
}

impl Holding {
    /// `lease` as it stands in `head`.
    pub(crate) const fn new(lease: Lease, head: &Head) -> Self {
        Self {
            lease,
            sent: head.sent,
            sequence: head.sequence,
            doubtful: 0,
            midway: None,
            ahead: None,
        }
    }

    /// After this no post may begin.
    pub(crate) fn no_post_after(&self) -> Timestamp {
        Timestamp::from_millis(
            self.lease.until.millis() - i64::try_from(LEASE_LEFT.as_millis()).unwrap_or(0),
        )
    }
}

impl<S, G, W, E: Environment> Service<S, G, W, E> {
    /// A lease of `holder` from now on.
    pub(crate) fn lease(&self, holder: &str) -> Lease {
        Lease {
            holder: holder.to_owned(),
            until: self.environment.now().plus(LEASE),
        }
    }
}

impl<S, G, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Has the worker drain a log whose lease nobody holds any more although something is left.
    pub(crate) async fn notice(
        &self,
        log: &LogId,
        lease: Option<&Lease>,
        head: &Head,
    ) -> Result<(), Fault> {
        let late = lease.is_none_or(|it| it.until.plus(LEASE_GRACE) < self.environment.now());
        if head.sent < head.sequence && late {
            let job = Job::Drain {
                log: log.clone(),
                holder: None,
            };
            self.workers.start(&job).await?;
        }
        Ok(())
    }
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// A lease of a fresh holder from now on.
    pub(crate) fn fresh_lease(&self) -> Lease {
        self.lease(&self.environment.fresh_id())
    }

    /// After an allocation: drains if the lease is `holder`'s, and sees to a lease whose holder is late.
    pub(crate) async fn drain_after(
        &self,
        log: &LogId,
        holder: &str,
        allocated: &Allocated,
        fresh: Vec<LogEntry>,
        patience: Duration,
    ) -> Result<(), Fault> {
        let head = &allocated.head;
        match &head.lease {
            Some(lease) if lease.holder == holder => {
                let mut holding = Holding::new(lease.clone(), head);
                holding.ahead.clone_from(&allocated.ahead);
                match self.drain(log, holding, fresh, patience).await {
                    Ok(()) => Ok(()),
                    Err(fault) => self.abandon(log, holder, fault).await,
                }
            }
            lease => self.notice(log, lease.as_ref(), head).await,
        }
    }

    /// Draining failed half-way: the lease is left as one that ended, and the worker takes over, with a `resync` for what
    /// may have been sent. If that fails too, the lease ends by itself and whoever meets it does the same.
    pub(crate) async fn abandon(
        &self,
        log: &LogId,
        holder: &str,
        fault: Fault,
    ) -> Result<(), Fault> {
        tracing::warn!(%fault, "draining is left to the worker");
        let Some(head) = self.store.head(log).await? else {
            return Ok(());
        };
        let Some(lease) = head.lease.filter(|it| it.holder == holder) else {
            return Ok(());
        };
        let ended = Lease {
            holder: lease.holder.clone(),
            until: Timestamp::from_millis(0),
        };
        let left = self.store.take_lease(log, Some(&lease), &ended).await?;
        if left.is_some() {
            let job = Job::Drain {
                log: log.clone(),
                holder: None,
            };
            self.workers.start(&job).await?;
        }
        Ok(())
    }

    /// Takes up a log: a lease that was handed on to `holder`, or one that nobody holds.
    pub(crate) async fn drain_job(
        &self,
        log: &LogId,
        holder: Option<&str>,
        midway: Option<Midway>,
        patience: Duration,
    ) -> Result<(), Fault> {
        let Some(head) = self.store.head(log).await? else {
            return Ok(());
        };
        let handed_on = match &head.lease {
            Some(lease) if Some(lease.holder.as_str()) == holder => true,
            Some(lease) if self.environment.now() <= lease.until.plus(LEASE_GRACE) => return Ok(()),
            None if head.sent == head.sequence => return Ok(()),
            _ => false,
        };
        let (old, mine) = (head.lease.as_ref(), self.fresh_lease());
        // The job may be carried out twice, also at once: one of them gets it.
        let Some(head_then) = self.store.take_lease(log, old, &mine).await? else {
            return Ok(());
        };
        let mut holding = Holding::new(mine, &head_then);
        if handed_on {
            holding.doubtful = midway.as_ref().map_or(0, |it| it.doubtful);
            holding.midway = midway;
        } else if old.is_some() {
            holding.doubtful = head_then.sequence;
        }
        self.drain(log, holding, Vec::new(), patience).await
    }

    /// Pushes until nothing is left, and gives the lease back; after `patience` it is handed on to the worker.
    /// `fresh` are events right after `sent` that need not be read.
    pub(crate) async fn drain(
        &self,
        log: &LogId,
        mut holding: Holding,
        mut fresh: Vec<LogEntry>,
        patience: Duration,
    ) -> Result<(), Fault> {
        let impatient = self.environment.now().plus(patience);
        // The first place that was found empty, and when: others may allocate all the time.
        let mut hole = (0, impatient);
        loop {
            let batch = match contiguous(core::mem::take(&mut fresh), holding.sent) {
                batch if batch.is_empty() => self.next_batch(log, &mut holding).await?,
                batch => batch,
            };
            if !batch.is_empty() {
                let sent = match Box::pin(self.send(log, &mut holding, &batch, impatient)).await? {
                    Sent::All(through) => through,
                    Sent::Lost => return Ok(()),
                    Sent::Until { through, after } => {
                        let doubtful = holding.doubtful;
                        holding.midway = Some(Midway {
                            through,
                            after,
                            doubtful,
                        });
                        return self.hand_on(log, holding).await;
                    }
                };
                if let Some(oldest) = batch.first() {
                    let age = self.since(oldest.event.timestamp);
                    self.environment.measure(Measure::DrainAge(age));
                }
                holding.sent = sent;
            }
            let holder = &holding.lease.holder;
            if holding.sent >= holding.sequence
                && self.store.release(log, holder, holding.sent).await?
            {
                return Ok(());
            }
            let Some(head) = self.store.head(log).await? else {
                return Ok(());
            };
            if head.lease.as_ref().map(|it| &it.holder) != Some(holder) {
                return Ok(());
            }
            holding.sequence = head.sequence;
            if batch.is_empty() && holding.sent < head.sequence {
                let place = holding.sent + 1;
                if hole.0 != place {
                    hole = (place, self.environment.now());
                }
                if self.hole_is_old(&head) || hole.1.plus(HOLE) <= self.environment.now() {
                    self.close_hole(log, place).await?;
                } else {
                    self.environment.sleep(LOOK_AGAIN).await;
                }
            }
            let now = self.environment.now();
            if now >= impatient {
                return self.hand_on(log, holding).await;
            }
            if now.plus(LEASE).millis() - holding.lease.until.millis() > 3_000
                && !self.renew(log, &mut holding).await?
            {
                return Ok(());
            }
        }
    }

    async fn next_batch(&self, log: &LogId, holding: &mut Holding) -> Result<Vec<LogEntry>, Fault> {
        if let Some(through) = holding.midway.as_ref().map(|it| it.through) {
            let batch = self.batch_through(log, holding.sent, through).await?;
            if batch.last().map(|it| it.event.sequence) == Some(through) {
                return Ok(batch);
            }
            // Not the batch that some have had (its events are past their time): everybody looks for himself.
            holding.midway = None;
            holding.doubtful = through;
        }
        if holding.sent >= holding.sequence {
            return Ok(Vec::new());
        }
        let slice = self
            .store
            .entries_after(log, holding.sent, holding.sequence, BATCH)
            .await?;
        Ok(contiguous(slice.entries, holding.sent))
    }

    /// The batch that was begun, however many pages it takes now.
    async fn batch_through(
        &self,
        log: &LogId,
        sent: u64,
        through: u64,
    ) -> Result<Vec<LogEntry>, Fault> {
        let (mut batch, mut end) = (Vec::new(), sent);
        while end < through {
            let slice = self.store.entries_after(log, end, through, BATCH).await?;
            let more = contiguous(slice.entries, end);
            let Some(last) = more.last() else {
                break;
            };
            end = last.event.sequence;
            batch.extend(more);
        }
        Ok(batch)
    }

    /// Renews the lease and notes how far it came; whether it is still ours.
    pub(crate) async fn renew(&self, log: &LogId, holding: &mut Holding) -> Result<bool, Fault> {
        let until = self.environment.now().plus(LEASE);
        let head = self
            .store
            .renew(log, &holding.lease.holder, until, holding.sent)
            .await?;
        holding.lease.until = until;
        holding.sequence = head.as_ref().map_or(holding.sequence, |it| it.sequence);
        Ok(head.is_some())
    }

    /// Hands the lease on to the worker, within a batch with the place where it goes on. If the job is lost, the lease ends by
    /// itself and is taken over.
    async fn hand_on(&self, log: &LogId, mut holding: Holding) -> Result<(), Fault> {
        if !self.renew(log, &mut holding).await? {
            return Ok(());
        }
        let (mine, next) = (holding.lease, self.fresh_lease());
        let handed_on = self.store.take_lease(log, Some(&mine), &next).await?;
        if handed_on.is_some() {
            let (log, holder) = (log.clone(), next.holder);
            let job = match holding.midway {
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
            self.workers.start(&job).await?;
        }
        Ok(())
    }
}

/// What of `entries` follows `sent` without a hole.
fn contiguous(entries: Vec<LogEntry>, sent: u64) -> Vec<LogEntry> {
    let mut next = sent;
    entries
        .into_iter()
        .skip_while(|it| it.event.sequence <= sent)
        .take_while(|it| {
            next += 1;
            it.event.sequence == next
        })
        .collect()
}
