//! An account with AWS's quotas, in virtual time: a message to a channel of 100,000, and 100,000 clients that reconnect
//! at once.
//!
//! By default everything is scaled to a tenth: connections, rates and bursts. Requests to the store and posts then take
//! ten times as long. So what is in flight at once meets the rates much as it does in full. The same number of functions
//! runs at once, and everything takes the same virtual time.
//! `SCALE=1 cargo nextest run -p simulation scale::` runs it in full.

mod fan_out;
mod storm;

use core::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};
use std::{collections::BTreeMap, rc::Rc};

use protocol::{
    LogId,
    change::{Change, Replace, Roster, RowChange},
};
use serde_json::{Value, json};
use service::ports::{Channels as _, Connection, Connections as _, Framing, Job, Registration};
use testkit::{quota::Bucket, sim::Sim};

use crate::world::{Line, World, channel, subscriber};

/// Requests per second of an account, and their burst. Handshakes, clients' messages and posts share them
/// (docs.aws.amazon.com/apigateway/latest/developerguide/limits.html, 2026-08).
const REQUESTS: (u64, u64) = (10_000, 5_000);
/// New connections per second, and their burst
/// (docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html,
/// 2026-08).
const HANDSHAKES: (u64, u64) = (500, 500);
/// The number of concurrent functions (docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html, 2026-08).
const FUNCTIONS: u64 = 1_000;
/// The time limits of the functions, as in `template.yaml`.
const MESSAGE: Duration = Duration::from_secs(29);
const WORKER: Duration = Duration::from_secs(60);
/// The pause before Lambda retries an invocation that it throttled, or one that failed
/// (docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html, 2026-08).
const NO_ROOM: Duration = Duration::from_secs(1);
const FAILED: Duration = Duration::from_secs(60);
/// The longest duration of a request to the store, and of a post.
const STORE: Duration = Duration::from_millis(8);
const POST: Duration = Duration::from_millis(10);
/// Rows of members in one transaction.
const ROWS: usize = 20;

/// A service in an account with quotas.
#[derive(Clone)]
struct Account {
    world: World,
    /// The divisor of all quantities.
    scale: u64,
    requests: Bucket,
    handshakes: Bucket,
    running: Rc<Cell<u64>>,
    peak: Rc<Cell<u64>>,
    jobs: Rc<RefCell<BTreeMap<&'static str, u64>>>,
}

impl Account {
    fn new(sim: &Sim) -> Self {
        Self::of(
            sim,
            std::env::var("SCALE").map_or(10, |it| it.parse().unwrap()),
        )
    }

    fn of(sim: &Sim, scale: u64) -> Self {
        let bucket = |(rate, burst)| Bucket::new(sim.clock(), rate / scale, burst / scale);
        Self {
            world: World::new(sim),
            scale,
            requests: bucket(REQUESTS),
            handshakes: bucket(HANDSHAKES),
            running: Rc::default(),
            peak: Rc::default(),
            jobs: Rc::default(),
        }
    }

    fn scaled(&self, full: u64) -> u64 {
        full / self.scale
    }

    /// Adds latency, applies the quota to posts, and starts the worker.
    fn begin(&self) {
        let World { sim, service, .. } = &self.world;
        let scale = u32::try_from(self.scale).unwrap();
        service.store.faults().set_latency(STORE * scale);
        service.gateway.faults().set_latency(POST * scale);
        service.gateway.set_quota(self.requests.clone());
        let account = self.clone();
        sim.spawn(async move {
            loop {
                let job = account.world.service.workers.next().await;
                *account.jobs.borrow_mut().entry(kind(&job)).or_default() += 1;
                let runner = account.clone();
                let sim = &account.world.sim;
                sim.spawn(async move { runner.execute(job).await });
            }
        });
    }

    async fn execute(&self, job: Job) {
        let clock = self.world.sim.clock();
        for _ in 0..3 {
            while self.running.get() >= FUNCTIONS {
                clock.sleep(NO_ROOM).await;
            }
            let done = self.invoke(WORKER, self.world.service.work(&job)).await;
            if matches!(done, Some(Ok(()))) {
                return;
            }
            *self.jobs.borrow_mut().entry("failed").or_default() += 1;
            clock.sleep(FAILED).await;
        }
    }

