//! The lease of a log: the right to push its events, held by one function at a time.

use protocol::{LogId, Timestamp};

use crate::{
    parts::Ports,
    ports::{Environment, Fault, Head, Job, Lease, Workers},
    timing::{LEASE, LEASE_GRACE},
};

impl<S, G, W, E: Environment> Ports<'_, S, G, W, E> {
    /// Returns a lease of `holder` that begins now.
    pub(crate) fn lease(&self, holder: &str) -> Lease {
        Lease {
            holder: holder.to_owned(),
            until: self.environment.now().plus(LEASE),
        }
    }

    /// Returns a lease of a new holder that begins now.
    pub(crate) fn fresh_lease(&self) -> Lease {
        self.lease(&self.environment.fresh_id())
    }
}

impl<S, G, W: Workers, E: Environment> Ports<'_, S, G, W, E> {
    /// Schedules a drain of a log that has events to push although its lease ended or was never taken.
    pub(crate) async fn schedule_drain_if_abandoned(
        &self,
        log: &LogId,
        head: &Head,
    ) -> Result<(), Fault> {
        if head.sent < head.sequence && is_abandoned(head, self.environment.now()) {
            let job = Job::Drain {
                log: log.clone(),
                holder: None,
            };
            self.workers.start(&job).await?;
        }
        Ok(())
    }
}

/// Returns true if no function holds the lease, even if the holder's clock is behind by [`LEASE_GRACE`].
pub(crate) fn is_abandoned(head: &Head, now: Timestamp) -> bool {
    head.lease
        .as_ref()
        .is_none_or(|lease| lease.until.plus(LEASE_GRACE) < now)
}
