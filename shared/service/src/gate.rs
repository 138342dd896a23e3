//! Gates: a required response comes before what was caused after its request.
//!
//! Whoever handles a message with a required response raises a gate on its own connection. A sender that sees a gate, or
//! that something is parked, parks a reference at the end instead of posting. The gate's owner answers, posts what is
//! parked, in order, and lowers the gate once nothing is. So nothing overtakes anything.
//!
//! If the owner dies, the gate ends by itself. What is parked then is taken over by whoever meets it, and becomes a
//! `resync` for each log, because nobody knows how much of it was posted.

use protocol::{ConnectionId, Subscriber, Timestamp, frame::DisconnectCode};

use crate::{
    GATE, POST, Service, Store,
    ports::{
        Environment, Fault, Job, Measure, Outcome, Parked, ParkedOutcome, Posted, Pushes,
        Reference, Workers, is_first_gate,
    },
    push::{Item, Target, loud},
};

/// References at most that wait for one connection; beyond that one `resync` for each log.
const PARKED: usize = 200;
/// Further behind than this a client is dropped, comes back and resumes: its item has room for so much.
const FAR_BEHIND: usize = 2 * PARKED;
/// How often a throttled post is tried again before the rest is left to the worker.
const THROTTLED: u32 = 5;

/// What became of items that had to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parking {
    /// Somebody will post them, or the connection is gone.
    Done,
    /// The gate is gone meanwhile: read the connection again.
    Changed,
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Parks items behind the gate that was seen, or takes over from gates whose owners are late.
    pub(crate) async fn park(&self, target: &Target, items: &[Item<'_>]) -> Result<Parking, Fault> {
        let Target {
            subscriber,
            id,
            connection,
            ..
        } = target;
        let references: Vec<Reference> =
            items.iter().filter_map(|it| it.reference.clone()).collect();
        if connection.parked.len() + references.len() > FAR_BEHIND {
            self.drop_target(target).await?;
            return Ok(Parking::Done);
        }
        let references = if connection.parked.len() + references.len() > PARKED {
            // Also if a `resync` of the log waits already: it may be on its way out, and know nothing of these.
            loud(references)
        } else {
            references
        };
        let Some(saw) = connection.standing_gate(self.environment.now(), None) else {
            if connection.opening_gate().is_some() {
                self.drop_target(target).await?;
                return Ok(Parking::Done);
            }
            return self.take_over(target, &references).await;
        };
        if references.is_empty() {
            return Ok(Parking::Done);
        }
        let parked = self
            .store
            .park(subscriber, id, Some(saw), &references)
            .await;
        self.environment.measure(Measure::Parked);
        // A young connection's worker sees to it anyway, and is tried again if it dies.
        if !is_first_gate(saw) {
            // Who stands in for one who died does not know whether that one, who may have parked first, saw to it.
            let stands_in = items
                .iter()
                .any(|it| matches!(it.reference, Some(Reference::Resync { .. })));
            if stands_in {
                self.start_release(subscriber, id).await?;
            } else {
                self.see_to(subscriber, id, &parked).await?;
            }
        }
        match parked? {
            ParkedOutcome::Parked(_) | ParkedOutcome::NotRegistered => Ok(Parking::Done),
            ParkedOutcome::Changed => Ok(Parking::Changed),
        }
    }

    /// Has the worker see to what was parked, if nothing was before; also if nobody knows whether something was: who comes
    /// next would find it there and leave it to us.
    async fn see_to(
        &self,
        subscriber: &Subscriber,
        id: &ConnectionId,
        parked: &Result<ParkedOutcome, Fault>,
    ) -> Result<(), Fault> {
        match parked {
            Ok(ParkedOutcome::Parked(Parked::First)) | Err(Fault::Unknown(_)) => {
                self.start_release(subscriber, id).await
            }
            _ => Ok(()),
        }
    }

    /// Has the worker see to what is parked for a connection.
    pub(crate) async fn start_release(
        &self,
        subscriber: &Subscriber,
        id: &ConnectionId,
    ) -> Result<(), Fault> {
        let job = Job::Release {
            subscriber: subscriber.clone(),
            connection: id.clone(),
        };
        self.workers.start(&job).await
    }

    /// Something is parked, and no gate stands any more.
    async fn take_over(&self, target: &Target, references: &[Reference]) -> Result<Parking, Fault> {
        let Target {
            subscriber,
            id,
            connection,
            ..
        } = target;
        let gate = self.environment.fresh_id();
        let deadline = self.environment.now().plus(GATE);
        // In one write: what others park next stands behind what is ours, and what is removed is what was posted.
        let taken = self
            .store
            .take_gate(
                subscriber,
                id,
                &connection.gates,
                (&gate, deadline),
                references,
            )
            .await;
        // Somebody else may have released all the rest meanwhile, and nobody see to ours if this dies.
        let alone = match &taken {
            Ok(taken) => taken
                .as_ref()
                .is_some_and(|it| it.parked.len() == references.len()),
            Err(fault) => matches!(fault, Fault::Unknown(_)),
        };
        if alone && !references.is_empty() {
            self.start_release(subscriber, id).await?;
        }
        let Some(taken) = taken? else {
            return Ok(Parking::Changed);
        };
        let late = taken.parked.len().saturating_sub(references.len());
        Box::pin(self.release(subscriber, id, &gate, taken, late)).await?;
        Ok(Parking::Done)
    }

    /// Drops a connection that can only begin anew. One is too far behind; or framed, and its opener died, so that nobody
    /// knows whether its client was told that its session is open: told twice it would take its session for lost, not told
    /// it would wait for ever.
    pub(crate) async fn drop_target(&self, target: &Target) -> Result<(), Fault> {
        let (framing, code) = (target.connection.framing, DisconnectCode::Shutdown);
        self.drop_connection(&target.subscriber, &target.id, framing, code)
            .await?;
        Ok(())
    }

    /// Posts, and again after a pause if the client reads too slowly: a throttled post was certainly not taken. None is under
    /// way any more at `until`.
    pub(crate) async fn post_patiently(
        &self,
        target: &Target,
        messages: &[&str],
        until: Option<Timestamp>,
    ) -> Posted {
        let mut attempt = 0;
        loop {
            let posted = self.post(target, messages).await;
            let pause = crate::backoff(attempt + 3, target.id.as_str());
            let next = self.environment.now().plus(pause);
            let is_late = until.is_some_and(|until| until <= next.plus(POST));
            if posted.outcome != Outcome::Throttled || attempt == THROTTLED || is_late {
                return posted;
            }
            self.environment.sleep(pause).await;
            attempt += 1;
        }
    }
}
