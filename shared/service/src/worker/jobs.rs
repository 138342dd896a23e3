//! The worker's jobs. Each is safe to run twice, also at the same time.

use core::{pin::pin, time::Duration};

use futures::TryStreamExt as _;
use protocol::{
    ChannelKey, ConnectionKey, LogId, Subscriber, Timestamp,
    change::{Change, RowChange},
    limits,
    server_message::DisconnectCode,
};

use crate::{
    Service, Store,
    closer::Closer,
    connections::activate::{Activator, Active, Registered},
    delivery::{
        gate::Parking,
        lease::LogPusher,
        notifier::Notifier,
        post::{Sender, Target},
    },
    pages::pages,
    parts::part,
    ports::{Environment, Fault, Framing, Job, Midway, Pushes, Reference, Workers},
    presence::PresencePublisher,
};

/// How long the worker drains a log before it hands on to another invocation of itself.
const PATIENCE: Duration = Duration::from_secs(30);
/// A client that takes nothing for this long is closed.
const BEHIND: Duration = Duration::from_secs(30);

part! {
    /// Runs the worker's jobs.
    Worker
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Runs a job.
    ///
    /// # Errors
    /// A fault. Lambda then repeats the job.
    pub async fn work(&self, job: &Job) -> Result<(), Fault> {
        let worker = Worker::of(self.ports());
        // Boxed: each arm is a deep future, and the compiler need not look through all of them at the same time.
        match job {
            Job::Connected {
                subscriber,
                connection,
                token,
                framing,
            } => {
                let registered = Registered {
                    key: &subscriber.connection(connection.clone()),
                    token,
                };
                Box::pin(worker.connected(registered, *framing)).await
            }
            Job::Drain { log, holder } => {
                Box::pin(worker.drain(log, holder.as_deref(), None)).await
            }
            Job::GoOn {
                log,
                holder,
                midway,
            } => Box::pin(worker.drain(log, Some(holder), Some(midway.clone()))).await,
            Job::Presence { subscriber, grace } => {
                let publisher = PresencePublisher::of(self.ports());
                Box::pin(publisher.publish(subscriber, *grace)).await
            }
            Job::Release {
                subscriber,
                connection,
            } => {
                let key = subscriber.connection(connection.clone());
                Box::pin(worker.release(&key)).await
            }
            Job::Invited { subscriber, log } => {
                let notifier = Notifier::of(self.ports());
                Box::pin(notifier.publish_invitation(subscriber, log))
                    .await
                    .map(drop)
            }
            Job::Erase { subscriber } => Box::pin(self.erase_job(subscriber)).await,
            Job::EraseLog {
                subscriber,
                log,
                after,
            } => Box::pin(self.erase_log(subscriber, log, *after)).await,
            Job::Dismantle { channel } => Box::pin(self.dismantle(channel)).await,
        }
    }
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Worker<'_, S, G, W, E> {
    async fn drain(
        &self,
        log: &LogId,
        holder: Option<&str>,
        midway: Option<Midway>,
    ) -> Result<(), Fault> {
        LogPusher::of(self.ports)
            .drain_job(log, holder, midway, PATIENCE)
            .await
    }

    /// A connection was registered. Activates it, releases what was parked behind its first gate, closes the oldest
    /// connection if there is one too many, and pushes the pending invitations.
    async fn connected(&self, registered: Registered<'_>, framing: Framing) -> Result<(), Fault> {
        let activator = Activator::of(self.ports);
        let active = match framing {
            Framing::Raw | Framing::Session => activator.activate(registered).await?,
            Framing::Sockjs => activator.open_session(registered).await?,
        };
        let Some(Active {
            mut connections,
            settled,
        }) = active
        else {
            return Ok(());
        };
        let subscriber = &registered.key.subscriber;
        while connections.len() > limits::CONNECTIONS_PER_SUBSCRIBER {
            let oldest = connections
                .iter()
                .min_by_key(|(id, connection)| (connection.since, (*id).clone()))
                .map(|(id, _)| id.clone());
            let Some((oldest, entry)) = oldest.and_then(|id| connections.remove_entry(&id)) else {
                break;
            };
            let code = DisconnectCode::ConnectionLimit;
            // If the function dies half-way, the connection is closed with its next message.
            Closer::of(self.ports)
                .close_for_certain(
                    &subscriber.connection(oldest),
                    &entry.token,
                    Some(&entry),
                    code,
                )
                .await?;
        }
        self.publish_invitations(subscriber).await?;
        if settled {
            return Ok(());
        }
        // Another try of this job may have died and left something parked.
        self.release(registered.key).await
    }

    async fn publish_invitations(&self, subscriber: &Subscriber) -> Result<(), Fault> {
        let (store, notifier) = (self.ports.store, Notifier::of(self.ports));
        let mut invitations = pin!(pages(
            |after| async move {
                store
                    .invitations(subscriber, after.as_ref(), limits::PAGE)
                    .await
            },
            |invitation| invitation.channel.clone(),
        ));
        while let Some(page) = invitations.try_next().await? {
            for invitation in page {
                let channel = subscriber.domain.channel(invitation.channel);
                if !notifier
                    .publish_invitation(subscriber, &channel.log())
                    .await?
                {
                    self.forget_invitation_if_ended(subscriber, channel).await?;
                }
            }
        }
        Ok(())
    }

    /// Removes an invitation to a channel that ended. The invited subscriber never sees it, so it could not decline it.
    async fn forget_invitation_if_ended(
        &self,
        subscriber: &Subscriber,
        channel: ChannelKey,
    ) -> Result<(), Fault> {
        if self
            .ports
            .store
            .roster(&channel)
            .await?
            .is_none_or(|it| it.open)
        {
            return Ok(());
        }
        let uninvited = RowChange::Uninvited {
            subscriber: subscriber.id.clone(),
        };
        let change = Change::of_rows(channel, self.ports.environment.now(), vec![uninvited]);
        self.ports.store.change(&change).await
    }

    /// Waits for the end of a connection's gates and releases what is parked then. Passing faults are retried here: if the job
    /// were given up, what is parked would wait for the next push to this connection.
    async fn release(&self, key: &ConnectionKey) -> Result<(), Fault> {
        let mut attempt = 0;
        loop {
            match Box::pin(self.try_release(key)).await {
                Err(fault) => {
                    let salt = key.id.as_str();
                    self.ports.retry_store(&mut attempt, salt, fault).await?;
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Closes a client that takes nothing for so long that the same reference is still the first one.
    async fn try_release(&self, key: &ConnectionKey) -> Result<(), Fault> {
        let closer = Closer::of(self.ports);
        let mut first: Option<(Reference, Timestamp)> = None;
        loop {
            let now = self.ports.environment.now();
            let mut connections = self.ports.store.connections(&key.subscriber).await?;
            let Some(connection) = connections.remove(&key.id) else {
                // It left, or an earlier try died after the first step of closing it. Then it would stay open and get nothing.
                let code = DisconnectCode::Shutdown;
                return closer.close_forgotten(&key.id, Framing::Raw, code).await;
            };
            let Some(parked) = connection.parked.first() else {
                return Ok(());
            };
            match &first {
                Some((reference, since)) if reference == parked => {
                    if since.plus(BEHIND) < now {
                        let (token, code) = (&connection.token, DisconnectCode::Shutdown);
                        return closer
                            .close_for_certain(key, token, Some(&connection), code)
                            .await;
                    }
                }
                _ => first = Some((parked.clone(), now)),
            }
            match connection.gates.values().max() {
                Some(end) if now < *end => {
                    self.ports.environment.sleep(now.until(*end)).await;
                }
                _ => {
                    let target = Target {
                        key: key.clone(),
                        connection,
                        read_at: now,
                    };
                    // Parking nothing takes over from the dead gates and releases.
                    let parking = Sender::of(self.ports).park(&target, &[]).await?;
                    if let Parking::Done(receipts) = parking {
                        Notifier::of(self.ports).deliver(receipts).await?;
                    }
                }
            }
        }
    }
}
