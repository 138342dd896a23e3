//! Erasing a person: its tokens, connections, memberships and presence are removed, and its messages become void entries, so
//! the order of every log stays. Its announcements are removed with its connections. The version of its presence stays, so that
//! versions keep growing if the id is used again. Each step is safe to repeat, and Lambda repeats a job that dies.

use core::time::Duration;

use futures::{StreamExt as _, stream};
use protocol::{Code, EventBody, LogId, Subscriber, limits};

use crate::{
    Refused, Service, Store,
    messages::load::Loader,
    pages,
    ports::{Environment, Fault, Job, Pushes, Workers},
};

/// Logs that are left at the same time.
const AT_ONCE: usize = 16;
/// How long one job works on a log before it starts another one for the rest.
const PATIENCE: Duration = Duration::from_secs(20);

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Begins to erase a person. When this returns, the person has no token and no connection. The worker does the rest.
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

    /// Ends the memberships, and starts a job for each log that may hold messages of the person.
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
                // Other writes were always first. Lambda repeats the job.
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

    /// Voids the messages of the person, page by page.
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
                    // The idempotency record first: if the function dies in between, the entry still leads the repeat to it.
                    self.store
                        .forget_idempotency_record(log, from, message_id)
                        .await?;
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

    /// Returns the logs that may hold messages of a subscriber.
    async fn logs_of(&self, subscriber: &Subscriber) -> Result<Vec<LogId>, Fault> {
        let loader = Loader::of(self.ports());
        let (channels, conversations) = futures::try_join!(
            loader.all_memberships(subscriber),
            loader.all_conversations(subscriber),
        )?;
        let mut logs: Vec<LogId> = channels
            .iter()
            .chain(&conversations)
            .map(|it| LogId::of(subscriber, it))
            .collect();
        let former = pages::all(
            |after| async move {
                self.store
                    .former_memberships(subscriber, after.as_ref(), limits::PAGE)
                    .await
            },
            Clone::clone,
        )
        .await?;
        logs.extend(
            former
                .into_iter()
                .map(|id| subscriber.domain.channel(id).log()),
        );
        logs.sort();
        logs.dedup();
        Ok(logs)
    }
}
