//! The minute's run over the ports in memory, in virtual time.

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
/// Nothing special: some seconds into a minute.
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
            // Few enough connections each that none replaces another.
            id: SubscriberId::parse(&format!("anna-{}", self.next / 10)).unwrap(),
        };
        let minted = block_on(self.service.mint(&subscriber, lasting)).unwrap();
        let identity = self.service.authenticate(&minted.token, Framing::Raw);
        block_on(identity).unwrap().unwrap()
    }

    /// A connection of a fresh token that lasts so long.
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

    /// Does the jobs that wait.
    fn work(&self) {
        for job in self.service.workers.take_all() {
            block_on(self.service.work(&job)).unwrap();
        }
    }

    fn expire(&self) -> Result<(), Fault> {
        block_on(self.service.expire())
    }

    /// Runs each minute for so many minutes.
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
        self.told(line)
    }

    fn told(&self, line: &Line) -> Vec<Value> {
        let texts = self.service.gateway.take_texts(&line.id);
        let parse = |text: &String| serde_json::from_str(text).unwrap();
        texts.iter().map(parse).collect()
    }

    fn is_open(&self, line: &Line) -> bool {
        self.service.gateway.is_open(&line.id)
    }

    /// Whether anything is accepted from a connection.
    fn is_registered(&self, line: &Line) -> bool {
        let of = &line.identity.subscriber;
        let entries = block_on(self.service.store.connections(of)).unwrap();
        entries.contains_key(&line.id)
    }

    /// Whether anything is left of it.
    fn is_known(&self, line: &Line) -> bool {
        let of = &line.identity.token;
        let under = self.service.store.has_token_connection(of, &line.id);
        self.is_registered(line) || block_on(under).unwrap()
    }
}

fn of_type(frames: Vec<Value>, kind: &str) -> Vec<Value> {
    frames.into_iter().filter(|it| it["type"] == kind).collect()
}

/// Polls a future so often and drops it: whoever ran it died there. Whether it had ended before.
fn dies_after<T>(polls: usize, future: impl Future<Output = T>) -> bool {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    (0..polls).any(|_| matches!(future.as_mut().poll(&mut context), Poll::Ready(_)))
}

#[test]
fn connections_are_dropped_within_a_minute_of_their_end_and_told_which() {
    let mut world = World::new();
    let short = world.line(30 * MINUTE);
    let long = world.line(24 * 60 * MINUTE);
    world.ask(&short, &json!({"type": "announce", "availability": "busy"}));
    world.work();
    world.minutes(28);
    world.told(&short);
    world.minutes(1);
    assert!(world.is_open(&short));
    world.minutes(2);
    let told = world.told(&short);
    assert_eq!(told.last().unwrap()["code"], "token-expired", "{told:?}");
    assert!(!world.is_open(&short) && !world.is_known(&short));
    assert!(world.is_open(&long));
    world.minutes(88);
    assert_eq!(world.told(&long), Vec::<Value>::new());
    world.minutes(2);
    let told = world.told(&long);
    assert_eq!(told[0]["type"], "disconnect", "no token ends: {told:?}");
    assert_eq!(
        (told.len(), &told[0]["code"]),
        (1, &json!("connection-expired"))
    );
    assert!(!world.is_open(&long) && !world.is_known(&long));
}

#[test]
fn the_end_of_an_announced_connection_is_told_to_others() {
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
fn whose_token_ends_is_told_a_minute_or_two_before() {
    let mut world = World::new();
    let lines: Vec<Line> = (0..40)
        .map(|n| world.line(10 * MINUTE + n * Duration::from_secs(7)))
        .collect();
    let mut notices = 0;
    for run in 0..20 {
        // Runs are late now and then.
        world.clock.advance(MINUTE + Duration::from_secs(run % 3));
        let now = world.clock.now();
        world.expire().unwrap();
        for line in &lines {
            let ends = line.identity.token_expires;
            for frame in of_type(world.told(line), "token-expiring") {
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
fn the_windows_of_consecutive_runs_tile() {
    let mut world = World::new();
    let lines: Vec<Line> = (0..40)
        .map(|n| world.line(10 * MINUTE + n * Duration::from_secs(7)))
        .collect();
    // Twice in a minute, in time, and one is missing.
    for seconds in [1, 59, 30, 30, 61, 119].iter().cycle().take(24) {
        world.clock.advance(Duration::from_secs(*seconds));
        world.expire().unwrap();
    }
    for line in &lines {
        let told: Vec<Value> = world.told(line);
        let types: Vec<&str> = told.iter().filter_map(|it| it["type"].as_str()).collect();
        assert_eq!(types, ["token-expiring", "disconnect"]);
    }
}

#[test]
fn a_notice_waits_behind_a_response() {
    let mut world = World::new();
    let line = world.line(10 * MINUTE);
    world.clock.advance(8 * MINUTE + MINUTE / 2);
    let (store, of) = (&world.service.store, &line.identity.subscriber);
    let until = world.clock.now().plus_seconds(5);
    let raised = block_on(store.raise_gate(of, &line.id, "request", until)).unwrap();
    raised.unwrap();
    world.expire().unwrap();
    assert_eq!(world.told(&line), Vec::<Value>::new());
    world.work();
    let told = world.told(&line);
    assert_eq!(
        (told.len(), &told[0]["type"]),
        (1, &json!("token-expiring"))
    );
}

#[test]
fn a_fresh_token_keeps_a_connection_from_the_old_one_s_end_and_invalidation() {
    let mut world = World::new();
    let line = world.line(10 * MINUTE);
    let fresh = block_on(world.service.mint(&line.identity.subscriber, 60 * MINUTE)).unwrap();
    let told = world.ask(&line, &json!({"type": "authorize", "token": fresh.token}));
    assert_eq!(told[0]["type"], "authorized");
    assert!(block_on(world.service.invalidate(&line.identity.token)).unwrap());
    world.minutes(15);
    assert!(world.is_open(&line));
    assert_eq!(world.told(&line), Vec::<Value>::new());
    world.minutes(46);
    assert!(!world.is_open(&line));
}

#[test]
fn an_invalidation_that_died_at_any_step_is_finished() {
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
        // What a drop that died half-way left under the token goes at the connection's end.
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
fn a_run_that_died_at_any_step_is_made_up_for_by_the_next() {
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
fn what_cannot_be_dropped_stops_nothing_else_and_is_tried_again() {
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
fn runs_that_were_missed_and_an_index_that_is_late_leave_nothing_open() {
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
fn logs_that_nobody_drains_are_the_workers_and_what_is_drained_is_settled() {
    let world = World::new();
    let anna = world.identity(MINUTE).subscriber;
    let store = &world.service.store;
    let log = |peer: &str| LogId::direct(&anna, &SubscriberId::parse(peer).unwrap());
    let lease = |seconds| Lease {
        holder: "holder".to_owned(),
        until: world.clock.now().plus_seconds(seconds),
    };
    // Held, abandoned, never begun with, and done.
    for (peer, seconds) in [("held", 10), ("abandoned", -2), ("done", 10)] {
        block_on(store.create_direct(&log(peer), world.clock.now())).unwrap();
        let allocation = Allocation {
            count: 2,
            at: world.clock.now(),
            lease: lease(seconds),
            close: false,
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
