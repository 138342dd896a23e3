//! Releasing: posting what is parked for a connection, behind a gate of one's own.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use protocol::{ConnectionKey, LogId, Timestamp};

use super::{
    post::{Sender, Target},
    receipts::Receipts,
};
use crate::{
    Store,
    ports::{
        Connection, Environment, Fault, Framing, Outcome, Posted, Pushes, Reference, UNPARKED,
        Workers,
    },
    timing::{GATE, POST},
};

/// How long references are posted one by one. If more arrive all the time, the release would outlast its function, so after
/// this each log's references collapse to one `resync`.
const ONE_BY_ONE: Duration = Duration::from_secs(3);
/// References that are turned into messages at most before these are posted together.
const TOGETHER: usize = 50;

/// The state of a release.
#[derive(Debug)]
struct Releasing<'a> {
    gate: &'a str,
    /// From then on everything collapses to resyncs.
    impatient: Timestamp,
    /// The first references, of which it is unknown whether they were posted: they collapse to resyncs.
    doubtful: usize,
    /// Continues with a connection that was taken over. It is unknown how far the dead owners came.
    took_over: bool,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Lower the own gate. `other` is another gate that stands. Its owner then continues.
    Lower { other: Option<String> },
    /// Close the connection: its opener died.
    CloseUnopened,
    /// Take over from these gates, which ended.
    TakeOver(BTreeMap<String, Timestamp>),
    /// Post what is parked.
    Post,
}

/// The result of posting parked references.
enum PostedParked {
    /// The first `usize` references are done with.
    Done(usize),
    /// Nothing more can be done here: the connection is gone, or the gate is left to end.
    Stopped,
}

impl Releasing<'_> {
    fn next(&mut self, connection: &Connection, now: Timestamp) -> Step {
        let other = connection.standing_gate(now, Some(self.gate));
        if connection.parked.is_empty() || other.is_some() {
            return Step::Lower {
                other: other.map(str::to_owned),
            };
        }
        // Gates of others that ended are removed first. If the owner of one is still running, its next write fails. So it
        // cannot remove what only this function posts.
        let mut expired = connection.gates.clone();
        expired.remove(self.gate);
        let opening = connection.opening_gate();
        if opening.is_some_and(|gate| expired.contains_key(gate)) {
            return Step::CloseUnopened;
        }
        if !expired.is_empty() {
            return Step::TakeOver(expired);
        }
        if self.impatient <= now {
            self.doubtful = connection.parked.len();
        }
        Step::Post
    }

    /// Continues with a connection that was taken over. It is unknown how far the dead owners came.
    fn took_over(&mut self, connection: &Connection) {
        self.took_over = true;
        self.doubtful = connection.parked.len();
    }

    /// Returns true if a release has to be scheduled after the own gate was lowered while another stands. That gate's owner
    /// may die, and the function that parked first may have died before it scheduled one.
    fn needs_release(&self, connection: &Connection, now: Timestamp) -> bool {
        let is_left = !connection.parked.is_empty();
        self.took_over || is_left && connection.has_dead_gate(now, self.gate)
    }
}

/// A parked reference as the message that it stands for.
struct Ready {
    index: usize,
    reference: Reference,
    message: String,
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Sender<'_, S, G, W, E> {
    /// Posts what is parked behind the own gate, in order, until nothing is, and lowers the gate. The first `doubtful`
    /// references were taken over. While another gate stands, its owner goes on.
    ///
    /// If the function dies, the gate ends by itself and is taken over. What was posted and not yet removed is then posted
    /// again, as a `resync`.
    pub(crate) async fn release(
        &self,
        key: &ConnectionKey,
        gate: &str,
        mut connection: Connection,
        doubtful: usize,
    ) -> Result<Receipts, Fault> {
        let store = self.ports.store;
        let mut receipts = Receipts::default();
        let mut releasing = Releasing {
            gate,
            impatient: self.ports.environment.now().plus(ONE_BY_ONE),
            doubtful,
            took_over: doubtful > 0,
        };
        loop {
            let now = self.ports.environment.now();
            let read = match releasing.next(&connection, now) {
                Step::Lower { other } => {
                    let other = other.as_deref();
                    if other.is_some()
                        && releasing.doubtful > 0
                        && !self.leave_dead_gate(key).await?
                    {
                        return Ok(receipts);
                    }
                    if store.lower_gate(key, gate, other).await? {
                        if other.is_some() && releasing.needs_release(&connection, now) {
                            self.schedule_release(key).await?;
                        }
                        return Ok(receipts);
                    }
                    self.still_gated(key, gate).await?
                }
                Step::CloseUnopened => {
                    let target = Target {
                        key: key.clone(),
                        connection,
                        read_at: now,
                    };
                    self.close(&target).await?;
                    return Ok(receipts);
                }
                Step::TakeOver(expired) => {
                    let deadline = now.plus(GATE);
                    let taken = store
                        .take_gate(key, &expired, (gate, deadline), &[])
                        .await?;
                    match taken {
                        Some(taken) => {
                            releasing.took_over(&taken);
                            Some(taken)
                        }
                        None => self.still_gated(key, gate).await?,
                    }
                }
                Step::Post => {
                    let target = Target {
                        key: key.clone(),
                        connection,
                        read_at: now,
                    };
                    let doubtful = releasing.doubtful;
                    let posted = self.post_parked(&target, gate, doubtful, &mut receipts);
                    let PostedParked::Done(done) = posted.await? else {
                        return Ok(receipts);
                    };
                    releasing.doubtful = doubtful.saturating_sub(done);
                    self.unpark(key, gate, done).await?
                }
            };
            match read {
                Some(read) => connection = read,
                None => return Ok(receipts),
            }
        }
    }

