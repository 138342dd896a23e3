//! A service over memory, its workers, and clients' connections to it.

use core::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use std::rc::Rc;

use protocol::{ConnectionId, LogId, RequestId, Subscriber, change::LogEntry};
use serde_json::{Value, json};
use service::{
    Identity, IncomingConnection, IncomingMessage, Service,
    ports::{Fault, Framing, Job, Logs as _, SHARDS, TokenHash},
};
use testkit::{
    jobs::Jobs,
    memory::{Memory, Sockets, Surroundings},
    sim::{Sim, Task},
};

pub(crate) use crate::line::{Line, channel, subscriber};
use crate::shared::Shared;

/// The service as all functions have it here.
pub(crate) type Messaging = Service<Memory, Sockets, Jobs, Surroundings>;

/// Lambda repeats a failed asynchronous invocation after this time
/// (docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html, 2026-08).
const REPEATED_AFTER: Duration = Duration::from_secs(60);

/// The service and its environment.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) sim: Sim,
    pub(crate) service: Messaging,
    next: Rc<Cell<u64>>,
    jobs_done: Rc<RefCell<Vec<Job>>>,
}

/// A plaintext token and the identity that it authorises.
#[derive(Clone)]
pub(crate) struct Bearer {
    pub(crate) token: String,
    pub(crate) identity: Identity,
}

impl World {
    pub(crate) fn new(sim: &Sim) -> Self {
        let memory = Memory::new(sim.clock(), sim.faults());
        let surroundings = Surroundings::new(sim.clock(), sim.random());
        Self {
            sim: sim.clone(),
            service: Service {
                store: memory,
                gateway: Sockets::new(sim.faults()),
                workers: Jobs::new(sim.faults()),
                environment: surroundings,
            },
            next: Rc::default(),
            jobs_done: Rc::default(),
        }
    }

    pub(crate) fn sockets(&self) -> &Sockets {
        &self.service.gateway
    }

    pub(crate) fn fresh(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }

    /// Starts the worker. Each job is a task of its own, and is repeated a minute later if it fails or dies.
    ///
    /// `mortality` is the chance per thousand that the task dies at an await. `twice` is the chance that the job is
    /// delivered twice.
    pub(crate) fn work(&self, mortality: u32, twice: u32) {
        let world = self.clone();
        let random = self.sim.random();
        self.sim.spawn(async move {
            loop {
                let job = world.service.workers.next().await;
                let copies = if random.chance(twice) { 2 } else { 1 };
                for _ in 0..copies {
                    let runner = world.clone();
                    let (job, random) = (job.clone(), random.clone());
                    world.sim.spawn(async move {
                        runner.repeat(job, mortality, random.below(30)).await;
                    });
                }
            }
        });
    }

    async fn repeat(&self, job: Job, mortality: u32, late: u64) {
        let clock = self.sim.clock();
        clock.sleep(Duration::from_millis(late)).await;
        // Lambda gives up after two retries. Then the job is replayed from the dead-letter queue until it is done.
        // These replays never die: the sweep repairs what dies for ever.
        let tries = [mortality, mortality / 2].into_iter();
        for mortality in tries.chain(core::iter::repeat_n(0, 10)) {
            let (service, tried) = (self.service.clone(), job.clone());
            let done = self
                .sim
                .spawn_mortal(mortality, async move { service.work(&tried).await });
            if matches!(done.await, Some(Ok(()))) {
                self.jobs_done.borrow_mut().push(job);
                return;
            }
            clock.sleep(REPEATED_AFTER).await;
        }
    }

    /// The jobs that were executed.
    pub(crate) fn jobs_done(&self) -> Vec<Job> {
        self.jobs_done.borrow().clone()
    }

