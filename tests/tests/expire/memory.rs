//! The expiry run over the ports in memory, in virtual time.

use core::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::executor::block_on;
use protocol::{ConnectionId, Domain, LogId, Subscriber, SubscriberId, Timestamp};
use serde_json::{Value, json};
use service::{
    Identity, IncomingConnection, IncomingMessage, Service,
    ports::{
        Allocation, Connections as _, Fault, Framing, Job, Lease, Logs as _, Minute, SHARDS,
        Tokens as _,
    },
};
use testkit::memory::{Clock, Faults, Jobs, Memory, Random, Sockets, Surroundings};

const MINUTE: Duration = Duration::from_secs(60);
/// An arbitrary time, some seconds into a minute.
const BEGIN: i64 = 1_800_000_017_000;

struct World {
    clock: Clock,
    service: Service<Memory, Sockets, Jobs, Surroundings>,
    next: u32,
}

#[derive(Clone)]
struct Line {
    identity: Identity,
    id: ConnectionId,
}

impl World {
    fn new() -> Self {
        let clock = Clock::automatic(Timestamp::from_millis(BEGIN));
        let random = Random::new(1);
        let faults = || Faults::new(clock.clone(), random.clone());
        Self {
            service: Service {
                store: Memory::new(clock.clone(), faults()),
                gateway: Sockets::new(faults()),
                workers: Jobs::new(faults()),
                environment: Surroundings::new(clock.clone(), random.clone()),
            },
            clock,
            next: 0,
        }
    }

    fn identity(&self, lasting: Duration) -> Identity {
        let subscriber = Subscriber {
            domain: Domain::parse("d").unwrap(),
            // Ten connections per subscriber, so that none replaces another.
            id: SubscriberId::parse(&format!("anna-{}", self.next / 10)).unwrap(),
        };
        let issued = block_on(self.service.issue_token(&subscriber, lasting)).unwrap();
        let identity = self.service.authenticate(&issued.token, Framing::Raw);
        block_on(identity).unwrap().unwrap()
    }

    /// Connects with a fresh token of this lifetime.
    fn line(&mut self, lasting: Duration) -> Line {
        self.connect(self.identity(lasting))
    }

    fn connect(&mut self, identity: Identity) -> Line {
        self.next += 1;
        let line = Line {
            identity,
            id: ConnectionId(format!("connection-{:04}=", self.next)),
        };
        let incoming = IncomingConnection {
            identity: line.identity.clone(),
            connection: line.id.clone(),
        };
        block_on(self.service.connect(&incoming)).unwrap();
        self.service.gateway.open(&line.id);
        self.work();
        line
    }

    /// Runs the queued jobs.
    fn work(&self) {
        for job in self.service.workers.take_all() {
            block_on(self.service.work(&job)).unwrap();
        }
    }

    fn expire(&self) -> Result<(), Fault> {
        block_on(self.service.expire())
    }

    /// Advances the clock `count` times by a minute, with a run and its jobs each time.
    fn minutes(&self, count: u32) {
        for _ in 0..count {
            self.clock.advance(MINUTE);
            self.expire().unwrap();
            self.work();
        }
    }

    fn ask(&self, line: &Line, message: &Value) -> Vec<Value> {
        let incoming = IncomingMessage {
            identity: line.identity.clone(),
            connection: line.id.clone(),
            request: protocol::RequestId("request".to_owned()),
            body: message.to_string(),
        };
        block_on(self.service.message(&incoming)).unwrap();
        self.frames(line)
    }

    /// Takes the frames that were posted to a connection.
    fn frames(&self, line: &Line) -> Vec<Value> {
        let texts = self.service.gateway.take_texts(&line.id);
        let parse = |text: &String| serde_json::from_str(text).unwrap();
        texts.iter().map(parse).collect()
    }

    fn is_open(&self, line: &Line) -> bool {
        self.service.gateway.is_open(&line.id)
    }

    /// Returns true if the service accepts messages from the connection.
    fn is_registered(&self, line: &Line) -> bool {
        let of = &line.identity.subscriber;
        let entries = block_on(self.service.store.connections(of)).unwrap();
        entries.contains_key(&line.id)
    }

    /// Returns true if any record of the connection remains.
    fn is_known(&self, line: &Line) -> bool {
        let of = &line.identity.token;
        let under = self.service.store.has_token_connection(of, &line.id);
        self.is_registered(line) || block_on(under).unwrap()
    }
}

fn of_type(frames: Vec<Value>, kind: &str) -> Vec<Value> {
    frames.into_iter().filter(|it| it["type"] == kind).collect()
}