    /// Removes the first `done` references and renews the gate. Returns the connection as it is then, or `None` if the gate is
    /// gone.
    async fn unpark(
        &self,
        key: &ConnectionKey,
        gate: &str,
        mut done: usize,
    ) -> Result<Option<Connection>, Fault> {
        loop {
            // One update removes at most this many.
            let count = done.min(UNPARKED);
            let deadline = self.ports.environment.now().plus(GATE);
            let left = self.ports.store.unpark(key, gate, count, deadline).await?;
            done -= count;
            match left {
                Ok(_) if done > 0 => {}
                left => return Ok(left.ok()),
            }
        }
    }

    /// Raises a gate that has ended already. The owner that goes on learns from it that it is unknown how much of what is
    /// parked was posted. Returns false if the connection is not registered any more.
    async fn leave_dead_gate(&self, key: &ConnectionKey) -> Result<bool, Fault> {
        let gate = format!("late-{}", self.ports.environment.fresh_id());
        let ended = Timestamp::from_millis(0);
        let raised = self.ports.store.raise_gate(key, &gate, ended).await?;
        Ok(raised.is_ok())
    }

    /// Reads the connection again. Returns `None` if the gate is gone.
    async fn still_gated(
        &self,
        key: &ConnectionKey,
        gate: &str,
    ) -> Result<Option<Connection>, Fault> {
        let mut connections = self.ports.store.connections(&key.subscriber).await?;
        let connection = connections.remove(&key.id);
        Ok(connection.filter(|it| it.gates.contains_key(gate)))
    }

    /// Posts what is parked for as long as the own gate certainly holds, and adds the receipts.
    async fn post_parked(
        &self,
        target: &Target,
        gate: &str,
        doubtful: usize,
        receipts: &mut Receipts,
    ) -> Result<PostedParked, Fault> {
        let environment = self.ports.environment;
        let mut resynced = BTreeSet::new();
        let (mut done, mut looked) = (0, 0);
        let mut ready: VecDeque<Ready> = VecDeque::new();
        while done < target.connection.parked.len() {
            // 1. References become messages.
            if ready.is_empty() {
                (ready, looked) = self
                    .make_ready(target, looked, doubtful, &mut resynced)
                    .await?;
                if ready.is_empty() {
                    done = looked;
                    continue;
                }
            }
            // 2. The gate must hold until the post has ended.
            let now = environment.now();
            let deadline = target.connection.gates.get(gate);
            let Some(deadline) = deadline.filter(|deadline| now.plus(POST) < **deadline) else {
                return Ok(PostedParked::Done(done));
            };
            // The gate is renewed before the next post, and the connection is read again for gates of others.
            let is_read_long_ago = done > 0 && target.read_at.plus(POST) <= now;
            if is_read_long_ago || ready.iter().any(|it| it.reference.is_overdue(now)) {
                return Ok(PostedParked::Done(done));
            }
            // 3. The post.
            let messages: Vec<&str> = ready.iter().map(|it| it.message.as_str()).collect();
            let Posted { count, outcome } = self
                .post_patiently(target, &messages, Some(*deadline))
                .await;
            let posted: Vec<Ready> = ready.drain(..count.min(ready.len())).collect();
            match outcome {
                Outcome::Delivered => {
                    for ready in &posted {
                        receipts.note_posted(&target.key.subscriber.id, &ready.reference);
                    }
                }
                Outcome::Gone => {
                    self.forget_gone(target).await?;
                    return Ok(PostedParked::Stopped);
                }
                outcome => {
                    let unknown = posted.iter().map(|it| it.reference.clone());
                    if outcome == Outcome::Throttled || !self.resync(target, unknown).await? {
                        // The gate is left to end. Then the worker that was scheduled with the first reference takes over and
                        // posts resyncs.
                        let deadline = environment.now().plus(GATE);
                        let _ = self
                            .ports
                            .store
                            .unpark(&target.key, gate, done, deadline)
                            .await?;
                        return Ok(PostedParked::Stopped);
                    }
                }
            }
            done = ready.front().map_or(looked, |it| it.index);
        }
        Ok(PostedParked::Done(done))
    }