    /// Runs the sweep of the minute: drains logs with unpushed events.
    pub(crate) fn sweep(&self) {
        let service = self.service.clone();
        self.run(async move {
            for shard in 0..SHARDS {
                let mut after = None;
                loop {
                    let page = service.store.undrained(shard, after.as_ref(), 100).await?;
                    for log in &page.items {
                        if !service.store.settle(log).await? {
                            let job = Job::Drain {
                                log: log.clone(),
                                holder: None,
                            };
                            service.work(&job).await?;
                        }
                    }
                    after = page.items.last().cloned();
                    if !page.more {
                        break;
                    }
                }
            }
            Ok::<_, Fault>(())
        })
        .unwrap();
    }

    /// Runs `future` to its end, beside everything else.
    pub(crate) fn run<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        self.sim.block_on(future).expect("the future ends")
    }

    /// Runs everything in progress to its end.
    pub(crate) fn settle(&self) {
        self.sim.run();
    }

    /// A token for a subscriber.
    pub(crate) async fn identity(&self, subscriber: &Subscriber) -> Identity {
        let lasting = Duration::from_secs(24 * 60 * 60);
        let minted = self.service.issue_token(subscriber, lasting).await.unwrap();
        Identity {
            subscriber: subscriber.clone(),
            token: TokenHash::of(&minted.token),
            token_expires: minted.expires,
            jti: None,
            framing: Framing::Raw,
        }
    }

    /// A new connection id.
    pub(crate) fn connection_id(&self) -> ConnectionId {
        ConnectionId(format!("connection-{:04}=", self.fresh()))
    }

    /// Issues a token, or returns `None` if the store fails.
    pub(crate) async fn bearer(
        &self,
        subscriber: &Subscriber,
        lasting: Duration,
    ) -> Option<Bearer> {
        let minted = self.service.issue_token(subscriber, lasting).await.ok()?;
        let framings = [Framing::Raw, Framing::Sockjs];
        Some(Bearer {
            identity: Identity {
                subscriber: subscriber.clone(),
                token: TokenHash::of(&minted.token),
                token_expires: minted.expires,
                jti: None,
                framing: framings[usize::from(self.fresh().is_multiple_of(2))],
            },
            token: minted.token,
        })
    }

    /// Connects. The function may die, and API Gateway then refuses the connection. Without `asked` the authorizer is
    /// skipped, as if the token was still valid when it ran.
    pub(crate) async fn connect_mortal(
        &self,
        bearer: &Bearer,
        asked: bool,
        mortality: u32,
    ) -> Option<Line> {
        let line = Line {
            id: self.connection_id(),
            identity: bearer.identity.clone(),
        };
        let (service, connecting, token) =
            (self.service.clone(), incoming(&line), bearer.token.clone());
        let framing = line.identity.framing;
        let task = self.sim.spawn_mortal(mortality, async move {
            if asked {
                let found = service.authenticate(&token, framing).await;
                if !matches!(found, Ok(Some(_))) {
                    return false;
                }
            }
            service.connect(&connecting).await.is_ok()
        });
        (task.await == Some(true)).then(|| {
            self.sockets().open(&line.id);
            line
        })
    }

    /// Sends a message whose invocation is `late` milliseconds late. Its handler may die at an await.
    pub(crate) fn send_mortal(
        &self,
        line: &Line,
        message: &Value,
        late: u64,
        mortality: u32,
    ) -> Task<Result<(), Fault>> {
        let (service, incoming) = (self.service.clone(), self.invocation(line, message));
        let clock = self.sim.clock();
        self.sim.spawn_mortal(mortality, async move {
            if late > 0 {
                clock.sleep(Duration::from_millis(late)).await;
            }
            service.receive(&incoming).await
        })
    }

    /// Runs the schedule of each minute. A run may die, and the next one continues.
    pub(crate) fn expire_each_minute(&self, shared: &Rc<Shared>) {
        let (world, shared) = (self.clone(), Rc::clone(shared));
        let first = self.sim.random().below(60_000);
        self.sim.spawn(async move {
            let clock = world.sim.clock();
            clock.sleep(Duration::from_millis(first)).await;
            while !shared.over.get() {
                let service = world.service.clone();
                world.sim.spawn_mortal(
                    shared.mortality.get(),
                    async move { service.expire().await },
                );
                clock.sleep(Duration::from_secs(60)).await;
            }
        });
    }

    /// Sends API Gateway's `$disconnect`, `millis` milliseconds late.
    pub(crate) fn disconnect_late(&self, line: &Line, millis: u64, mortality: u32) {
        let (world, line) = (self.clone(), line.clone());
        self.sim.spawn(async move {
            world.sim.clock().sleep(Duration::from_millis(millis)).await;
            let service = world.service.clone();
            world.sim.spawn_mortal(mortality, async move {
                service
                    .disconnect(&line.subscriber().connection(line.id.clone()))
                    .await
            });
        });
    }

    /// Connects with a token. As at API Gateway, the connection opens once `$connect` has succeeded.
    pub(crate) async fn connect_with(&self, identity: Identity) -> Option<Line> {
        let line = Line {
            id: self.connection_id(),
            identity,
        };
        let connected = self.service.connect(&incoming(&line)).await;
        connected.ok()?;
        self.sockets().open(&line.id);
        Some(line)
    }

    /// Connects a subscriber of the domain `d`, and waits until all follow-ups are done.
    pub(crate) fn connect(&self, id: &str) -> Line {
        let line = self.line(&subscriber("d", id));
        self.settle();
        line
    }

    /// Connects a subscriber without waiting for the follow-ups.
    pub(crate) fn line(&self, subscriber: &Subscriber) -> Line {
        let (world, subscriber) = (self.clone(), subscriber.clone());
        self.run(async move {
            let identity = world.identity(&subscriber).await;
            world.connect_with(identity).await.unwrap()
        })
    }

    /// The invocation for one message.
    pub(crate) fn invocation(&self, line: &Line, message: &Value) -> IncomingMessage {
        // A string is sent as it is, so that a test can send malformed JSON.
        let message = message
            .as_str()
            .map_or_else(|| message.to_string(), str::to_owned);
        let body = match line.identity.framing {
            Framing::Sockjs => json!([message]).to_string(),
            Framing::Raw | Framing::Session => message,
        };
        self.invocation_with(line, body)
    }

    /// The invocation for any text frame.
    pub(crate) fn invocation_with(&self, line: &Line, body: String) -> IncomingMessage {
        IncomingMessage {
            identity: line.identity.clone(),
            connection: line.id.clone(),
            request: RequestId(format!("request-{:06}", self.fresh())),
            body,
        }
    }

    /// Sends a message. Its handler is a task.
    pub(crate) fn send(&self, line: &Line, message: &Value) -> Task<Result<(), Fault>> {
        let (service, incoming) = (self.service.clone(), self.invocation(line, message));
        self.sim
            .spawn(async move { service.receive(&incoming).await })
    }

    /// Sends a message, waits until everything has ended, and returns what arrived on its connection.
    pub(crate) fn ask(&self, line: &Line, message: Value) -> Vec<Value> {
        let handler = self.send(line, &message);
        self.settle();
        handler.take().expect("the handler ends").unwrap();
        self.take(line)
    }

    /// As [`World::ask`] while another handler is held: less time passes than a gate lasts.
    pub(crate) fn ask_briefly(&self, line: &Line, message: Value) -> Vec<Value> {
        let handler = self.send(line, &message);
        self.sim.run_for(Duration::from_millis(100));
        handler.take().expect("the handler ends").unwrap();
        self.take(line)
    }

    /// Sends a message whose handler a test moves step by step.
    pub(crate) fn hold(&self, line: &Line, message: &Value) -> Held<Result<(), Fault>> {
        let (service, incoming) = (self.service.clone(), self.invocation(line, message));
        self.held(async move { service.receive(&incoming).await })
    }

    /// A future that a test moves step by step.
    pub(crate) fn held<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Held<T> {
        Held {
            future: Some(Box::pin(future)),
            value: None,
            sim: self.sim.clone(),
        }
    }

    /// Takes what arrived on a connection.
    pub(crate) fn take(&self, line: &Line) -> Vec<Value> {
        self.sockets()
            .take_texts(&line.id)
            .iter()
            .map(|text| serde_json::from_str(text).unwrap())
            .collect()
    }

    /// How often a method of the store was called.
    pub(crate) fn calls(&self, operation: &str) -> usize {
        self.service.store.faults().calls(operation)
    }

    /// Creates a channel in domain `d` with these members, the first as its creator. Discards the frames that they got.
    pub(crate) fn channel_of(&self, id: &str, members: &[&Line]) {
        let [creator, others @ ..] = members else {
            return;
        };
        self.ask(
            creator,
            json!({"type": "create-channel", "channel-id": id, "name": id, "invite-token": "t"}),
        );
        for member in others {
            self.ask(
                member,
                json!({"type": "join-channel", "channel-id": id, "invite-token": "t"}),
            );
        }
        for member in members {
            self.take(member);
        }
    }

    /// The head of a log, if there is one.
    pub(crate) fn find_head(&self, log: &LogId) -> Option<service::ports::Head> {
        let (service, log) = (self.service.clone(), log.clone());
        self.run(async move { service.store.head(&log).await.unwrap() })
    }

    /// The head of a log.
    pub(crate) fn head(&self, log: &LogId) -> service::ports::Head {
        let (service, log) = (self.service.clone(), log.clone());
        self.run(async move { service.store.head(&log).await.unwrap().unwrap() })
    }

    /// The stored entries of a log.
    pub(crate) fn entries(&self, log: &LogId) -> Vec<LogEntry> {
        let (service, log) = (self.service.clone(), log.clone());
        self.run(async move {
            let slice = service.store.entries_after(&log, 0, u64::MAX, 10_000).await;
            slice.unwrap().entries
        })
    }
}

