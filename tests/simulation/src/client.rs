//! Clients that keep the client's rule: a position for each destination, and `get-history` after it on a gap or a resync.

use core::{
    cell::{Cell, RefCell},
    time::Duration,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use protocol::{Destination, LogId, Subscriber};
use serde_json::{Value, json};
use service::{Identity, ports::Fault};
use testkit::{random::Random, sim::Task};

use crate::world::{Line, World};

/// How long a client waits for an `ack`.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it looks at what came.
const LOOK: Duration = Duration::from_millis(40);

/// What is common to all clients of a run.
#[derive(Default)]
pub(crate) struct Shared {
    /// Every connection there ever was.
    pub(crate) connections: RefCell<Vec<Rc<Session>>>,
    /// Messages that were acknowledged, with their place.
    pub(crate) stored: RefCell<Vec<Stored>>,
    /// Messages that were only sent when their connection's token had been invalidated.
    pub(crate) forbidden: RefCell<BTreeSet<String>>,
    /// Whether clients are to end.
    pub(crate) over: Cell<bool>,
    /// How many have come to the end of what they wanted.
    pub(crate) done: Cell<usize>,
    /// The chance in a thousand that a function dies at an await.
    pub(crate) mortality: Cell<u32>,
}

/// An acknowledged message.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) log: LogId,
    pub(crate) message_id: String,
    pub(crate) content: Value,
    pub(crate) sequence: u64,
}

/// One connection and all that came over it.
pub(crate) struct Session {
    pub(crate) line: Line,
    pub(crate) frames: RefCell<Vec<Value>>,
    /// The handlers of what was sent, by the message's `id`.
    pub(crate) handlers: RefCell<BTreeMap<String, Task<Result<(), Fault>>>>,
    /// Ends of logs that the first history over this connection told: what is later is pushed.
    pub(crate) baseline: RefCell<BTreeMap<LogId, (usize, u64)>>,
    pub(crate) invalidated: Cell<bool>,
}

/// How far a client is in a log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Position {
    pub(crate) at: u64,
    /// Own messages beyond it.
    ahead: BTreeSet<u64>,
    fetch: bool,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    Done(Vec<Value>),
    Rejected(String),
    Lost,
}

/// One device of a subscriber.
pub(crate) struct Device {
    pub(crate) world: World,
    pub(crate) shared: Rc<Shared>,
    pub(crate) subscriber: Subscriber,
    pub(crate) random: Random,
    pub(crate) identity: RefCell<Option<Identity>>,
    pub(crate) session: RefCell<Option<Rc<Session>>>,
    pub(crate) positions: RefCell<BTreeMap<LogId, Position>>,
    seen: Cell<usize>,
}

impl Device {
    pub(crate) fn new(world: &World, shared: &Rc<Shared>, subscriber: Subscriber) -> Self {
        Self {
            world: world.clone(),
            shared: Rc::clone(shared),
            subscriber,
            random: world.sim.random(),
            identity: RefCell::default(),
            session: RefCell::default(),
            positions: RefCell::default(),
            seen: Cell::new(0),
        }
    }

    pub(crate) async fn pause(&self, most_millis: u64) {
        let millis = self.random.below(most_millis + 1);
        self.world
            .sim
            .clock()
            .sleep(Duration::from_millis(millis))
            .await;
    }

    /// The connection, a new one if there is none that is up; what was missed meanwhile is fetched.
    pub(crate) async fn session(&self) -> Rc<Session> {
        loop {
            let current = self.session.borrow().clone();
            if let Some(current) = current.filter(|it| self.is_up(it)) {
                return current;
            }
            if let Some(session) = self.connect().await {
                return session;
            }
            self.pause(200).await;
        }
    }

    fn is_up(&self, session: &Session) -> bool {
        self.world.sockets().is_open(&session.line.id)
    }

