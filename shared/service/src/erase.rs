//! Erasing a person: its tokens, connections, memberships and presence go, and what it wrote becomes void entries, so that the
//! order of every log stays. What it announced goes with its connections; the version that others saw stays, so that a later
//! one, should the id come back, is not lower. Each step is safe twice; Lambda repeats the job that dies.

use core::time::Duration;

use futures::{StreamExt as _, stream};
use protocol::{Code, Destination, EventBody, LogId, Subscriber, limits};

use crate::{
    Refused, Service, Store,
    ports::{Environment, Fault, Job, Pushes, Workers},
};

/// Logs that are left at once.
const AT_ONCE: usize = 16;
/// How long one job works on a log before it hands on to the next.
const PATIENCE: Duration = Duration::from_secs(20);

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Begins to erase a person. Once this has returned, it has no token and no connection; the worker does the rest.
    ///
    /// # Errors
    /// A fault: call again.
    pub async fn erase(&self, subscriber: &Subscriber) -> Result<(), Fault> {
        self.invalidate_all(subscriber).await?;
        self.disconnect_all(subscriber).await?;
        let job = Job::Erase {
            subscriber: subscriber.clone(),
        };
        self.workers.start(&job).await
    }

    /// Ends the memberships, and starts a job for each log that may hold what the person wrote.
    pub(crate) async fn erase_job(&self, subscriber: &Subscriber) -> Result<(), Fault> {
        let logs = self.logs_of(subscriber).await?;
        let erased: Vec<Result<(), Fault>> = stream::iter(logs)
            .map(|log| Box::pin(self.leave_and_erase(subscriber, log)))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        erased.into_iter().collect()
    }

    async fn leave_and_erase(&self, subscriber: &Subscriber, log: LogId) -> Result<(), Fault> {
        if let LogId::Channel(channel) = &log {
            match self.remove_member(channel, &subscriber.id).await {
                Ok(()) => {}
                Err(Refused::Rejected(rejection)) if rejection.code == Code::NotFound => {}
                // Others were always first: the job comes again.
                Err(Refused::Rejected(_)) => return Err(Fault::Conflict),
                Err(Refused::Fault(fault)) => return Err(fault),
            }
        }
        let job = Job::EraseLog {
            subscriber: subscriber.clone(),
            log,
            after: 0,
        };
        self.workers.start(&job).await
    }

    /// Replaces what the person wrote, page by page.
    pub(crate) async fn erase_log(
        &self,
        subscriber: &Subscriber,
        log: &LogId,
        mut after: u64,
    ) -> Result<(), Fault> {
        let impatient = self.environment.now().plus(PATIENCE);
        loop {
            let page = self
                .store
                .entries_after(log, after, limits::SEQUENCE, limits::PAGE)
                .await?;
            for entry in &page.entries {
                let EventBody::Message {
                    from, message_id, ..
                } = &entry.event.body
                else {
                    continue;
                };
                if *from == subscriber.id {
                    let sequence = entry.event.sequence;
                    // The marker first: who comes again after a death in between knows it by the entry.
                    self.store.forget_marker(log, from, message_id).await?;
                    self.store.void_entry(log, sequence, &entry.nonce).await?;
                }
            }
            after = page.entries.last().map_or(after, |it| it.event.sequence);
            if !page.more {
                return Ok(());
            }
            if self.environment.now() >= impatient {
                let job = Job::EraseLog {
                    subscriber: subscriber.clone(),
                    log: log.clone(),
                    after,
                };
                return self.workers.start(&job).await;
            }
        }
    }

    /// The logs that may hold what a subscriber wrote.
    async fn logs_of(&self, subscriber: &Subscriber) -> Result<Vec<LogId>, Fault> {
        let (channels, conversations) = futures::try_join!(
            self.all_memberships(subscriber),
            self.all_conversations(subscriber),
        )?;
        let mut logs: Vec<LogId> = channels
            .iter()
            .chain(&conversations)
            .map(|it| LogId::of(subscriber, it))
            .collect();
        let mut after = None;
        loop {
            let page = self
                .store
                .former_memberships(subscriber, after.as_ref(), limits::PAGE)
                .await?;
            after = page.items.last().cloned();
            logs.extend(
                page.items
                    .into_iter()
                    .map(|id| LogId::of(subscriber, &Destination::Channel(id))),
            );
            if !page.more {
                break;
            }
        }
        logs.sort();
        logs.dedup();
        Ok(logs)
    }
}