pub(crate) fn incoming(line: &Line) -> IncomingConnection {
    IncomingConnection {
        identity: line.identity.clone(),
        connection: line.id.clone(),
    }
}

/// The frames of one type.
pub(crate) fn of_type<'a>(frames: &'a [Value], kind: &str) -> Vec<&'a Value> {
    frames.iter().filter(|it| it["type"] == kind).collect()
}

/// The types of frames, in order.
pub(crate) fn types(frames: &[Value]) -> Vec<&str> {
    frames.iter().filter_map(|it| it["type"].as_str()).collect()
}

/// The sequences of frames, in order.
pub(crate) fn sequences(frames: &[Value]) -> Vec<u64> {
    frames
        .iter()
        .filter_map(|it| it["sequence"].as_u64())
        .collect()
}

/// A future that a test moves from await to await. Dropping it means that it died there.
pub(crate) struct Held<T> {
    future: Option<Pin<Box<dyn Future<Output = T>>>>,
    value: Option<T>,
    sim: Sim,
}

impl<T> Held<T> {
    /// Moves to the next await. Returns false once it has ended.
    pub(crate) fn step(&mut self) -> bool {
        let Some(future) = &mut self.future else {
            return false;
        };
        match future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Pending => true,
            Poll::Ready(value) => {
                self.value = Some(value);
                self.future = None;
                false
            }
        }
    }

    /// Moves on until the condition holds.
    pub(crate) fn until(&mut self, condition: impl Fn() -> bool) {
        for _ in 0..10_000 {
            if condition() {
                return;
            }
            assert!(self.step(), "the future ended before the condition held");
        }
        panic!("the condition never holds");
    }

    /// Moves on to its end, with everything else beside it.
    pub(crate) fn finish(mut self) -> T {
        for turn in 1..=1_000_000_u32 {
            if !self.step() {
                return self.value.take().unwrap();
            }
            // It is unknown if it waits for the clock, so the clock moves only after many turns without progress.
            if !self.sim.step() && turn % 500 == 0 {
                self.sim.clock().advance_to_next();
            }
        }
        panic!("the future never ends");
    }
}
