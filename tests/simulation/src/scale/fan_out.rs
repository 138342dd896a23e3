//! Messages to 100,000 members, and a small channel beside them.

use core::{cell::RefCell, time::Duration};
use std::rc::Rc;

use serde_json::{Value, json};
use testkit::sim::check;

use super::Account;
use crate::world::Line;

/// Members of the large channel, each with a connection.
const CROWD: u64 = 100_000;
/// Messages to each crowd, one per second.
const MESSAGES: u64 = 3;
/// Members of the small channel, in which one member speaks twice per second.
const FEW: u64 = 10;

fn message(channel: &str, text: &str) -> Value {
    json!({"type": "channel-message", "channel-id": channel, "content": text, "message-id": text})
}

/// Every receiver gets everything in order, or a resync. The fan-out leaves some of the account's rate to others.
#[test]
fn crowd_does_not_delay_small_channel() {
    check(1, |sim| {
        let account = Account::new(sim);
        send_to_crowds(&account, &["crowd"], account.scaled(CROWD));
    });
}

/// Ten concurrent fan-outs share the account's rate, which each alone could use up. Refused posts are sent later. This
/// runs at the full rate, because the pauses before a post is retried do not grow with its duration.
#[test]
fn concurrent_crowds_share_the_rate() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    check(1, |sim| send_to_crowds(&Account::of(sim, 1), &names, 4_000));
}

/// Sends to channels of `size` members each.
fn send_to_crowds(account: &Account, names: &[&'static str], size: u64) {
    let sim = &account.world.sim;
    let crowds: Vec<_> = names
        .iter()
        .map(|name| account.channel_of(name, size))
        .collect();
    let (_, few) = account.channel_of("few", FEW);
    account.begin();
    for (name, (_, all)) in names.iter().zip(&crowds) {
        for n in 0..MESSAGES {
            let (account, sender) = (account.clone(), all[0].clone());
            let said = message(name, &format!("{name}-{n}"));
            sim.spawn(async move {
                let clock = account.world.sim.clock();
                clock.sleep(Duration::from_secs(n)).await;
                account.say(&sender, &said).await;
            });
        }
    }
    let waits = Rc::new(RefCell::new(Vec::new()));
    sim.spawn(chat(account.clone(), few.clone(), Rc::clone(&waits)));

    // Run until everything is pushed and no function waits.
    let last = 1 + MESSAGES;
    let store = &account.world.service.store;
    let begun = sim.clock().now();
    let mut passed = None;
    for _ in 0..300 {
        sim.run_for(Duration::from_secs(1));
        let done = crowds.iter().all(|(log, _)| {
            let head = store.head_now(log).unwrap();
            head.sequence == last && head.lease.is_none()
        });
        if passed.is_none() && done {
            passed = Some((sim.clock().now().millis() - begun.millis()) / 1_000);
        }
        if passed.is_some() && account.running.get() <= 1 {
            break;
        }
    }

    let receivers = crowds.iter().flat_map(|(_, all)| &all[1..]);
    let resynced = receivers
        .map(|line| follow(account, line, last))
        .sum::<u64>();
    let mut waits = waits.borrow().clone();
    waits.sort_unstable();
    let (median, longest) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    account.report(&format!(
        "{MESSAGES} messages to each of {} of {size}: pushed after {passed:?} s, {resynced} resyncs; {} messages to {FEW} others: median {median} ms, longest {longest} ms",
        names.len(),
        waits.len(),
    ));
    assert!(passed.is_some(), "not everything was pushed");
    assert!(waits.len() >= 10, "{waits:?}");
    // A post that meets the rate waits behind a gate for five seconds. No post waits for the crowd to be done.
    assert!(
        longest <= 10_000,
        "the small channel waits for the crowd: {waits:?}"
    );
    let few = size * u64::try_from(names.len()).unwrap() / 1_000;
    assert!(resynced <= few, "{resynced} resyncs");
    assert!(account.jobs("release") <= few, "{:?}", account.jobs);
    assert_eq!(account.jobs("failed"), 0);
    assert!(
        account.requests.used().1 > 0,
        "the rate was never reached, so the test proves nothing"
    );
}

/// One member speaks in the small channel while the large one is served. Records how long each message took to reach
/// all others.
async fn chat(account: Account, few: Vec<Line>, waits: Rc<RefCell<Vec<i64>>>) {
    let (clock, sockets) = (account.world.sim.clock(), account.world.sockets().clone());
    for n in 0_usize.. {
        let began = clock.now();
        let (speaker, line) = (account.clone(), few[0].clone());
        account.world.sim.spawn(async move {
            speaker
                .say(&line, &message("few", &format!("few-{n}")))
                .await;
        });
        let end = u64::try_from(n + 2).unwrap();
        while !few[1..].iter().all(|line| {
            let frames = sockets.frames(&line.id);
            frames.last().is_some_and(|it| position(&it.text) >= end)
        }) {
            clock.sleep(Duration::from_millis(5)).await;
        }
        waits
            .borrow_mut()
            .push(clock.now().millis() - began.millis());
        clock.sleep(Duration::from_millis(500)).await;
    }
}

/// The position of the client after a frame.
fn position(frame: &str) -> u64 {
    let frame: Value = serde_json::from_str(frame).unwrap();
    let of = |name: &str| frame[name].as_u64();
    of("sequence").or_else(|| of("last-sequence")).unwrap_or(0)
}

/// Replays the frames of a client, and returns the number of its resyncs. Fails if an event is missing without a
/// resync, out of order, or repeated.
fn follow(account: &Account, line: &Line, last: u64) -> u64 {
    let (mut at, mut resyncs) = (1, 0);
    for frame in account.world.sockets().frames(&line.id) {
        let to = position(&frame.text);
        if frame.text.contains(r#""type":"resync""#) {
            resyncs += 1;
            at = at.max(to);
        } else if to > at || resyncs == 0 {
            assert_eq!(to, at + 1, "{:?}", account.world.sockets().frames(&line.id));
            at = to;
        }
    }
    assert_eq!(at, last, "{:?}", account.world.sockets().frames(&line.id));
    assert!(!account.world.sockets().overlapped(&line.id));
    resyncs
}
