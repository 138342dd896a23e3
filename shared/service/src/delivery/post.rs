//! One connection: posting messages to it, reading it again, giving it up.

use protocol::{ConnectionKey, LogId, Timestamp, frame::DisconnectCode};

use super::references::collapsed_to_resyncs;
use crate::{
    Store,
    closer::Closer,
    parts::part,
    ports::{
        Connection, Environment, Fault, Job, Measure, Outcome, Posted, Pushes, Reference, Workers,
    },
    retry::THROTTLED_ANSWER,
    timing::POST,
};

part! {
    /// Sends to one connection: posts, or parks what must wait behind a gate.
    Sender
}

/// A connection as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) key: ConnectionKey,
    pub(crate) connection: Connection,
    pub(crate) read_at: Timestamp,
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Sender<'_, S, G, W, E> {
    /// Posts as many of the first messages as go together.
    pub(crate) async fn post(&self, target: &Target, messages: &[&str]) -> Posted {
        let framing = target.connection.framing;
        let posted = self
            .ports
            .gateway
            .post(&target.key.id, framing, messages)
            .await;
        self.ports
            .environment
            .measure(Measure::Post(posted.outcome));
        posted
    }

    /// Posts, and repeats that after a pause if the client reads too slowly: a throttled post was certainly not taken. No post
    /// is still under way at `until`.
    pub(crate) async fn post_patiently(
        &self,
        target: &Target,
        messages: &[&str],
        until: Option<Timestamp>,
    ) -> Posted {
        let mut attempt = 0;
        loop {
            let posted = self.post(target, messages).await;
            if posted.outcome != Outcome::Throttled {
                return posted;
            }
            let Some(pause) = THROTTLED_ANSWER.pause(attempt, target.key.id.as_str()) else {
                return posted;
            };
            let next = self.ports.environment.now().plus(pause);
            if until.is_some_and(|until| until <= next.plus(POST)) {
                return posted;
            }
            self.ports.environment.sleep(pause).await;
            attempt += 1;
        }
    }

    /// Reads the connection again. Returns false if it is not registered any more.
    pub(crate) async fn refresh(&self, target: &mut Target) -> Result<bool, Fault> {
        let read_at = self.ports.environment.now();
        // Boxed: this is rare, and larger than the rest of a push. A fan-out has one push for each receiver.
        let mut connections =
            Box::pin(self.ports.store.connections(&target.key.subscriber)).await?;
        match connections.remove(&target.key.id) {
            Some(connection) => {
                target.connection = connection;
                target.read_at = read_at;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Forgets a connection that a post found gone.
    pub(crate) async fn forget_gone(&self, target: &Target) -> Result<(), Fault> {
        // Boxed, as in `refresh`.
        Box::pin(self.closer().disconnected(&target.key)).await
    }

    /// Closes a connection whose client can only connect again.
    ///
    /// Either it is too far behind. Or it is SockJS-framed and its opener died, so it is unknown whether the client got `o`:
    /// with a second `o` the client would take its session for lost, without one it would wait for ever.
    pub(crate) async fn close(&self, target: &Target) -> Result<(), Fault> {
        let (framing, code) = (target.connection.framing, DisconnectCode::Shutdown);
        self.closer().close(&target.key, framing, code).await?;
        Ok(())
    }

    /// After a post of unknown outcome: posts a `resync` for each log of `doubtful` instead of repeating the post. Returns true
    /// if the client got all of them.
    pub(crate) async fn resync(
        &self,
        target: &Target,
        doubtful: impl IntoIterator<Item = Reference>,
    ) -> Result<bool, Fault> {
        for reference in collapsed_to_resyncs(doubtful) {
            if let Reference::Resync { log } = reference
                && let Some(message) = self.resync_frame(target, &log).await?
                && self.post(target, &[&message]).await.outcome != Outcome::Delivered
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Tells the client that it may have missed events of a log, now or once it takes messages again.
    pub(crate) async fn resync_now_or_later(
        &self,
        target: &Target,
        log: &LogId,
    ) -> Result<(), Fault> {
        let reference = Reference::Resync { log: log.clone() };
        if self.resync(target, [reference.clone()]).await? {
            return Ok(());
        }
        self.hold_back(target, [reference]).await
    }

    /// Has the worker release what is parked for a connection, should the gate's owner die.
    pub(crate) async fn schedule_release(&self, key: &ConnectionKey) -> Result<(), Fault> {
        let job = Job::Release {
            subscriber: key.subscriber.clone(),
            connection: key.id.clone(),
        };
        self.ports.workers.start(&job).await
    }

    const fn closer(&self) -> Closer<'_, S, G, W, E> {
        Closer::of(self.ports)
    }
}
