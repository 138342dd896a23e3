//! Pushing frames to one connection, in order and behind its gates.

use core::cell::Cell;
use std::borrow::Cow;

use protocol::{LogId, Timestamp};

use super::{
    gate::Parking,
    post::{Item, Sender, Target},
    receipts::Receipts,
    references::collapsed_to_resyncs,
};
use crate::{
    Store,
    ports::{Environment, Fault, Outcome, ParkedOutcome, Posted, Pushes, Reference, Workers},
    retry::{THROTTLED_IN_VAIN, THROTTLED_PUSH},
    timing::{GATE, POST},
};

/// What [`Sender::push`] did.
#[derive(Debug)]
pub(crate) struct Pushed {
    /// How many items need nothing more: they were posted, parked, or given up with the connection.
    pub(crate) done: usize,
    /// The index of the last item that the gateway took.
    pub(crate) delivered: Option<usize>,
    /// Receipts of what was released on the way. They do not include the items.
    pub(crate) receipts: Receipts,
}

/// What the pushes of a fan-out share.
#[derive(Debug)]
pub(crate) struct Pace {
    /// No post begins after this.
    pub(crate) until: Timestamp,
    /// A throttled post is not repeated after this.
    pub(crate) last_retry: Timestamp,
    /// Posts that the gateway took. While this number grows, it is the account's rate that throttles the others.
    pub(crate) taken: Cell<u64>,
}

/// The state of a push.
#[derive(Debug)]
struct Pushing<'a> {
    items: &'a [Item<'a>],
    done: usize,
    delivered: Option<usize>,
    /// Throttled posts of the current item.
    throttled: u32,
    /// Those during which no other post of the fan-out succeeded.
    in_vain: u32,
    /// The pace's `taken` when `in_vain` began.
    taken: u64,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Every item is done.
    Finish,
    /// The pace allows no more posts now.
    Stop,
    /// The connection was read too long ago: a gate may have been raised since.
    Refresh,
    /// A gate stands, so the rest is parked.
    Park,
    Post,
}

/// What to do after a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterPost {
    Continue,
    /// The connection is gone.
    ForgetConnection,
    /// The post was throttled: pause, then repeat it.
    Pause(core::time::Duration),
    /// The outcome of the first `count` items is unknown: post a `resync` for them.
    Resync {
        count: usize,
    },
    /// The client reads too slowly: the rest waits behind a gate.
    HoldBack,
}

impl<'a> Pushing<'a> {
    const fn new(items: &'a [Item<'a>]) -> Self {
        Self {
            items,
            done: 0,
            delivered: None,
            throttled: 0,
            in_vain: 0,
            taken: 0,
        }
    }

    fn rest(&self) -> &'a [Item<'a>] {
        self.items.get(self.done..).unwrap_or_default()
    }

    /// Returns the next step, given the connection as it was read.
    fn next(&self, target: &Target, pace: Option<&Pace>, now: Timestamp) -> Step {
        if self.rest().is_empty() {
            Step::Finish
        } else if target.read_at.plus(POST) < now {
            Step::Refresh
        } else if pace.is_some_and(|pace| pace.until <= now) {
            Step::Stop
        } else if target.connection.is_gated(now) {
            Step::Park
        } else {
            Step::Post
        }
    }

    /// Returns what to do after a post, and notes its result.
    fn posted(
        &mut self,
        posted: Posted,
        pace: Option<&Pace>,
        now: Timestamp,
        salt: &str,
    ) -> AfterPost {
        let Posted { count, outcome } = posted;
        match outcome {
            Outcome::Delivered => {
                self.delivered = Some(self.done + count - 1);
                if let Some(pace) = pace {
                    pace.taken.set(pace.taken.get() + 1);
                }
                self.advance(count);
                AfterPost::Continue
            }
            Outcome::Gone => AfterPost::ForgetConnection,
            Outcome::Throttled => self.pause(pace, now, salt),
            Outcome::TooLarge | Outcome::Unknown => AfterPost::Resync { count },
        }
    }

    fn pause(&mut self, pace: Option<&Pace>, now: Timestamp, salt: &str) -> AfterPost {
        let taken = pace.map_or(0, |pace| pace.taken.get());
        if taken > self.taken {
            (self.in_vain, self.taken) = (0, taken);
        }
        let is_late = pace.is_some_and(|pace| pace.last_retry <= now);
        let is_in_vain = self.in_vain >= THROTTLED_IN_VAIN.retries;
        // A longer pause leaves room for others, but it keeps a slot of the fan-out occupied.
        match THROTTLED_PUSH.pause(self.throttled, salt) {
            Some(pause) if !is_late && !is_in_vain => {
                self.throttled += 1;
                self.in_vain += 1;
                AfterPost::Pause(pause)
            }
            _ => AfterPost::HoldBack,
        }
    }

    /// Goes on after `count` items.
    const fn advance(&mut self, count: usize) {
        self.done += count;
        (self.throttled, self.in_vain) = (0, 0);
    }

    /// The result once nothing is left to do for this connection.
    const fn finished(&self, receipts: Receipts) -> Pushed {
        Pushed {
            done: self.items.len(),
            delivered: self.delivered,
            receipts,
        }
    }
}