    async fn connect(&self) -> Option<Rc<Session>> {
        self.look();
        let identity = self.identity.borrow().clone();
        let identity = match identity {
            Some(identity) => identity,
            None => {
                let minted = self.world.try_identity(&self.subscriber).await?;
                *self.identity.borrow_mut() = Some(minted.clone());
                minted
            }
        };
        let mortality = self.shared.mortality.get();
        let Some(line) = self.world.connect_mortal(identity, mortality).await else {
            // The token may be no good any more.
            *self.identity.borrow_mut() = None;
            return None;
        };
        let session = Rc::new(Session {
            line,
            frames: RefCell::default(),
            handlers: RefCell::default(),
            baseline: RefCell::default(),
            invalidated: Cell::new(false),
        });
        self.shared
            .connections
            .borrow_mut()
            .push(Rc::clone(&session));
        *self.session.borrow_mut() = Some(Rc::clone(&session));
        self.seen.set(0);
        for kind in ["list-channels", "list-conversations"] {
            loop {
                match self
                    .request_over(&session, json!({"type": kind, "limit": 100}))
                    .await
                {
                    Answer::Done(frames) if frames.len() > 1 => break,
                    _ if !self.is_up(&session) => return None,
                    _ => {}
                }
            }
        }
        for position in self.positions.borrow_mut().values_mut() {
            position.fetch = true;
        }
        self.fetch(&session).await;
        Some(session)
    }

    /// Sends a request, and waits for its `ack`.
    pub(crate) async fn request(&self, message: Value) -> Answer {
        let session = self.session().await;
        self.request_over(&session, message).await
    }

    /// Sends a message and waits for nothing; its `id`.
    pub(crate) fn send(&self, session: &Rc<Session>, mut message: Value) -> String {
        let id = format!("r{}", self.world.fresh());
        message["id"] = json!(id);
        if let Some(message_id) = message["message-id"].as_str() {
            // Sent again over another connection it may be accepted.
            let mut forbidden = self.shared.forbidden.borrow_mut();
            if session.invalidated.get() {
                forbidden.insert(message_id.to_owned());
            } else {
                forbidden.remove(message_id);
            }
        }
        let mortality = self.shared.mortality.get();
        let handler = self.world.send_mortal(&session.line, &message, mortality);
        session.handlers.borrow_mut().insert(id.clone(), handler);
        id
    }

    async fn request_over(&self, session: &Rc<Session>, message: Value) -> Answer {
        let id = self.send(session, message);
        self.answer(session, &id).await
    }

    pub(crate) async fn answer(&self, session: &Rc<Session>, id: &str) -> Answer {
        let clock = self.world.sim.clock();
        let given_up = clock.now().plus(PATIENCE);
        loop {
            self.look();
            let up = self.is_up(session);
            let mine: Vec<Value> = {
                let frames = session.frames.borrow();
                let mine = frames.iter().filter(|it| it["reply-to"] == id);
                mine.cloned().collect()
            };
            if let Some(ack) = mine.iter().find(|it| it["type"] == "ack") {
                return match ack["error"]["code"].as_str() {
                    None => Answer::Done(mine),
                    Some(code) => Answer::Rejected(code.to_owned()),
                };
            }
            if !up || given_up < clock.now() {
                return Answer::Lost;
            }
            clock.sleep(LOOK).await;
        }
    }

    /// Looks at what came.
    pub(crate) fn look(&self) {
        let Some(session) = self.session.borrow().clone() else {
            return;
        };
        let fresh = self.world.take(&session.line);
        session.frames.borrow_mut().extend(fresh);
        loop {
            let at = self.seen.get();
            let Some(frame) = session.frames.borrow().get(at).cloned() else {
                return;
            };
            self.seen.set(at + 1);
            self.apply(&session, at, &frame);
        }
    }

    fn log_of(&self, frame: &Value) -> Option<LogId> {
        let destination = if let Some(id) = frame["channel-id"].as_str() {
            Destination::Channel(protocol::ChannelId::parse(id).unwrap())
        } else {
            let id = frame["subscriber-id"].as_str()?;
            Destination::Subscriber(protocol::SubscriberId::parse(id).unwrap())
        };
        Some(LogId::of(&self.subscriber, &destination))
    }

