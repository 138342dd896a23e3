//! Gates: a required response comes before everything that the request caused.
//!
//! The function that handles a message with a required response raises a gate on the sender's connection. A push that finds a
//! gate, or finds something parked, parks a reference at the end instead of posting. The gate's owner posts the response, then
//! what is parked, in order, and lowers the gate once nothing is. So nothing overtakes anything.
//!
//! If the owner dies, the gate ends by itself. The next function that meets it takes over. It posts one `resync` for each log,
//! because it is unknown how much of what is parked was posted.

use super::{
    post::{Item, Sender, Target},
    receipts::Receipts,
    references::collapsed_to_resyncs,
};
use crate::{
    Store,
    ports::{
        Environment, Fault, Measure, Parked, ParkedOutcome, Pushes, Reference, Workers,
        is_first_gate,
    },
    timing::GATE,
};

/// References that are parked for one connection at most. Beyond that they collapse to one `resync` for each log.
const PARKED: usize = 200;
/// A client that is further behind than this is closed. It connects again and resumes. The item of its connection has
/// room for this many references.
const FAR_BEHIND: usize = 2 * PARKED;

/// The result of parking items.
#[derive(Debug)]
pub(crate) enum Parking {
    /// Another function will post them, or the connection is gone. Contains the receipts of what was released on the
    /// way.
    Done(Receipts),
    /// The gate is gone in the meantime: the connection has to be read again.
    Changed,
}

impl Parking {
    fn done() -> Self {
        Self::Done(Receipts::default())
    }
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Sender<'_, S, G, W, E> {
    /// Parks items behind the gate that was read, or takes over from gates whose owners died.
    pub(crate) async fn park(&self, target: &Target, items: &[Item<'_>]) -> Result<Parking, Fault> {
        let Target {
            key, connection, ..
        } = target;
        let references: Vec<Reference> = items
            .iter()
            .filter_map(|item| item.reference.clone())
            .collect();
        let count = connection.parked.len() + references.len();
        if count > FAR_BEHIND {
            self.close(target).await?;
            return Ok(Parking::done());
        }
        let references = if count > PARKED {
            // A `resync` of the log may be parked already, but its post may be under way and not cover these events.
            collapsed_to_resyncs(references)
        } else {
            references
        };

        // If no gate holds, the owner of an earlier gate died.
        let now = self.ports.environment.now();
        let Some(gate) = connection.standing_gate(now, None) else {
            if connection.opening_gate().is_some() {
                self.close(target).await?;
                return Ok(Parking::done());
            }
            return self.take_over(target, &references).await;
        };
        if references.is_empty() {
            return Ok(Parking::done());
        }

        let parked = self.ports.store.park(key, Some(gate), &references).await;
        self.ports.environment.measure(Measure::Parked);
        // The worker that activates a young connection releases what is parked there, and its job is repeated if it dies.
        if !is_first_gate(gate) {
            // A function that stands in for a dead one does not know if that one scheduled a release.
            let stands_in = items
                .iter()
                .any(|item| matches!(item.reference, Some(Reference::Resync { .. })));
            if stands_in || is_first(&parked) {
                self.schedule_release(key).await?;
            }
        }
        match parked? {
            ParkedOutcome::Parked(_) | ParkedOutcome::NotRegistered => Ok(Parking::done()),
            ParkedOutcome::Changed => Ok(Parking::Changed),
        }
    }

    /// Takes over what is parked behind gates that ended, and releases it.
    async fn take_over(&self, target: &Target, references: &[Reference]) -> Result<Parking, Fault> {
        let Target {
            key, connection, ..
        } = target;
        let gate = self.ports.environment.fresh_id();
        let deadline = self.ports.environment.now().plus(GATE);
        // One write, so what others park next stands behind these references, and only what was posted is removed.
        let taken = self
            .ports
            .store
            .take_gate(key, &connection.gates, (&gate, deadline), references)
            .await;
        // If these are the only references, no other function has scheduled a release for them.
        let alone = match &taken {
            Ok(taken) => taken
                .as_ref()
                .is_some_and(|taken| taken.parked.len() == references.len()),
            Err(fault) => matches!(fault, Fault::Unknown(_)),
        };
        if alone && !references.is_empty() {
            self.schedule_release(key).await?;
        }
        let Some(taken) = taken? else {
            return Ok(Parking::Changed);
        };
        let doubtful = taken.parked.len().saturating_sub(references.len());
        let receipts = Box::pin(self.release(key, &gate, taken, doubtful)).await?;
        Ok(Parking::Done(receipts))
    }
}

/// Returns true if these were the first references that are parked, or if that is unknown. The function that parks the
/// first ones schedules a release, because later ones rely on that.
const fn is_first(parked: &Result<ParkedOutcome, Fault>) -> bool {
    matches!(
        parked,
        Ok(ParkedOutcome::Parked(Parked::First)) | Err(Fault::Unknown(_))
    )
}
