//! The decision loop, for client messages and back ends alike: load what the decision needs, decide, commit. If another write
//! was first, load and decide again.

use protocol::{
    Code, ConnectionId, Known, Needs, Rejection, ServerMessage, Subscriber, plan::Plan,
};

use crate::{
    Store,
    log::{
        change::{Changer, Slots, Tried},
        slots::LogWork,
    },
    messages::load::Loader,
    parts::part,
    ports::{Environment, Fault, Job, Workers},
    retry::{CLOSING_LOG, CONFLICT},
};

part! {
    /// Decides and commits changes of channels.
    Decider
}

/// What a decision needs besides what is loaded.
pub(crate) struct Request<'a> {
    /// The subscriber whose rows `needs` names as those of the caller. `None` if it names none.
    pub(crate) caller: Option<&'a Subscriber>,
    /// The connection that gets the response, and not the events that the response stands for.
    pub(crate) connection: Option<&'a ConnectionId>,
    pub(crate) needs: &'a Needs,
    /// The function that takes the log's lease if it is free.
    pub(crate) holder: &'a str,
}

/// What a decision asks for.
pub(crate) enum Verdict<T> {
    /// No channel changes.
    Settled(T),
    /// A channel changes.
    Change {
        plan: Box<Plan>,
        /// The job that repairs what this function leaves behind if it dies after the change. It is started before the change.
        before: Option<Job>,
        then: T,
    },
}

/// The result of a decision.
pub(crate) enum End<T> {
    Settled(T),
    Changed {
        /// True if the channel was created.
        created: bool,
        /// The required response, if the change brings one.
        answer: Option<ServerMessage>,
        then: T,
    },
    Rejected(Rejection),
}

/// How a decision ended.
pub(crate) struct Decided<T> {
    pub(crate) end: End<T>,
    /// What has to be pushed, whatever the end.
    pub(crate) work: LogWork,
}

impl<S: Store, G, W: Workers, E: Environment> Decider<'_, S, G, W, E> {
    /// Decides and commits, and loads and decides again for as long as another write is first.
    ///
    /// `known` is what was loaded already. `decide` is called once for each try.
    pub(crate) async fn run<T>(
        &self,
        request: &Request<'_>,
        known: Option<Known>,
        mut decide: impl FnMut(&Known) -> Result<Verdict<T>, Rejection>,
    ) -> Result<Decided<T>, Fault> {
        let loader = Loader::of(self.ports);
        let changer = Changer::of(self.ports);
        let mut known = match known {
            Some(known) => known,
            None => loader.load(request.caller, request.needs).await?,
        };
        let mut slots: Option<Slots> = None;
        let mut is_job_started = false;
        let mut attempt = 0;
        loop {
            let pause = CONFLICT.pause(attempt, request.holder);
            match decide(&known) {
                // What was read does not fit together, because other writes came in between.
                Err(rejection) if rejection.code == Code::Unavailable && pause.is_some() => {}
                Err(rejection) => return self.finish(End::Rejected(rejection), slots).await,
                Ok(Verdict::Settled(then)) => {
                    return self.finish(End::Settled(then), slots).await;
                }
                Ok(Verdict::Change { plan, before, then }) => {
                    if let Some(job) = before.filter(|_| !is_job_started) {
                        self.ports.workers.start(&job).await?;
                        is_job_started = true;
                    }
                    let origin = request.connection.filter(|_| !plan.is_pushed_to_caller());
                    let tried = changer
                        .try_change(&plan, origin, request.holder, slots.take())
                        .await?;
                    match tried {
                        Tried::Done { answer, work } => {
                            let end = End::Changed {
                                created: plan.create,
                                answer,
                                then,
                            };
                            return Ok(Decided { end, work });
                        }
                        Tried::Conflict(kept) => slots = kept,
                        // The log has taken its last event, and the writer of that is about to end the channel.
                        Tried::Rejected(rejection, kept)
                            if rejection.code == Code::NotFound
                                && CLOSING_LOG.pause(attempt, request.holder).is_some() =>
                        {
                            slots = kept;
                        }
                        Tried::Rejected(rejection, kept) => {
                            return self.finish(End::Rejected(rejection), kept).await;
                        }
                    }
                }
            }
            let Some(pause) = pause else {
                let busy = End::Rejected(Rejection::busy());
                return self.finish(busy, slots).await;
            };
            self.ports.environment.sleep(pause).await;
            known = loader.load(request.caller, request.needs).await?;
            attempt += 1;
        }
    }

    /// Ends without a change. Slots of earlier tries are voided, and the log is drained if the lease came with them.
    async fn finish<T>(&self, end: End<T>, slots: Option<Slots>) -> Result<Decided<T>, Fault> {
        let work = match slots {
            Some(slots) => Changer::of(self.ports).give_up(slots).await?,
            None => LogWork::Nothing,
        };
        Ok(Decided { end, work })
    }
}
