//! Input: any texts, one per line, sent by alice and bob in turn, over the ports in memory. A malformed text has no
//! effect. Any other text gets at most one response and then exactly one `ack`.
#![no_main]

use core::time::Duration;

use futures::executor::block_on;
use fuzz::Frame;
use libfuzzer_sys::fuzz_target;
use protocol::{
    ConnectionId, Decoded, Domain, RequestId, Subscriber, SubscriberId, Timestamp, decode,
};
use service::{
    Identity, IncomingConnection, IncomingMessage, Service,
    ports::{Framing, TokenHash},
};
use testkit::{
    jobs::Jobs,
    memory::{Memory, Random, Sockets, Surroundings},
};

/// A placeholder in the text for a token of alice that no connection uses.
const TOKEN: &str = "TOKEN-OF-ALICE";
/// Further lines only repeat what these already do.
const LINES: usize = 8;

struct World {
    service: Service<Memory, Sockets, Jobs, Surroundings>,
    requests: u64,
}

struct Line {
    identity: Identity,
    id: ConnectionId,
}

fuzz_target!(|text: &str| {
    let mut world = World::new();
    let alice = world.connect("alice");
    let bob = world.connect("bob");
    let token = world.issue_token("alice");
    for (line, message) in [
        (
            &alice,
            r#"{"type":"create-channel","name":"Team","invite-token":"s3cret","channel-id":"team"}"#,
        ),
        (
            &bob,
            r#"{"type":"join-channel","channel-id":"team","invite-token":"s3cret"}"#,
        ),
        (
            &alice,
            r#"{"type":"direct-message","subscriber-id":"bob","content":1,"message-id":"m-0"}"#,
        ),
    ] {
        world.say(line, message);
        world.work();
        let _ = (world.take(&alice), world.take(&bob));
    }
    for (number, line) in text.lines().take(LINES).enumerate() {
        let (from, to) = if number % 2 == 0 {
            (&alice, &bob)
        } else {
            (&bob, &alice)
        };
        world.check(from, to, &line.replace(TOKEN, &token));
    }
});

impl World {
    fn new() -> Self {
        let store = Memory::simple(Timestamp::from_millis(1_767_225_600_000));
        Self {
            requests: 0,
            service: Service {
                gateway: Sockets::new(store.faults().clone()),
                workers: Jobs::new(store.faults().clone()),
                environment: Surroundings::new(store.clock().clone(), Random::new(1)),
                store,
            },
        }
    }

    fn issue_token(&self, id: &str) -> String {
        let subscriber = subscriber(id);
        let issued = self
            .service
            .issue_token(&subscriber, Duration::from_secs(3_600));
        block_on(issued)
            .expect("the memory store does not fail")
            .token
    }

    fn connect(&self, id: &str) -> Line {
        let token = self.issue_token(id);
        let line = Line {
            id: ConnectionId(format!("{id}=")),
            identity: Identity {
                subscriber: subscriber(id),
                token: TokenHash::of(&token),
                token_expires: self.service.store.clock().now().plus_seconds(3_600),
                framing: Framing::Raw,
                jti: None,
            },
        };
        let incoming = IncomingConnection {
            identity: line.identity.clone(),
            connection: line.id.clone(),
        };
        assert!(block_on(self.service.connect(&incoming)).is_ok());
        self.service.gateway.open(&line.id);
        self.work();
        let _ = self.take(&line);
        line
    }

    fn say(&mut self, line: &Line, text: &str) {
        self.requests += 1;
        let incoming = IncomingMessage {
            identity: line.identity.clone(),
            connection: line.id.clone(),
            request: RequestId(format!("request-{}", self.requests)),
            body: text.to_owned(),
        };
        block_on(self.service.message(&incoming)).expect("the memory store does not fail");
    }

    /// Runs the jobs that handlers left to the worker.
    fn work(&self) {
        while let Some(job) = self.service.workers.take() {
            block_on(self.service.work(&job)).expect("the memory store does not fail");
        }
    }

    fn take(&self, line: &Line) -> Vec<Frame> {
        let texts = self.service.gateway.take_texts(&line.id);
        texts.iter().map(|text| Frame::of(text)).collect()
    }

    fn check(&mut self, from: &Line, to: &Line, text: &str) {
        self.say(from, text);
        let frames = self.take(from);
        let id = match decode(text) {
            Decoded::Ignored => {
                assert!(
                    frames.is_empty(),
                    "{frames:?} in reply to malformed input: {text}"
                );
                assert!(
                    self.service.workers.is_empty(),
                    "a job from malformed input"
                );
                assert!(self.take(to).is_empty(), "a push from malformed input");
                return;
            }
            Decoded::Rejected { id, .. } | Decoded::Message { id, .. } => id,
        };
        let ack = frames.iter().position(|it| it.message_type == "ack");
        let ack = ack.unwrap_or_else(|| panic!("no `ack` among {frames:?}: {text}"));
        assert!(ack <= 1, "more than one response: {frames:?}: {text}");
        for frame in frames.iter().take(ack + 1) {
            assert_eq!(frame.reply_to, id, "{frame:?}: {text}");
        }
        let heard = self.take(to);
        self.work();
        let later = [self.take(from), heard, self.take(to)];
        for frame in frames.iter().skip(ack + 1).chain(later.iter().flatten()) {
            assert_eq!(frame.reply_to, None, "unsolicited: {frame:?}: {text}");
            assert_ne!(frame.message_type, "ack", "a second `ack`: {text}");
        }
    }
}

fn subscriber(id: &str) -> Subscriber {
    Subscriber {
        domain: Domain::parse("d").expect("valid id"),
        id: SubscriberId::parse(id).expect("valid id"),
    }
}
