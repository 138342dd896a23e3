//! The lease that this function holds on a log, and how far it has pushed.

use protocol::{LogId, Timestamp};

use crate::{
    Store,
    parts::part,
    ports::{Environment, Fault, Head, Lease, Midway, Page, Receiver},
    timing::{LEASE, LEASE_LEFT},
};

part! {
    /// Pushes the events of logs.
    LogPusher
}

/// A lease that this function holds, and how far it has pushed.
#[derive(Clone, Debug)]
pub(crate) struct HeldLease {
    pub(crate) lease: Lease,
    /// Everything up to here was pushed.
    pub(crate) sent: u64,
    /// The last slot that is known to be allocated.
    pub(crate) sequence: u64,
    /// Up to here another function may have pushed: every subscriber gets a `resync` instead.
    pub(crate) doubtful: u64,
    /// Where another invocation stopped within a batch.
    pub(crate) midway: Option<Midway>,
    /// The first receivers of the first batch, if they were read ahead.
    pub(crate) ahead: Option<Page<Receiver>>,
}

impl HeldLease {
    /// `lease` as it stands in `head`.
    pub(super) const fn new(lease: Lease, head: &Head) -> Self {
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

impl<S: Store, G, W, E: Environment> LogPusher<'_, S, G, W, E> {
    /// Renews the lease and stores how far it came. Returns false if another function holds it by now.
    pub(crate) async fn renew(&self, log: &LogId, held: &mut HeldLease) -> Result<bool, Fault> {
        let until = self.ports.environment.now().plus(LEASE);
        let head = self
            .ports
            .store
            .renew(log, &held.lease.holder, until, held.sent)
            .await?;
        held.lease.until = until;
        if let Some(head) = &head {
            held.sequence = head.sequence;
        }
        Ok(head.is_some())
    }
}