    /// Runs a function. Returns `None` if it reached its time limit and was stopped.
    async fn invoke<T>(&self, limit: Duration, function: impl Future<Output = T>) -> Option<T> {
        self.running.set(self.running.get() + 1);
        self.peak.set(self.peak.get().max(self.running.get()));
        let clock = self.world.sim.clock();
        let (mut function, mut end) = (pin!(function), pin!(clock.sleep(limit)));
        let done = poll_fn(|context| match function.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => end.as_mut().poll(context).map(|()| None),
        });
        let done = done.await;
        self.running.set(self.running.get() - 1);
        done
    }

    /// Sends a client's message, which shares the quota with the posts. A throttled message is sent again.
    async fn say(&self, line: &Line, message: &Value) {
        while !self.requests.take() {
            self.world
                .sim
                .clock()
                .sleep(Duration::from_millis(50))
                .await;
        }
        let invocation = self.world.invocation(line, message);
        let handled = self.invoke(MESSAGE, self.world.service.receive(&invocation));
        handled.await.expect("a handler ends in time").unwrap();
    }

    /// A channel of `count` members, each with an active connection, as if all of them had joined.
    fn channel_of(&self, name: &'static str, count: u64) -> (LogId, Vec<Line>) {
        let world = &self.world;
        let log = channel("d", name);
        let LogId::Channel(key) = log.clone() else {
            panic!("the log is a channel");
        };
        let lines: Vec<Line> = (0..count)
            .map(|n| self.connected(&format!("{name}-{n:06}")))
            .collect();
        let create = json!({"type": "create-channel", "channel-id": name, "name": name});
        let created = world.send(&lines[0], &create);
        world.settle();
        created.take().unwrap().unwrap();
        assert_eq!(world.take(&lines[0]).len(), 2);
        let mut roster = world.service.store.rows(&key).unwrap().0;
        for some in lines[1..].chunks(ROWS) {
            let old = roster.version;
            roster = Roster {
                members: roster.members + u64::try_from(some.len()).unwrap(),
                version: old + 1,
                ..roster
            };
            let rows = some.iter().map(|it| RowChange::Joined {
                subscriber: it.subscriber().id.clone(),
                administrator: false,
                sequence: 1,
            });
            let change = Change {
                channel: key.clone(),
                at: world.sim.clock().now(),
                entries: Vec::new(),
                head: None,
                roster: Some(Replace {
                    expect: Some(old),
                    to: roster,
                }),
                profile: None,
                rows: rows.collect(),
            };
            let service = world.service.clone();
            let changed = world.run(async move { service.store.change(&change).await });
            changed.unwrap();
        }
        (log, lines)
    }

    /// A subscriber with an active connection.
    fn connected(&self, id: &str) -> Line {
        let (world, who) = (self.world.clone(), subscriber("d", id));
        self.world.run(async move {
            let identity = world.identity(&who).await;
            let line = Line {
                id: world.connection_id(),
                identity,
            };
            let registration = Registration {
                subscriber: who,
                id: line.id.clone(),
                connection: Connection {
                    token: line.identity.token.clone(),
                    framing: Framing::Raw,
                    since: world.sim.clock().now(),
                    ends_at: line.identity.token_expires,
                    gates: BTreeMap::new(),
                    parked: Vec::new(),
                    announced: false,
                },
            };
            world.service.store.register(&registration).await.unwrap();
            world.sockets().open(&line.id);
            line
        })
    }

    /// Prints what was used of the quotas.
    fn report(&self, what: &str) {
        let now = self.world.sim.clock().now().millis() - testkit::sim::BEGIN.millis();
        println!(
            "scale 1/{} | {what} | {:.1} s | (taken, refused): requests {:?}, handshakes {:?} | functions at once {} of {} | jobs {:?}",
            self.scale,
            now as f64 / 1_000.0,
            self.requests.used(),
            self.handshakes.used(),
            self.peak.get(),
            FUNCTIONS,
            self.jobs.borrow(),
        );
    }

    /// How often the worker was started for jobs of this kind.
    fn jobs(&self, kind: &str) -> u64 {
        self.jobs.borrow().get(kind).copied().unwrap_or(0)
    }
}

fn kind(job: &Job) -> &'static str {
    match job {
        Job::Connected { .. } => "connected",
        Job::Drain { .. } => "drain",
        Job::GoOn { .. } => "go on",
        Job::Release { .. } => "release",
        _ => "other",
    }
}
