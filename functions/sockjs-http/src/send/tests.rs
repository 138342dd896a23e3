use core::{cell::RefCell, time::Duration};
use std::rc::Rc;

use futures::{StreamExt as _, executor::block_on};
use lambda::{HttpEvent, Origins};
use protocol::{Domain, RequestId, Subscriber, SubscriberId, Timestamp};
use serde_json::json;
use service::{
    Identity,
    ports::{Fault, Framing, Lease, Session, SessionId, SessionKey, Sessions as _, TokenHash},
};
use testkit::{
    clock::Clock, fault::Faults, memory::Memory, random::Random, surroundings::Surroundings,
};

use crate::{App, Opened, Settings, Site, Transports};

/// An app that takes some time for each message, and keeps it.
struct Slow {
    clock: Clock,
    takes: Duration,
    handled: RefCell<Vec<String>>,
}

impl App for Slow {
    async fn token(&self, _: &HttpEvent) -> Result<Option<TokenHash>, Fault> {
        Ok(Some(TokenHash::of("token")))
    }

    async fn identity(&self, _: &HttpEvent) -> Result<Option<Identity>, Fault> {
        Ok(Some(identity()))
    }

    async fn open(&self, _: &SessionId, _: &Identity) -> Result<Opened, Fault> {
        Ok(Opened::Yes)
    }

    async fn message(
        &self,
        _: &SessionId,
        _: &Identity,
        _: RequestId,
        text: String,
    ) -> Result<(), Fault> {
        self.clock.advance(self.takes);
        self.handled.borrow_mut().push(text);
        Ok(())
    }

    async fn close(&self, _: &SessionId, _: &Identity) -> Result<(), Fault> {
        Ok(())
    }
}

/// A server with one open session.
struct Line {
    transports: Rc<Transports<Slow, Memory, Surroundings>>,
    clock: Clock,
    key: SessionKey,
}

impl Line {
    fn new(takes: Duration) -> Self {
        let clock = Clock::automatic(Timestamp::from_millis(1_700_000_000_000));
        let random = Random::new(1);
        let memory = Memory::new(clock.clone(), Faults::new(clock.clone(), random.clone()));
        let key = SessionKey::of(&TokenHash::of("token"), "session");
        let lease = Lease {
            holder: "receiver".to_owned(),
            until: clock.now().plus_seconds(3_600),
        };
        let session = Session::new("life".to_owned(), identity(), lease);
        assert!(block_on(memory.begin_session(&key, &session, clock.now())).unwrap());
        let transports = Transports {
            app: Slow {
                clock: clock.clone(),
                takes,
                handled: RefCell::default(),
            },
            sessions: memory,
            environment: Surroundings::new(clock.clone(), random),
            site: site(),
        };
        Self {
            transports: Rc::new(transports),
            clock,
            key,
        }
    }

    /// Sends so many messages in one request, and returns its status and body.
    fn send(&self, endpoint: &str, count: usize) -> (u16, String) {
        let event = json!({
            "rawPath": format!("/messaging/0/session/{endpoint}"),
            "requestContext": {"http": {"method": "POST"}},
            "body": serde_json::to_string(&vec!["{}"; count]).unwrap(),
        });
        let event: HttpEvent = serde_json::from_value(event).unwrap();
        let transports = Rc::clone(&self.transports);
        block_on(async {
            let answer = transports.answer(event, RequestId("r".to_owned())).await;
            let status = answer.metadata_prelude.status_code.as_u16();
            let pieces: Vec<_> = answer.stream.map(Result::unwrap).collect().await;
            (status, String::from_utf8(pieces.concat()).unwrap())
        })
    }

    fn handled(&self) -> usize {
        self.transports.app.handled.borrow().len()
    }

    fn sender(&self) -> Option<Lease> {
        let session = block_on(self.transports.sessions.session(&self.key));
        session.unwrap().unwrap().sender
    }

    /// Lets another request take the sender's lease for this long.
    fn occupy(&self, lasting: Duration) {
        let now = self.clock.now();
        let lease = Lease {
            holder: "another".to_owned(),
            until: now.plus(lasting),
        };
        block_on(
            self.transports
                .sessions
                .begin_sending(&self.key, &lease, now),
        )
        .unwrap();
    }
}

fn identity() -> Identity {
    Identity {
        subscriber: Subscriber {
            domain: Domain::parse("example").unwrap(),
            id: SubscriberId::parse("alice").unwrap(),
        },
        token: TokenHash::of("token"),
        token_expires: Timestamp::from_millis(1_800_000_000_000),
        jti: None,
        framing: Framing::Session,
    }
}

fn site() -> Site {
    Site {
        mounts: vec![Settings {
            info_floor: Duration::ZERO,
            prefix: "/messaging".to_owned(),
            websocket: true,
            legacy: true,
            cookies: false,
            client_url: "/sockjs.js".to_owned(),
            response_limit: 4_096,
        }],
        origins: Origins::parse("*"),
        secret: None,
        doorbell: None,
        watch: None,
    }
}

#[test]
fn sender_releases_its_lease() {
    for (endpoint, expected) in [("xhr_send", (204, "")), ("jsonp_send", (200, "ok"))] {
        let line = Line::new(Duration::ZERO);
        for _ in 0..2 {
            let (status, body) = line.send(endpoint, 100);
            assert_eq!((status, body.as_str()), expected);
            assert_eq!(line.sender(), None);
        }
        assert_eq!(line.handled(), 200);
    }
}

#[test]
fn more_than_hundred_messages_are_refused() {
    let line = Line::new(Duration::ZERO);
    assert_eq!(line.send("xhr_send", 101).0, 413);
    assert_eq!(line.handled(), 0);
}

#[test]
fn concurrent_sender_is_refused_soon() {
    let line = Line::new(Duration::ZERO);
    line.occupy(Duration::from_secs(30));
    let begun = line.clock.now();
    let (status, body) = line.send("xhr_send", 1);
    assert_eq!(
        (status, body.as_str()),
        (503, "Another request is sending.\n")
    );
    assert!(begun.until(line.clock.now()) < Duration::from_secs(1));
    assert_eq!(line.handled(), 0);
    assert!(line.sender().is_some_and(|it| it.holder == "another"));
}

#[test]
fn sender_waits_for_ending_request() {
    let line = Line::new(Duration::ZERO);
    line.occupy(Duration::from_millis(300));
    assert_eq!(line.send("xhr_send", 1).0, 204);
    assert_eq!(line.handled(), 1);
}

#[test]
fn slow_messages_exhaust_the_budget() {
    let line = Line::new(Duration::from_secs(3));
    let (status, body) = line.send("xhr_send", 100);
    assert_eq!(
        (status, body.as_str()),
        (503, "The last messages were not handled.\n")
    );
    // Messages begin at 0, 3, 6 and 9 seconds.
    assert_eq!(line.handled(), 4);
    assert_eq!(line.sender(), None);
}
