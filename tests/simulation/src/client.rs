//! Clients: connecting, sending requests, and receiving frames.

use core::{
    cell::{Cell, RefCell},
    time::Duration,
};
use std::{collections::BTreeMap, rc::Rc};

use protocol::{ChannelId, ChannelKey, Destination, LogId, Subscriber, Timestamp, change::Member};
use serde_json::{Value, json};
use testkit::random::Random;

use crate::{
    position::Position,
    shared::{Request, Session, Shared, Stored},
    world::{Bearer, World},
};

/// How long a client waits for an `ack`.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often an idle client sends a `ping`.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// How often a client looks at what arrived.
const LOOK: Duration = Duration::from_millis(40);

/// The outcome of a request.
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
    pub(crate) bearer: RefCell<Option<Bearer>>,
    pub(crate) session: RefCell<Option<Rc<Session>>>,
    pub(crate) positions: RefCell<BTreeMap<LogId, Position>>,
    /// The messages that were acknowledged to this device.
    pub(crate) said: RefCell<Vec<Stored>>,
    /// The latest time of the service that it saw.
    pub(crate) since: Cell<Option<Timestamp>>,
    looked: Cell<usize>,
}

impl Device {
    pub(crate) fn new(world: &World, shared: &Rc<Shared>, subscriber: Subscriber) -> Self {
        Self {
            world: world.clone(),
            shared: Rc::clone(shared),
            subscriber,
            random: world.sim.random(),
            bearer: RefCell::default(),
            session: RefCell::default(),
            positions: RefCell::default(),
            said: RefCell::default(),
            since: Cell::new(None),
            looked: Cell::new(0),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.world.sim.clock().now()
    }

    pub(crate) async fn pause(&self, most_millis: u64) {
        let millis = self.random.below(most_millis + 1);
        let clock = self.world.sim.clock();
        clock.sleep(Duration::from_millis(millis)).await;
    }

    /// Returns the connection. If none is active, connects and fetches what was missed.
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

    pub(crate) fn is_up(&self, session: &Session) -> bool {
        !session.dead.get() && self.world.sockets().is_open(&session.line.id)
    }

    /// Returns the current token, or a new one. Some expire soon.
    async fn token(&self) -> Option<Bearer> {
        let known = self.bearer.borrow().clone();
        if known.is_some() {
            return known;
        }
        let lasting = if self.random.chance(150) {
            self.shared.count("tokens that end soon");
            Duration::from_secs(20 + self.random.below(60))
        } else {
            Duration::from_secs(24 * 60 * 60)
        };
        let fresh = self.world.bearer(&self.subscriber, lasting).await?;
        self.note_token(&fresh);
        *self.bearer.borrow_mut() = Some(fresh.clone());
        Some(fresh)
    }

    pub(crate) fn note_token(&self, bearer: &Bearer) {
        let token = (self.subscriber.clone(), bearer.identity.token.clone());
        self.shared.issued.borrow_mut().push(token);
    }

    async fn connect(&self) -> Option<Rc<Session>> {
        self.look();
        let bearer = self.token().await?;
        let token = bearer.identity.token.clone();
        let condemned = self.shared.invalidated.borrow().contains(&token)
            || bearer.identity.token_expires <= self.now();
        // Without the authorizer, as if the token had ended between the authorizer and the function.
        let asked = self.random.chance(500);
        let mortality = self.shared.mortality.get();
        let line = self.world.connect_mortal(&bearer, asked, mortality).await;
        let Some(line) = line else {
            // The token may have become invalid.
            *self.bearer.borrow_mut() = None;
            return None;
        };
        if condemned {
            self.shared
                .broke(format!("(12) {} is up with an invalid token", line.id));
        }
        self.shared.count("connections");
        let session = Rc::new(Session::new(line));
        let connections = &self.shared.connections;
        connections.borrow_mut().push(Rc::clone(&session));
        *self.session.borrow_mut() = Some(Rc::clone(&session));
        self.looked.set(0);
        self.return_over(&session).await?;
        Some(session)
    }

    /// Fetches what was missed, with `resume` or with the lists and each log's history.
    async fn return_over(&self, session: &Rc<Session>) -> Option<()> {
        let known = !self.positions.borrow().is_empty();
        if known && self.since.get().is_some() && self.random.chance(600) {
            while !self.resume(session, true).await {
                if !self.is_up(session) {
                    return None;
                }
            }
        } else {
            for kind in ["list-channels", "list-conversations"] {
                self.list(session, kind).await?;
            }
            for position in self.positions.borrow_mut().values_mut() {
                position.fetch = true;
            }
        }
        self.fetch(session).await;
        Some(())
    }

    /// Requests a list, page by page.
    pub(crate) async fn list(&self, session: &Rc<Session>, kind: &str) -> Option<()> {
        let limit = 1 + self.random.below(100);
        let mut after = Value::Null;
        loop {
            let mut message = json!({"type": kind, "limit": limit});
            if !after.is_null() {
                message["after"] = after.clone();
            }
            match self.request_over(session, message).await {
                Answer::Done(frames) if frames.len() > 1 => match frames[0].get("next") {
                    Some(next) => after = next.clone(),
                    None => return Some(()),
                },
                _ if !self.is_up(session) => return None,
                _ => {}
            }
        }
    }

    /// Sends a request and waits for its `ack`.
    pub(crate) async fn request(&self, message: Value) -> Answer {
        let session = self.session().await;
        self.request_over(&session, message).await
    }

    /// Sends a message without waiting. Returns its `id`.
    pub(crate) fn send(&self, session: &Rc<Session>, mut message: Value) -> String {
        let id = format!("r{}", self.world.fresh());
        message["id"] = json!(id);
        if let Some(content) = message["content"].as_str() {
            // If it is sent again over another connection it may be accepted.
            let mut forbidden = self.shared.forbidden.borrow_mut();
            let mut good = self.shared.good.borrow_mut();
            if !session.is_condemned(&self.shared, self.now()) {
                good.insert(content.to_owned());
                forbidden.remove(content);
            } else if !good.contains(content) {
                forbidden.insert(content.to_owned());
                self.shared.count("messages sent too late");
            }
        }
        self.deliver(session, &id, message);
        id
    }

    /// Turns a frame into an invocation as API Gateway does. The invocation may be late or lost.
    pub(crate) fn deliver(&self, session: &Rc<Session>, id: &str, message: Value) {
        self.shared.count("messages of clients");
        let wire = self.shared.wire.get();
        let lost = self.random.chance(wire / 2);
        let late = if self.random.chance(wire * 8) {
            self.random.below(1_500)
        } else {
            0
        };
        if lost {
            self.shared.count("invocations lost");
        } else if late > 0 {
            self.shared.count("invocations late");
        }
        let mortality = self.shared.mortality.get();
        let send = || {
            self.world
                .send_mortal(&session.line, &message, late, mortality)
        };
        let request = Request {
            handler: (!lost).then(send),
            message: message.clone(),
            begun: self.now().plus(Duration::from_millis(late)),
            answered: Cell::new(None),
        };
        session.requests.borrow_mut().insert(id.to_owned(), request);
    }

    pub(crate) async fn request_over(&self, session: &Rc<Session>, message: Value) -> Answer {
        let before = self.standing(&message);
        let id = self.send(session, message.clone());
        let answer = self.answer(session, &id).await;
        if before == self.standing(&message) {
            self.has_right(&message, before, &answer);
        }
        answer
    }

    /// The subscriber's row in the channel that a message names. The flag is true if the channel is open.
    fn standing(&self, message: &Value) -> (Option<Member>, bool) {
        let channel = message["channel-id"].as_str();
        let Some(id) = channel.and_then(|it| ChannelId::parse(it).ok()) else {
            return (None, false);
        };
        let channel = ChannelKey {
            domain: self.subscriber.domain.clone(),
            id,
        };
        let store = &self.world.service.store;
        let row = store.row(&channel, &self.subscriber.id);
        // Rights and read cursors may change. Only the membership and its beginning matter.
        let row = row.map(|it| Member {
            administrator: false,
            displayed: 0,
            read: 0,
            ..it
        });
        let open = store.rows(&channel).is_some()
            && store
                .head_now(&channel.log())
                .is_some_and(|head| head.active);
        (row, open)
    }

    /// Invariant 10: a subscriber that was no member all the time gets nothing of a channel, not even that it exists. A
    /// member is not refused.
    fn has_right(&self, message: &Value, standing: (Option<Member>, bool), answer: &Answer) {
        let kind = message["type"].as_str().unwrap_or_default();
        let (Some(channel), false) = (
            message["channel-id"].as_str(),
            matches!(kind, "create-channel" | "join-channel" | "leave-channel"),
        ) else {
            return;
        };
        let (row, open) = standing;
        let is_member = row.is_some_and(|it| it.is_current());
        let about_another = message.get("subscriber-id").is_some();
        let broken = match answer {
            Answer::Done(_) => !is_member,
            Answer::Rejected(code) if code == "not-found" => is_member && open && !about_another,
            Answer::Rejected(code) => !is_member && code != "unavailable",
            Answer::Lost => false,
        };
        if broken {
            let who = &self.subscriber.id;
            self.shared.broke(format!(
                "(10) {who} is a member of {channel}: {is_member}, but {message} was answered {answer:?}"
            ));
        }
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
                if let Some(request) = session.requests.borrow().get(id) {
                    request.answered.set(Some(clock.now()));
                }
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

    /// Applies the frames that arrived.
    pub(crate) fn look(&self) {
        let Some(session) = self.session.borrow().clone() else {
            return;
        };
        if session.dead.get() {
            return;
        }
        let fresh = self.world.take(&session.line);
        session.frames.borrow_mut().extend(fresh);
        loop {
            let at = self.looked.get();
            let Some(frame) = session.frames.borrow().get(at).cloned() else {
                return;
            };
            self.looked.set(at + 1);
            self.apply(&session, at, &frame);
        }
    }

    pub(crate) fn log_of(&self, frame: &Value) -> Option<LogId> {
        let destination = if let Some(id) = frame["channel-id"].as_str() {
            Destination::Channel(ChannelId::parse(id).unwrap())
        } else {
            let id = frame["subscriber-id"].as_str()?;
            Destination::Subscriber(protocol::SubscriberId::parse(id).unwrap())
        };
        Some(LogId::of(&self.subscriber, &destination))
    }

    /// Follows the client's rule until the run is over, and keeps its connection from being idle.
    pub(crate) async fn follow(&self) {
        let mut beat = self.now();
        while !self.shared.over.get() {
            let session = self.session().await;
            self.fetch(&session).await;
            if beat.plus(HEARTBEAT) < self.now() {
                beat = self.now();
                self.request_over(&session, json!({"type": "ping"})).await;
            }
            self.world.sim.clock().sleep(LOOK * 15).await;
        }
        self.look();
    }
}

/// Sets a log as the destination of a message.
pub(crate) fn name(message: &mut Value, log: &LogId, subscriber: &Subscriber) {
    match log.destination_for(&subscriber.id) {
        Destination::Channel(id) => message["channel-id"] = json!(id.as_str()),
        Destination::Subscriber(id) => message["subscriber-id"] = json!(id.as_str()),
    }
}