/// Polls a future at most `polls` times and drops it, as if its function died there. Returns true if it ended before.
fn dies_after<T>(polls: usize, future: impl Future<Output = T>) -> bool {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    (0..polls).any(|_| matches!(future.as_mut().poll(&mut context), Poll::Ready(_)))
}

#[test]
fn expired_connections_close_within_a_minute() {
    let mut world = World::new();
    let short = world.line(30 * MINUTE);
    let long = world.line(24 * 60 * MINUTE);
    world.ask(&short, &json!({"type": "announce", "availability": "busy"}));
    world.work();
    world.minutes(28);
    world.frames(&short);
    world.minutes(1);
    assert!(world.is_open(&short));
    world.minutes(2);
    let frames = world.frames(&short);
    assert_eq!(
        frames.last().unwrap()["code"],
        "token-expired",
        "{frames:?}"
    );
    assert!(!world.is_open(&short) && !world.is_known(&short));
    assert!(world.is_open(&long));
    world.minutes(88);
    assert_eq!(world.frames(&long), Vec::<Value>::new());
    world.minutes(2);
    let frames = world.frames(&long);
    assert_eq!(
        frames[0]["type"], "disconnect",
        "the token does not expire: {frames:?}"
    );
    assert_eq!(
        (frames.len(), &frames[0]["code"]),
        (1, &json!("connection-expired"))
    );
    assert!(!world.is_open(&long) && !world.is_known(&long));
}

#[test]
fn expired_announced_connection_updates_presence() {
    let mut world = World::new();
    let line = world.line(MINUTE);
    world.ask(&line, &json!({"type": "announce", "availability": "busy"}));
    world.work();
    world.clock.advance(2 * MINUTE);
    world.expire().unwrap();
    let jobs = world.service.workers.take_all();
    assert!(
        matches!(jobs[..], [Job::Presence { grace: true, .. }]),
        "{jobs:?}"
    );
}

#[test]
fn client_is_warned_before_token_expiry() {
    let mut world = World::new();
    let lines: Vec<Line> = (0..40)
        .map(|n| world.line(10 * MINUTE + n * Duration::from_secs(7)))
        .collect();
    let mut notices = 0;
    for run in 0..20 {
        // Some runs are late.
        world.clock.advance(MINUTE + Duration::from_secs(run % 3));
        let now = world.clock.now();
        world.expire().unwrap();
        for line in &lines {
            let ends = line.identity.token_expires;
            for frame in of_type(world.frames(line), "token-expiring") {
                notices += 1;
                assert_eq!(frame["token-expires-at"], json!(ends));
                let left = now.until(ends);
                assert!(
                    left <= 2 * MINUTE && left + Duration::from_secs(3) >= MINUTE,
                    "{left:?}"
                );
            }
        }
    }
    assert_eq!(notices, lines.len());
}

#[test]
fn irregular_runs_warn_exactly_once() {
    let mut world = World::new();
    let lines: Vec<Line> = (0..40)
        .map(|n| world.line(10 * MINUTE + n * Duration::from_secs(7)))
        .collect();
    // Two runs in a minute, runs in time, and a missing run.
    for seconds in [1, 59, 30, 30, 61, 119].iter().cycle().take(24) {
        world.clock.advance(Duration::from_secs(*seconds));
        world.expire().unwrap();
    }
    for line in &lines {
        let frames: Vec<Value> = world.frames(line);
        let types: Vec<&str> = frames.iter().filter_map(|it| it["type"].as_str()).collect();
        assert_eq!(types, ["token-expiring", "disconnect"]);
    }
}

#[test]
fn expiry_notice_waits_behind_gate() {
    let mut world = World::new();
    let line = world.line(10 * MINUTE);
    world.clock.advance(8 * MINUTE + MINUTE / 2);
    let (store, of) = (&world.service.store, &line.identity.subscriber);
    let until = world.clock.now().plus_seconds(5);
    let raised =
        block_on(store.raise_gate(&of.connection(line.id.clone()), "request", until)).unwrap();
    raised.unwrap();
    world.expire().unwrap();
    assert_eq!(world.frames(&line), Vec::<Value>::new());
    world.work();
    let frames = world.frames(&line);
    assert_eq!(
        (frames.len(), &frames[0]["type"]),
        (1, &json!("token-expiring"))
    );
}

#[test]
fn reauthorized_connection_outlives_old_token() {
    let mut world = World::new();
    let line = world.line(10 * MINUTE);
    let fresh = block_on(
        world
            .service
            .issue_token(&line.identity.subscriber, 60 * MINUTE),
    )
    .unwrap();
    let frames = world.ask(&line, &json!({"type": "authorize", "token": fresh.token}));
    assert_eq!(frames[0]["type"], "authorized");
    assert!(block_on(world.service.invalidate(&line.identity.token)).unwrap());
    world.minutes(15);
    assert!(world.is_open(&line));
    assert_eq!(world.frames(&line), Vec::<Value>::new());
    world.minutes(46);
    assert!(!world.is_open(&line));
}