    fn apply(&self, session: &Session, at: usize, frame: &Value) {
        let kind = frame["type"].as_str().unwrap();
        if kind == "channels" || kind == "conversations" {
            let mut positions = self.positions.borrow_mut();
            for item in frame[kind].as_array().unwrap() {
                let log = self.log_of(item).unwrap();
                positions.entry(log).or_default().fetch = true;
            }
            return;
        }
        let place = if kind == "channel-joined" {
            &frame["membership"]
        } else {
            frame
        };
        let Some(log) = self.log_of(place) else {
            return;
        };
        let sequence = frame["sequence"].as_u64();
        let mut positions = self.positions.borrow_mut();
        match kind {
            "history" => {
                let position = positions.entry(log.clone()).or_default();
                for event in frame["events"].as_array().unwrap() {
                    position.told(event["sequence"].as_u64().unwrap());
                }
                let end = frame["last-sequence"].as_u64().unwrap();
                session
                    .baseline
                    .borrow_mut()
                    .entry(log)
                    .or_insert((at, end));
            }
            "delivery" if frame["status"] == "stored" => {
                positions.entry(log).or_default().told(sequence.unwrap());
            }
            "delivery" | "typing" | "presence" => {}
            "resync" | "channel-joined" | "invitation" | "channel-left" => {
                if kind == "resync" || frame.get("reply-to").is_some() {
                    positions.entry(log).or_default().fetch = true;
                }
            }
            _ => {
                let Some(sequence) = sequence else {
                    return;
                };
                let position = positions.entry(log).or_default();
                position.told(sequence);
                // A gap, or the end of our membership.
                position.fetch |= position.at < sequence && frame.get("reply-to").is_none();
                position.fetch |= kind == "subscriber-left" || kind == "channel-deleted";
            }
        }
    }

    /// Fetches what is known to be missing.
    pub(crate) async fn fetch(&self, session: &Rc<Session>) {
        loop {
            self.look();
            let next = {
                let mut positions = self.positions.borrow_mut();
                positions
                    .iter_mut()
                    .find(|(_, it)| it.fetch)
                    .map(|(log, it)| {
                        it.fetch = false;
                        (log.clone(), it.at)
                    })
            };
            let Some((log, at)) = next else {
                return;
            };
            let mut message = json!({"type": "get-history", "after": at, "limit": 20});
            name(&mut message, &log, &self.subscriber);
            let again = match self.request_over(session, message).await {
                // The post of the response may have been lost, that of the ack not.
                Answer::Done(frames) => {
                    let history = frames.iter().find(|it| it["type"] == "history");
                    history.is_none_or(|it| it["more"] == true)
                }
                Answer::Rejected(code) if code == "not-found" => {
                    self.positions.borrow_mut().remove(&log);
                    false
                }
                _ => true,
            };
            if again && let Some(position) = self.positions.borrow_mut().get_mut(&log) {
                position.fetch = true;
            }
            if !self.is_up(session) {
                return;
            }
        }
    }

    /// Keeps the client's rule until the run is over.
    pub(crate) async fn follow(&self) {
        while !self.shared.over.get() {
            let session = self.session().await;
            self.fetch(&session).await;
            self.world.sim.clock().sleep(LOOK * 5).await;
        }
        self.look();
    }
}

impl Position {
    fn told(&mut self, sequence: u64) {
        if sequence > self.at {
            self.ahead.insert(sequence);
        }
        while self.ahead.remove(&(self.at + 1)) {
            self.at += 1;
        }
        let at = self.at;
        self.ahead.retain(|it| *it > at);
    }

    /// Whether it knows all up to `end`.
    pub(crate) fn knows(&self, end: u64) -> bool {
        self.at >= end
    }
}

/// Names a log as its destination in a message.
pub(crate) fn name(message: &mut Value, log: &LogId, subscriber: &Subscriber) {
    match log.destination_for(&subscriber.id) {
        Destination::Channel(id) => message["channel-id"] = json!(id.as_str()),
        Destination::Subscriber(id) => message["subscriber-id"] = json!(id.as_str()),
    }
}
