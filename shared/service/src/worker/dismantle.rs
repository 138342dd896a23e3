//! Removing the rows of a channel that ended.

use core::{pin::pin, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use protocol::{
    ChannelKey, Timestamp,
    change::{Change, Member, RowChange},
    limits,
};

use crate::{
    Refused, Service, Store,
    pages::pages,
    ports::{Environment, Fault, Job, Pushes, Workers},
};

/// How long after the job began the channel's end may still come.
const ENDING: Duration = Duration::from_secs(10);
/// The pause before the next look.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How long one job removes rows before it starts another one for the rest.
const PATIENCE: Duration = Duration::from_secs(20);
/// Rows that are removed at the same time.
const AT_ONCE: usize = 16;

/// Which rows of a channel are left.
enum Rows {
    None,
    Some,
    /// All of them, because the channel is still open.
    Open {
        /// True if its log has taken its last event.
        closed: bool,
    },
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Removes the rows of a channel that ended, a page at a time. Two functions may do this at the same time. After a while,
    /// another job is started for the rest.
    ///
    /// The job is started before the transaction that ends the channel, because the handler may die right after that. So this
    /// waits for the end. If the end does not come, the handler died. Either it died after the log had taken its last event: then
    /// the channel is ended here. Or it died before, and the channel is open: then the job fails, and its repeat a minute later
    /// looks again.
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
                    let salt = channel.id.as_str();
                    self.ports().retry_store(&mut attempt, salt, fault).await?;
                }
            }
        }
    }

    /// Goes over the rows of a channel that ended once, until `impatient` at most.
    async fn remove_rows(&self, channel: &ChannelKey, impatient: Timestamp) -> Result<Rows, Fault> {
        let log = channel.log();
        // The roster first: the log is closed before the channel ends, so a log that is read later looks closed if the channel had ended.
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
        let mut members = pin!(pages(
            |after| async move {
                self.store
                    .members(channel, after.as_ref(), limits::PAGE)
                    .await
            },
            |member: &Member| member.subscriber.clone(),
        ));
        while let Some(page) = members.try_next().await? {
            if impatient <= self.environment.now() {
                return Ok(Rows::Some);
            }
            let current = page.iter().filter(|it| it.is_current());
            let mut removed = stream::iter(current)
                .map(|member| Box::pin(self.remove_row(channel, member, head.sequence)))
                .buffer_unordered(AT_ONCE);
            while let Some(removed) = removed.next().await {
                match removed {
                    Ok(()) => {}
                    // Another function was faster with this row, or its transaction was in the way. The next pass checks again.
                    Err(Fault::Conflict) => rows = Rows::Some,
                    Err(fault) => return Err(fault),
                }
            }
        }
        Ok(rows)
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
