//! An account with AWS's quotas, in virtual time: a message to a channel of 100,000, and 100,000 clients that come back at
//! once.
//!
//! By default there is a tenth of everything: of connections, rates and bursts. A request to the store and a post then take ten
//! times as long, so that what is under way at once meets the rates much as it does in full, as many functions run at once, and
//! all of it takes as much virtual time.
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

/// Requests a second of an account, and their burst: handshakes, clients' messages and posts share them
/// (docs.aws.amazon.com/apigateway/latest/developerguide/limits.html, 2026-08).
const REQUESTS: (u64, u64) = (10_000, 5_000);
/// New connections a second, and their burst (docs.aws.amazon.com/apigateway/latest/developerguide/
/// apigateway-execution-service-websocket-limits-table.html, 2026-08).
const HANDSHAKES: (u64, u64) = (500, 500);
/// Functions that run at once (docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html, 2026-08).
const FUNCTIONS: u64 = 1_000;
/// How long the functions may run, as in `template.yaml`.
const MESSAGE: Duration = Duration::from_secs(29);
const WORKER: Duration = Duration::from_secs(60);
/// Lambda tries what it had no room for, or what failed, again after this long (docs.aws.amazon.com/lambda/latest/dg/
/// invocation-async-error-handling.html, 2026-08).
const NO_ROOM: Duration = Duration::from_secs(1);
const FAILED: Duration = Duration::from_secs(60);
/// A request to the store, and a post, take up to this long.
const STORE: Duration = Duration::from_millis(8);
const POST: Duration = Duration::from_millis(10);
/// Rows of members in one transaction.
const ROWS: usize = 20;

/// A service in an account with quotas.
#[derive(Clone)]
struct Account {
    world: World,
    /// By what everything is divided.
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

    /// From now on everything takes its time, posts are counted, and the worker works.
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
                sim.spawn(async move { runner.carry_out(job).await });
            }
        });
    }

    async fn carry_out(&self, job: Job) {
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

    /// Runs a function; none if it came to the end of its time and was stopped where it was.
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

    /// What a client says goes through the same quota as the posts; one that is throttled says it again.
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

    /// A channel of `count` members, each with a connection: as it is after all of them have joined and come up.
    fn channel_of(&self, name: &'static str, count: u64) -> (LogId, Vec<Line>) {
        let world = &self.world;
        let log = channel("d", name);
        let LogId::Channel(key) = log.clone() else {
            panic!("it is a channel");
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

    /// Somebody with a connection that has come up.
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

    /// What was used of the quotas, for whoever reads the test's output.
    fn tell(&self, what: &str) {
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

    /// How often the worker was started for this.
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
