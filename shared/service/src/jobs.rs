//! The worker's jobs: what nobody should wait for. Each is safe twice.

use core::time::Duration;

use protocol::{
    ChannelKey, ConnectionId, LogId, Subscriber, Timestamp,
    change::{Change, RowChange},
    frame::DisconnectCode,
    limits,
};

use crate::{
    Service, Store,
    open::{Registered, Up},
    ports::{Environment, Fault, Framing, Job, Pushes, Reference, Workers},
};

/// How long the worker drains before it hands on to another invocation of itself.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may take nothing of what waits for it.
const BEHIND: Duration = Duration::from_secs(30);

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Carries out a job.
    ///
    /// # Errors
    /// A fault; Lambda then repeats the job.
    pub async fn work(&self, job: &Job) -> Result<(), Fault> {
        // Boxed: each arm is a deep future, and the compiler need not look through all of them at once.
        match job {
            Job::Connected {
                subscriber,
                connection,
                token,
                framing,
            } => {
                let registered = Registered {
                    subscriber,
                    id: connection,
                    token,
                };
                Box::pin(self.connected(registered, *framing)).await
            }
            Job::Drain { log, holder } => {
                Box::pin(self.drain_job(log, holder.as_deref(), None, PATIENCE)).await
            }
            Job::GoOn {
                log,
                holder,
                midway,
            } => {
                let midway = Some(midway.clone());
                Box::pin(self.drain_job(log, Some(holder), midway, PATIENCE)).await
            }
            Job::Presence { subscriber, grace } => {
                Box::pin(self.tell_presence(subscriber, *grace)).await
            }
            Job::Release {
                subscriber,
                connection,
            } => Box::pin(self.release_late(subscriber, connection)).await,
            Job::Invited { subscriber, log } => Box::pin(self.tell_invitation(subscriber, log))
                .await
                .map(drop),
            Job::Erase { subscriber } => Box::pin(self.erase_job(subscriber)).await,
            Job::EraseLog {
                subscriber,
                log,
                after,
            } => Box::pin(self.erase_log(subscriber, log, *after)).await,
            Job::Dismantle { channel } => Box::pin(self.dismantle(channel)).await,
        }
    }

    /// A connection was registered: once it is up, what waited behind its first gate goes, pending invitations after it;
    /// the oldest goes if there is one too many. One that never comes up is forgotten.
    async fn connected(&self, registered: Registered<'_>, framing: Framing) -> Result<(), Fault> {
        let Registered { subscriber, id, .. } = registered;
        let up = match framing {
            Framing::Raw | Framing::Session => self.come_up(registered).await?,
            Framing::Sockjs => self.open_session(registered).await?,
        };
        let Some(Up {
            mut connections,
            settled,
        }) = up
        else {
            return Ok(());
        };
        while connections.len() > limits::CONNECTIONS_PER_SUBSCRIBER {
            let oldest = connections
                .iter()
                .min_by_key(|(id, it)| (it.since, (*id).clone()))
                .map(|(id, _)| id.clone());
            let Some((oldest, entry)) = oldest.and_then(|it| connections.remove_entry(&it)) else {
                break;
            };
            let code = DisconnectCode::ConnectionLimit;
            // Whoever dies in the midst of it leaves a connection that is closed with the next message from it.
            self.drop_for_certain(subscriber, &entry.token, &oldest, Some(&entry), code)
                .await?;
        }
        self.tell_invitations(subscriber).await?;
        if settled {
            return Ok(());
        }
        // What is left if another try of this job died.
        self.release_late(subscriber, id).await
    }

    async fn tell_invitations(&self, subscriber: &Subscriber) -> Result<(), Fault> {
        let mut after = None;
        loop {
            let page = self
                .store
                .invitations(subscriber, after.as_ref(), limits::PAGE)
                .await?;
            after = page.items.last().map(|it| it.channel.clone());
            for invitation in page.items {
                let channel = ChannelKey {
                    domain: subscriber.domain.clone(),
                    id: invitation.channel,
                };
                if !self.tell_invitation(subscriber, &channel.log()).await? {
                    self.forget_if_over(subscriber, channel).await?;
                }
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Tells every connection of a subscriber that it is invited, as long as it is; whether it is.
    async fn tell_invitation(&self, subscriber: &Subscriber, log: &LogId) -> Result<bool, Fault> {
        let Some(frame) = self.invitation_frame(subscriber, log).await? else {
            return Ok(false);
        };
        let reference = Reference::Invitation { log: log.clone() };
        self.push_to_all(subscriber, &frame, &reference, None)
            .await?;
        Ok(true)
    }

    /// An invitation to a channel that ended is told to nobody, who could decline it.
    async fn forget_if_over(
        &self,
        subscriber: &Subscriber,
        channel: ChannelKey,
    ) -> Result<(), Fault> {
        if self.store.roster(&channel).await?.is_none_or(|it| it.open) {
            return Ok(());
        }
        let uninvited = RowChange::Uninvited {
            subscriber: subscriber.id.clone(),
        };
        let change = Change::of_rows(channel, self.environment.now(), vec![uninvited]);
        self.store.change(&change).await
    }

    /// Something was parked: waits for the gates' ends and takes over what is left then. What passes is tried again here: if the
    /// job is given up, what is parked waits until somebody is to push to this connection again.
    async fn release_late(&self, subscriber: &Subscriber, id: &ConnectionId) -> Result<(), Fault> {
        let mut attempt = 0;
        loop {
            match Box::pin(self.try_release_late(subscriber, id)).await {
                Err(fault) => self.again(&mut attempt, id.as_str(), fault).await?,
                Ok(()) => return Ok(()),
            }
        }
    }

    /// A client that takes nothing for so long that the same reference is still the first to go is dropped.
    async fn try_release_late(
        &self,
        subscriber: &Subscriber,
        id: &ConnectionId,
    ) -> Result<(), Fault> {
        let mut first: Option<(Reference, Timestamp)> = None;
        loop {
            let now = self.environment.now();
            let mut connections = self.store.connections(subscriber).await?;
            let Some(connection) = connections.remove(id) else {
                // It left, or an earlier try of this died after the first step of dropping it: forgotten, it would stay
                // open and hear of nothing.
                let code = DisconnectCode::Shutdown;
                return self.close_for_certain(id, Framing::Raw, code).await;
            };
            if connection.parked.is_empty() {
                return Ok(());
            }
            let parked = connection.parked.first();
            match &first {
                Some((reference, since)) if Some(reference) == parked => {
                    if since.plus(BEHIND) < now {
                        let (token, code) = (&connection.token, DisconnectCode::Shutdown);
                        return self
                            .drop_for_certain(subscriber, token, id, Some(&connection), code)
                            .await;
                    }
                }
                _ => first = parked.map(|it| (it.clone(), now)),
            }
            match connection.gates.values().max() {
                Some(end) if now < *end => self.environment.sleep(now.until(*end)).await,
                _ => {
                    let target = crate::push::Target {
                        subscriber: subscriber.clone(),
                        id: id.clone(),
                        connection,
                        read_at: now,
                    };
                    self.park(&target, &[]).await?;
                }
            }
        }
    }
}
