//! Answering a client message: the response, then the `ack`, then what was parked behind the gate.

use protocol::{LogId, Rejection, ServerMessage};

use super::handle::{Handled, Handler};
use crate::{
    Store,
    delivery::{
        notifier::Notifier,
        post::{Sender, Target},
    },
    ports::{Environment, Fault, Measure, Outcome, Pushes, Workers},
};

impl<S: Store, G: Pushes, W: Workers, E: Environment> Handler<'_, S, G, W, E> {
    /// Posts the response and the `ack`, then releases what was parked behind the gate. Returns true if the response went out.
    pub(super) async fn answer_and_release(
        &self,
        target: &Target,
        id: Option<&str>,
        handled: &Handled,
        log: Option<&LogId>,
        gate: Option<&str>,
    ) -> Result<bool, Fault> {
        let answered = self.answer_for(target, id, handled, log).await?;
        let Some(gate) = gate else {
            return Ok(answered);
        };
        let sender = Sender::of(self.ports);
        let mut behind_gate = target.clone();
        // What was parked when the gate was raised may be gone by now, and others may stand behind gates of their own.
        if !behind_gate.connection.parked.is_empty() && !sender.refresh(&mut behind_gate).await? {
            return Ok(answered);
        }
        let Target {
            key, connection, ..
        } = behind_gate;
        let released = sender.release(&key, gate, connection, 0).await;
        self.ports
            .environment
            .measure(Measure::Gate(self.ports.since(target.read_at)));
        Notifier::of(self.ports).deliver(released?).await?;
        Ok(answered)
    }

    pub(super) async fn answer(
        &self,
        target: &Target,
        id: Option<&str>,
        handled: &Handled,
    ) -> Result<bool, Fault> {
        self.answer_for(target, id, handled, None).await
    }

    /// Posts the response and then the `ack`, together if they fit. Returns true if the response went out, or none is required.
    ///
    /// The response may fail alone. If it stands for an event of `log`, a `resync` repairs that. Otherwise the `ack` says that
    /// the request failed, and the client repeats it.
    async fn answer_for(
        &self,
        target: &Target,
        id: Option<&str>,
        handled: &Handled,
        log: Option<&LogId>,
    ) -> Result<bool, Fault> {
        let sender = Sender::of(self.ports);
        let ack = |rejection: Option<Rejection>| {
            let ack = ServerMessage::Ack {
                id: id.map(str::to_owned),
                status: rejection.is_none(),
                error: rejection,
            };
            ack.encode(id)
        };
        let last = ack(handled.rejection.clone());
        let Some(response) = handled.response.as_ref().map(|it| it.encode(id)) else {
            let posted = sender.post_patiently(target, &[&last], None).await;
            if posted.outcome == Outcome::Gone {
                sender.forget_gone(target).await?;
            }
            return Ok(true);
        };
        // The first post takes the response along, and the `ack` if both fit one frame.
        let posted = sender
            .post_patiently(target, &[&response, &last], None)
            .await;
        let answered = posted.outcome == Outcome::Delivered;
        let mut is_gone = posted.outcome == Outcome::Gone;
        if posted.count == 1 && !is_gone {
            let last = if answered || log.is_some() {
                last
            } else {
                ack(Some(Rejection::busy()))
            };
            let posted = sender.post_patiently(target, &[&last], None).await;
            is_gone = posted.outcome == Outcome::Gone;
        }
        if is_gone {
            sender.forget_gone(target).await?;
            return Ok(answered);
        }
        if let (false, Some(log)) = (answered, log) {
            // No function pushes an event to the connection that caused it.
            sender.resync_now_or_later(target, log).await?;
        }
        Ok(answered)
    }
}
