//! One connection: posting messages to it, reading it again, closing it.

use protocol::{ConnectionKey, Timestamp, server_message::DisconnectCode};

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

/// A frame, and what is parked in its place if it has to wait.
#[derive(Clone, Debug)]
pub(crate) struct Item<'a> {
    pub(crate) frame: &'a str,
    /// `None` if the frame is not worth waiting for.
    pub(crate) reference: Option<Reference>,
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

    /// Closes a connection whose client has to connect again.
    ///
    /// Either the client is too far behind. Or it is a SockJS client and its opener died, so it is unknown if the
    /// client got `o`. With a second `o` the client would take its session for lost. Without one it would wait for
    /// ever.
    pub(crate) async fn close(&self, target: &Target) -> Result<(), Fault> {
        let (framing, code) = (target.connection.framing, DisconnectCode::Shutdown);
        self.closer().close(&target.key, framing, code).await?;
        Ok(())
    }

    /// Schedules a release of what is parked for a connection, in case the gate's owner dies.
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