#[test]
fn interrupted_invalidation_is_finished() {
    let mut finished_by_itself = false;
    for polls in 0.. {
        let mut world = World::new();
        let identity = world.identity(60 * MINUTE);
        let lines = [
            world.connect(identity.clone()),
            world.connect(identity.clone()),
        ];
        let (store, hash) = (&world.service.store, &identity.token);
        finished_by_itself |= dies_after(polls, world.service.invalidate(hash));
        let marked = !block_on(store.token(hash))
            .unwrap()
            .unwrap()
            .is_good(world.clock.now());
        let minute = Minute::of(world.clock.now());
        world.minutes(1);
        for line in &lines {
            assert_eq!(world.is_open(line), !marked, "died after {polls} polls");
            assert_eq!(
                world.is_registered(line),
                !marked,
                "died after {polls} polls"
            );
        }
        if marked {
            for minute in [minute, minute.plus(1)] {
                let left = block_on(store.ending(minute, None, 100)).unwrap();
                assert_eq!(left.items, [], "died after {polls} polls");
            }
        }
        // A run after the connection's end removes what an interrupted drop left under the token.
        world.minutes(62);
        for line in &lines {
            assert!(!world.is_known(line), "died after {polls} polls");
        }
        if finished_by_itself {
            return;
        }
    }
}

#[test]
fn next_run_completes_interrupted_run() {
    for polls in 0.. {
        let mut world = World::new();
        let identity = world.identity(5 * MINUTE);
        let lines = [world.connect(identity.clone()), world.connect(identity)];
        world.minutes(1);
        world.clock.advance(5 * MINUTE);
        let ended = dies_after(polls, world.service.expire());
        world.minutes(1);
        for line in &lines {
            assert!(
                !world.is_open(line) && !world.is_known(line),
                "died after {polls} polls"
            );
        }
        if ended {
            return;
        }
    }
}

#[test]
fn undroppable_connection_does_not_block_others() {
    let mut world = World::new();
    let stuck = world.line(5 * MINUTE);
    let others: Vec<Line> = (0..5).map(|_| world.line(5 * MINUTE)).collect();
    world.service.gateway.stick(&stuck.id, true);
    world.clock.advance(6 * MINUTE);
    world.expire().unwrap_err();
    assert!(others.iter().all(|line| !world.is_open(line)));
    for _ in 0..30 {
        world.clock.advance(MINUTE);
        world.expire().unwrap_err();
    }
    assert!(world.is_open(&stuck));
    world.service.gateway.stick(&stuck.id, false);
    world.minutes(1);
    assert!(!world.is_open(&stuck) && !world.is_known(&stuck));
}

#[test]
fn missed_runs_leave_nothing_open() {
    let mut world = World::new();
    world.expire().unwrap();
    world.service.store.set_index_lag(Duration::from_secs(50));
    let late = world.line(MINUTE);
    let lines: Vec<Line> = (2..100).map(|n| world.line(n * MINUTE)).collect();
    world.minutes(3);
    assert!(!world.is_open(&late));
    world.clock.advance(5 * 60 * MINUTE);
    world.expire().unwrap();
    assert!(lines.iter().all(|line| !world.is_open(line)));
}

#[test]
fn run_schedules_drains_of_abandoned_logs() {
    let world = World::new();
    let anna = world.identity(MINUTE).subscriber;
    let store = &world.service.store;
    let log = |peer: &str| LogId::direct(&anna, &SubscriberId::parse(peer).unwrap());
    let lease = |seconds| Lease {
        holder: "holder".to_owned(),
        until: world.clock.now().plus_seconds(seconds),
    };
    // A held log, an abandoned one and a drained one.
    for (peer, seconds) in [("held", 10), ("abandoned", -2), ("done", 10)] {
        block_on(store.create_direct(&log(peer), world.clock.now())).unwrap();
        let allocation = Allocation {
            count: 2,
            at: world.clock.now(),
            lease: lease(seconds),
            close: false,
            removal: false,
        };
        block_on(store.allocate(&log(peer), &allocation)).unwrap();
    }
    assert!(block_on(store.release(&log("done"), "holder", 2)).unwrap());
    world.expire().unwrap();
    let expected = Job::Drain {
        log: log("abandoned"),
        holder: None,
    };
    assert_eq!(world.service.workers.take_all(), [expected]);
    let mut left = Vec::new();
    for shard in 0..SHARDS {
        left.extend(block_on(store.undrained(shard, None, 100)).unwrap().items);
    }
    left.sort();
    assert_eq!(left, [log("abandoned"), log("held")]);
}