/// The result for a connection that is gone.
fn gone(items: &[Item<'_>]) -> Pushed {
    Pushed {
        done: items.len(),
        delivered: None,
        receipts: Receipts::default(),
    }
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Sender<'_, S, G, W, E> {
    /// Pushes `items` to a connection, one after the other. With a pace, items that would come too late stay undone.
    pub(crate) async fn push(
        &self,
        target: &Target,
        items: &[Item<'_>],
        pace: Option<&Pace>,
    ) -> Result<Pushed, Fault> {
        let mut target = Cow::Borrowed(target);
        let mut pushing = Pushing::new(items);
        let messages: Vec<&str> = items.iter().map(|item| item.frame).collect();
        loop {
            let now = self.ports.environment.now();
            match pushing.next(&target, pace, now) {
                Step::Finish => return Ok(pushing.finished(Receipts::default())),
                Step::Stop => {
                    return Ok(Pushed {
                        done: pushing.done,
                        delivered: pushing.delivered,
                        receipts: Receipts::default(),
                    });
                }
                Step::Refresh => {
                    if !self.refresh(target.to_mut()).await? {
                        return Ok(gone(items));
                    }
                    continue;
                }
                Step::Park => match self.park(&target, pushing.rest()).await? {
                    Parking::Done(receipts) => return Ok(pushing.finished(receipts)),
                    Parking::Changed if self.refresh(target.to_mut()).await? => continue,
                    Parking::Changed => return Ok(gone(items)),
                },
                Step::Post => {}
            }
            let rest = messages.get(pushing.done..).unwrap_or_default();
            let posted = self.post(&target, rest).await;
            let now = self.ports.environment.now();
            match pushing.posted(posted, pace, now, target.key.id.as_str()) {
                AfterPost::Continue => {}
                AfterPost::Pause(pause) => self.ports.environment.sleep(pause).await,
                AfterPost::ForgetConnection => {
                    self.forget_gone(&target).await?;
                    return Ok(gone(items));
                }
                AfterPost::Resync { count } => {
                    let doubtful = pushing.rest().iter().take(count);
                    let doubtful = doubtful.filter_map(|item| item.reference.clone());
                    if !self.resync(&target, doubtful).await? {
                        break;
                    }
                    pushing.advance(count);
                }
                AfterPost::HoldBack => break,
            }
        }
        let rest = pushing.rest().iter();
        self.hold_back(&target, rest.filter_map(|item| item.reference.clone()))
            .await?;
        Ok(pushing.finished(Receipts::default()))
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

    /// Parks what a slow client does not take, behind a gate of its own and as one `resync` for each log. The worker releases
    /// it later.
    pub(super) async fn hold_back(
        &self,
        target: &Target,
        references: impl IntoIterator<Item = Reference>,
    ) -> Result<(), Fault> {
        let gate = format!("throttled-{}", self.ports.environment.fresh_id());
        let deadline = self.ports.environment.now().plus(GATE);
        let (store, key) = (self.ports.store, &target.key);
        if store.raise_gate(key, &gate, deadline).await?.is_err() {
            return Ok(());
        }
        let references = collapsed_to_resyncs(references);
        let parked = store.park(key, Some(&gate), &references).await;
        self.schedule_release(key).await?;
        match parked? {
            // This function was so slow that its gate ended and another took over. Nothing was parked, and the caller's retry
            // pushes it.
            ParkedOutcome::Changed => Err(Fault::Conflict),
            ParkedOutcome::Parked(_) | ParkedOutcome::NotRegistered => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use protocol::{ConnectionId, Domain, SubscriberId};

    use super::*;
    use crate::ports::{Connection, Framing, TokenHash};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn target() -> Target {
        let subscriber = Domain::parse("d")
            .unwrap()
            .subscriber(SubscriberId::parse("ann").unwrap());
        Target {
            key: subscriber.connection(ConnectionId("c".to_owned())),
            connection: Connection {
                token: TokenHash::of("token"),
                framing: Framing::Raw,
                since: NOW,
                ends_at: NOW.plus_seconds(3600),
                gates: BTreeMap::new(),
                parked: Vec::new(),
                announced: false,
            },
            read_at: NOW,
        }
    }

    fn pace() -> Pace {
        Pace {
            until: NOW.plus_seconds(5),
            last_retry: NOW.plus_seconds(5),
            taken: Cell::new(0),
        }
    }

    const ITEM: Item<'static> = Item {
        frame: "frame",
        reference: None,
    };

    fn throttled() -> Posted {
        Posted {
            count: 1,
            outcome: Outcome::Throttled,
        }
    }

    #[test]
    fn next_step_follows_age_pace_gate() {
        let (items, mut target) = ([ITEM], target());
        let pushing = Pushing::new(&items);
        assert_eq!(Pushing::new(&[]).next(&target, None, NOW), Step::Finish);
        assert_eq!(pushing.next(&target, None, NOW), Step::Post);
        let late = NOW.plus_seconds(3);
        assert_eq!(pushing.next(&target, None, late), Step::Refresh);
        let over = Pace {
            until: NOW,
            ..pace()
        };
        assert_eq!(pushing.next(&target, Some(&over), NOW), Step::Stop);
        target
            .connection
            .gates
            .insert("gate".to_owned(), NOW.plus_seconds(1));
        assert_eq!(pushing.next(&target, None, NOW), Step::Park);
    }

    #[test]
    fn throttled_push_ends_held_back() {
        let (items, pace) = ([ITEM], pace());
        let mut in_vain = Pushing::new(&items);
        for _ in 0..THROTTLED_IN_VAIN.retries {
            let after = in_vain.posted(throttled(), Some(&pace), NOW, "c");
            assert!(matches!(after, AfterPost::Pause(_)), "{after:?}");
        }
        let after = in_vain.posted(throttled(), Some(&pace), NOW, "c");
        assert_eq!(after, AfterPost::HoldBack);

        // While other posts succeed, it is retried for longer, but not for ever.
        let mut pushing = Pushing::new(&items);
        let mut pauses = 0;
        while let AfterPost::Pause(_) = pushing.posted(throttled(), Some(&pace), NOW, "c") {
            pace.taken.set(pace.taken.get() + 1);
            pauses += 1;
        }
        assert_eq!(pauses, THROTTLED_PUSH.retries);
    }

    #[test]
    fn delivered_items_are_counted_together() {
        let items = [ITEM, ITEM, ITEM];
        let mut pushing = Pushing::new(&items);
        let posted = Posted {
            count: 2,
            outcome: Outcome::Delivered,
        };
        assert_eq!(pushing.posted(posted, None, NOW, "c"), AfterPost::Continue);
        assert_eq!((pushing.done, pushing.delivered), (2, Some(1)));
        assert_eq!(pushing.rest().len(), 1);
    }
}
