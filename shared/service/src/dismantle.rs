//! Removing the rows of a channel that ended.

use core::time::Duration;

use futures::{StreamExt as _, stream};
use protocol::{
    ChannelKey, Timestamp,
    change::{Change, Member, RowChange},
    limits,
};

use crate::{
    Refused, Service, Store,
    ports::{Environment, Fault, Job, Pushes, Workers},
};

/// How long the end of a channel may be on its way.
const ENDING: Duration = Duration::from_secs(10);
/// How long to wait before looking again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How long one job removes rows before it hands on to the next.
const PATIENCE: Duration = Duration::from_secs(20);
/// Rows that are removed at once.
const AT_ONCE: usize = 16;

/// What of a channel's rows is left.
enum Rows {
    None,
    Some,
    /// All: the channel is open. Whether its log is closed already.
    Open {
        closed: bool,
    },
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Removes the rows of a channel that ended, a page at a time. Safe to be done twice, and by two at once. What is left
    /// after a while is another job's.
    ///
    /// The job is started before the transaction that ends the channel, because who carries that out may die right after
    /// it; so the end is waited for. If it does not come, its handler died: after the log had taken its last event, and the
    /// end is made up for here; or before, and the channel is open. Then the job fails, and its repeat a minute later looks
    /// once more.
    pub(crate) async fn dismantle(&self, channel: &ChannelKey) -> Result<(), Fault> {
        let begun = self.environment.now();
        let (given_up, impatient) = (begun.plus(ENDING), begun.plus(PATIENCE));
        let mut attempt = 0;
        loop {
            match self.remove_rows(channel, impatient).await {
                Ok(Rows::None) => return Ok(()),
                Ok(Rows::Some) if impatient <= self.environment.now() => {
                    let job = Job::Dismantle {
                        channel: channel.clone(),
                    };
                    return self.workers.start(&job).await;
                }
                Ok(Rows::Open { closed: true }) if given_up <= self.environment.now() => {
                    match self.end_channel(channel).await {
                        Ok(()) | Err(Refused::Rejected(_)) => {}
                        Err(Refused::Fault(fault)) => return Err(fault),
                    }
                }
                Ok(Rows::Open { closed: false }) if given_up <= self.environment.now() => {
                    return Err(Fault::Refused("the channel has not ended".to_owned()));
                }
                Ok(Rows::Open { .. } | Rows::Some) => self.environment.sleep(LOOK_AGAIN).await,
                Err(fault) => {
                    self.again(&mut attempt, channel.id.as_str(), fault).await?;
                }
            }
        }
    }

    /// One pass over the rows of a channel that ended, no further than there is patience.
    async fn remove_rows(&self, channel: &ChannelKey, impatient: Timestamp) -> Result<Rows, Fault> {
        let log = channel.log();
        // One after the other: the log is closed before the channel is, and looks so once that was seen.
        let roster = self.store.roster(channel).await?;
        let head = self.store.head(&log).await?.filter(|it| !it.active);
        if roster.is_some_and(|it| it.open) {
            let closed = head.is_some();
            return Ok(Rows::Open { closed });
        }
        let Some(head) = head else {
            return Ok(Rows::None);
        };
        let mut rows = Rows::None;
        let mut after = None;
        loop {
            let page = self
                .store
                .members(channel, after.as_ref(), limits::PAGE)
                .await?;
            after = page.items.last().map(|it| it.subscriber.clone());
            let current = page.items.iter().filter(|it| it.is_current());
            let mut removed = stream::iter(current)
                .map(|member| Box::pin(self.remove_row(channel, member, head.sequence)))
                .buffer_unordered(AT_ONCE);
            while let Some(removed) = removed.next().await {
                match removed {
                    Ok(()) => {}
                    // Another was faster with this row, or only met us there: the next pass tells.
                    Err(Fault::Conflict) => rows = Rows::Some,
                    Err(fault) => return Err(fault),
                }
            }
            if !page.more {
                return Ok(rows);
            }
            if impatient <= self.environment.now() {
                return Ok(Rows::Some);
            }
        }
    }

    async fn remove_row(
        &self,
        channel: &ChannelKey,
        member: &Member,
        sequence: u64,
    ) -> Result<(), Fault> {
        let left = RowChange::Left {
            subscriber: member.subscriber.clone(),
            administrator: member.administrator,
            joined: member.joined,
            sequence,
        };
        let change = Change::of_rows(channel.clone(), self.environment.now(), vec![left]);
        self.store.change(&change).await
    }
}