    /// Returns the messages for the references from `from` on, as many as may go together, and the index after the last one.
    ///
    /// The first `doubtful` references and those that are overdue become one `resync` for each log.
    async fn make_ready(
        &self,
        target: &Target,
        from: usize,
        doubtful: usize,
        resynced: &mut BTreeSet<LogId>,
    ) -> Result<(VecDeque<Ready>, usize), Fault> {
        let most = match target.connection.framing {
            Framing::Raw => 1,
            Framing::Sockjs | Framing::Session => TOGETHER,
        };
        let impatient = self.ports.environment.now().plus(POST / 2);
        let mut ready = VecDeque::new();
        let mut looked = from;
        for (index, reference) in target.connection.parked.iter().enumerate().skip(from) {
            let now = self.ports.environment.now();
            if ready.len() >= most || now >= impatient && looked > from {
                break;
            }
            looked = index + 1;
            let reference = match reference {
                Reference::Event { log, .. } | Reference::Resync { log }
                    if index < doubtful || reference.is_overdue(now) =>
                {
                    if !resynced.insert(log.clone()) {
                        continue;
                    }
                    Reference::Resync { log: log.clone() }
                }
                other => other.clone(),
            };
            if let Some(message) = self.frame_of(target, &reference).await? {
                ready.push_back(Ready {
                    index,
                    reference,
                    message,
                });
            }
        }
        Ok((ready, looked))
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Domain, SubscriberId};

    use super::*;
    use crate::ports::{FIRST_GATE, TokenHash};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn connection(gates: &[(&str, i64)], parked: usize) -> Connection {
        let ann = Domain::parse("d")
            .unwrap()
            .subscriber(SubscriberId::parse("ann").unwrap());
        let log = LogId::direct(&ann, &SubscriberId::parse("bob").unwrap());
        Connection {
            token: TokenHash::of("token"),
            framing: Framing::Raw,
            since: NOW,
            ends_at: NOW.plus_seconds(3600),
            gates: gates
                .iter()
                .map(|(gate, seconds)| ((*gate).to_owned(), NOW.plus_seconds(*seconds)))
                .collect(),
            parked: vec![Reference::Resync { log }; parked],
            announced: false,
        }
    }

    const fn releasing() -> Releasing<'static> {
        Releasing {
            gate: "own",
            impatient: NOW.plus_seconds(3),
            doubtful: 0,
            took_over: false,
        }
    }

    #[test]
    fn empty_gate_is_lowered() {
        let step = releasing().next(&connection(&[("own", 5)], 0), NOW);
        assert_eq!(step, Step::Lower { other: None });
    }

    #[test]
    fn owner_of_standing_gate_goes_on() {
        let connection = connection(&[("own", 5), ("theirs", 5)], 2);
        let other = Some("theirs".to_owned());
        assert_eq!(releasing().next(&connection, NOW), Step::Lower { other });
        assert!(!releasing().needs_release(&connection, NOW));
    }

    #[test]
    fn dead_gates_are_taken_over_first() {
        let mut releasing = releasing();
        let dead = connection(&[("own", 5), ("dead", -1)], 2);
        let expired = BTreeMap::from([("dead".to_owned(), NOW.plus_seconds(-1))]);
        assert_eq!(releasing.next(&dead, NOW), Step::TakeOver(expired));
        releasing.took_over(&connection(&[("own", 5)], 2));
        assert_eq!((releasing.doubtful, releasing.took_over), (2, true));
        assert_eq!(
            releasing.next(&connection(&[("own", 5)], 2), NOW),
            Step::Post
        );
    }

    #[test]
    fn unopened_sockjs_connection_is_closed() {
        let mut unopened = connection(&[("own", 5), (FIRST_GATE, -1)], 1);
        unopened.framing = Framing::Sockjs;
        assert_eq!(releasing().next(&unopened, NOW), Step::CloseUnopened);
    }

    #[test]
    fn everything_collapses_once_impatient() {
        let mut releasing = releasing();
        let parked = connection(&[("own", 9)], 3);
        assert_eq!(releasing.next(&parked, NOW), Step::Post);
        assert_eq!(releasing.doubtful, 0);
        assert_eq!(releasing.next(&parked, NOW.plus_seconds(3)), Step::Post);
        assert_eq!(releasing.doubtful, 3);
    }
}
