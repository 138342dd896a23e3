//! 100,000 clients lose their connections at once and reconnect.

use core::{
    cell::{Cell, RefCell},
    time::Duration,
};
use std::{collections::BTreeMap, rc::Rc};

use protocol::Timestamp;
use serde_json::{Value, json};
use service::ports::Tokens as _;
use testkit::{
    random::Random,
    sim::{Sim, check},
};

use super::{Account, MESSAGE};
use crate::world::{Line, incoming};

/// The number of clients.
const CLIENTS: u64 = 100_000;
/// The pauses of docs/protocol.md, "A client that loses nothing". They begin with the first and double up to the last.
/// A random part between a half and all of each is waited.
const FIRST_PAUSE: u64 = 500;
const LAST_PAUSE: u64 = 30_000;
/// A client without an answer asks again after this time.
const UNANSWERED: Duration = Duration::from_secs(10);

/// The clients, and when each tries next.
struct Clients {
    account: Account,
    random: Random,
    lines: Vec<Line>,
    due: RefCell<BTreeMap<(Timestamp, usize), u32>>,
    back: Cell<usize>,
    tries: Cell<u64>,
}

/// All clients are back in about the time that the rate of new connections takes, and have what they missed.
#[test]
fn disconnected_crowd_reconnects_and_resumes() {
    check(1, cut_off);
}

fn cut_off(sim: &Sim) {
    let account = Account::new(sim);
    let (_, lines) = account.channel_of("crowd", account.scaled(CLIENTS));
    account.begin();
    let world = account.world.clone();
    for line in &lines {
        world.sockets().close(&line.id);
        world.sockets().take_texts(&line.id).clear();
    }
    let clients = Rc::new(Clients {
        random: sim.random(),
        due: RefCell::default(),
        back: Cell::new(0),
        tries: Cell::new(0),
        account: account.clone(),
        lines,
    });
    let begun = sim.clock().now();
    for client in 0..clients.lines.len() {
        clients.later(client, 0);
    }
    sim.spawn(Rc::clone(&clients).come_back());
    sim.spawn(Rc::clone(&clients).are_reported());
    let least = i64::try_from(CLIENTS / super::HANDSHAKES.0).unwrap() * 1_000;
    let mut took = None;
    for _ in 0..10 * least / 1_000 {
        sim.run_for(Duration::from_secs(1));
        if clients.back.get() == clients.lines.len() {
            took = Some(sim.clock().now().millis() - begun.millis());
            break;
        }
    }
    account.report(&format!(
        "{} of {} back after {took:?} ms, the rate alone takes {least} ms; tries {}",
        clients.back.get(),
        clients.lines.len(),
        clients.tries.get(),
    ));
    let took = took.expect("not all clients are back");
    assert!(took <= 2 * least, "{took} ms");
    assert!(
        account.peak.get() < super::FUNCTIONS,
        "all functions of the account were busy"
    );
    assert_eq!(account.jobs("failed"), 0);
    let refused = account.handshakes.used().1;
    assert!(
        refused > 0,
        "the rate was never reached, so the test proves nothing"
    );
}

impl Clients {
    /// Schedules the client's next attempt after its pause.
    fn later(&self, client: usize, attempt: u32) {
        let pause = (FIRST_PAUSE << attempt.min(10)).min(LAST_PAUSE);
        let pause = pause / 2 + self.random.below(pause / 2);
        let at = self.account.world.sim.clock().now();
        let at = at.plus(Duration::from_millis(pause));
        self.due.borrow_mut().insert((at, client), attempt);
    }

    /// Every client whose pause is over shakes hands, or gets a 429.
    async fn come_back(self: Rc<Self>) {
        let clock = self.account.world.sim.clock();
        loop {
            let next = self.due.borrow().keys().next().copied();
            let Some((at, client)) = next else {
                // Clients in the middle of a handshake may still have to retry.
                clock.sleep(Duration::from_millis(100)).await;
                continue;
            };
            let now = clock.now();
            if now < at {
                clock.sleep(now.until(at)).await;
                continue;
            }
            let attempt = self.due.borrow_mut().remove(&(at, client)).unwrap();
            self.tries.set(self.tries.get() + 1);
            if self.account.handshakes.take() && self.account.requests.take() {
                let clients = Rc::clone(&self);
                let sim = &self.account.world.sim;
                sim.spawn(async move { clients.shake_hands(client, attempt).await });
            } else {
                self.later(client, attempt + 1);
            }
        }
    }

    /// Invokes the authorizer and `$connect`, and sends the client's `resume` until it is answered.
    async fn shake_hands(&self, client: usize, attempt: u32) {
        let (account, old) = (&self.account, &self.lines[client]);
        let world = &account.world;
        let line = Line {
            id: world.connection_id(),
            identity: old.identity.clone(),
        };
        let registering = incoming(&line);
        let authorizer = world.service.store.token(&line.identity.token);
        let authorized = account.invoke(MESSAGE, authorizer).await;
        let connected = account.invoke(MESSAGE, world.service.connect(&registering));
        if !matches!(
            (authorized, connected.await),
            (Some(Ok(Some(_))), Some(Ok(())))
        ) {
            self.later(client, attempt + 1);
            return;
        }
        world.sockets().open(&line.id);
        let resume = json!({"type": "resume", "id": "r", "positions": [{"channel-id": "crowd", "sequence": 0}]});
        loop {
            account.say(&line, &resume).await;
            let began = world.sim.clock().now();
            while world.sim.clock().now() < began.plus(UNANSWERED) {
                let texts = world.sockets().take_texts(&line.id);
                if texts.iter().any(|it| missed(it)) {
                    self.back.set(self.back.get() + 1);
                    return;
                }
                world.sim.clock().sleep(Duration::from_millis(200)).await;
            }
        }
    }

    /// API Gateway reports the end of every other connection, one after another. It never reports the rest.
    async fn are_reported(self: Rc<Self>) {
        for line in self.lines.iter().step_by(2) {
            let world = &self.account.world;
            world.sim.clock().sleep(Duration::from_millis(1)).await;
            let key = line.subscriber().connection(line.id.clone());
            let ended = world.service.disconnect(&key);
            let ended = self.account.invoke(MESSAGE, ended).await;
            ended.expect("the function ends in time").unwrap();
        }
    }
}

/// Returns true if this frame contains the event that the client missed.
fn missed(text: &str) -> bool {
    let frame: Value = serde_json::from_str(text).unwrap();
    frame["type"] == "resumed" && frame["destinations"][0]["events"][0]["sequence"] == 1
}
