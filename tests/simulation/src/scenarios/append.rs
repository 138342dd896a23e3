//! A message becomes one event, even if functions die on the way.

use core::time::Duration;

use protocol::{
    Event, EventBody, LogId, SubscriberId,
    change::{Change, LogEntry, RowChange},
};
use serde_json::{Value, json};
use service::ports::{Channels as _, Clock as _};
use testkit::memory::Failure;

use super::world;
use crate::world::{Line, World, channel, of_type, sequences, types};

fn say(text: &str) -> Value {
    json!({"type": "channel-message", "id": "s", "channel-id": "c", "content": text, "message-id": text})
}

/// Two connections of Anna and one of Bob, in channel `c`, whose log ends at 2.
fn three(world: &World) -> (Line, Line, Line) {
    let (anna, bob) = (world.connect("anna"), world.connect("bob"));
    let other = world.connect("anna");
    world.channel_of("c", &[&anna, &bob]);
    world.take(&other);
    (anna, other, bob)
}

/// Adds `more` members to `c` directly in the store, without their events.
fn fill(world: &World, more: u64) {
    let LogId::Channel(key) = channel("d", "c") else {
        unreachable!()
    };
    let service = world.service.clone();
    world.run(async move {
        let rows = (0..more).map(|n| RowChange::Joined {
            subscriber: SubscriberId::parse(&format!("member-{n}")).unwrap(),
            administrator: false,
            sequence: 1,
        });
        for rows in rows.collect::<Vec<_>>().chunks(24) {
            let change = Change::of_rows(key.clone(), service.environment.now(), rows.to_vec());
            service.store.change(&change).await.unwrap();
        }
    });
}

/// The sequences of the events with content `text`.
fn slots(world: &World, text: &str) -> Vec<u64> {
    let content = json!(text).to_string();
    world
        .entries(&channel("d", "c"))
        .iter()
        .filter(|entry| matches!(&entry.event.body, EventBody::Message { content: said, .. } if said.as_str() == content))
        .map(|entry| entry.event.sequence)
        .collect()
}

#[test]
fn sender_gets_delivery_others_get_event() {
    let world = world(1);
    let (anna, other, bob) = three(&world);
    let answer = world.ask(&anna, say("hello"));
    assert_eq!(types(&answer), ["delivery", "ack"]);
    assert_eq!(
        (&answer[0]["sequence"], &answer[0]["reply-to"]),
        (&json!(3), &json!("s"))
    );
    for line in [&other, &bob] {
        let frames = world.take(line);
        assert_eq!(types(&frames), ["channel-message"]);
        assert_eq!(
            (&frames[0]["content"], &frames[0]["sequence"]),
            (&json!("hello"), &json!(3))
        );
        assert!(frames[0].get("reply-to").is_none());
    }
    assert_eq!(world.head(&channel("d", "c")).lease, None);
}

#[test]
fn retry_repairs_dead_writer() {
    for after in ["allocate", "set_idempotency_record", "put_entry", "release"] {
        for pause in [0, 2, 20] {
            let world = world(2);
            let (anna, other, bob) = three(&world);
            let before = world.calls(after);
            let mut handler = world.hold(&anna, &say("one"));
            handler.until(|| world.calls(after) > before);
            drop(handler);
            world.sim.clock().advance(Duration::from_secs(pause));
            world.take(&other);
            let answer = world.ask(&other, say("one"));
            assert_eq!(
                types(&answer)[..2],
                ["delivery", "ack"],
                "{after}: {answer:?}"
            );
            let sequence = of_type(&answer, "delivery")[0]["sequence"]
                .as_u64()
                .unwrap();
            assert_eq!(slots(&world, "one"), [sequence], "{after}");
            world.sim.clock().advance(Duration::from_secs(15));
            world.sweep();
            world.settle();
            let frames = world.take(&bob);
            let told = frames
                .iter()
                .any(|it| it["content"] == "one" || it["last-sequence"].as_u64() >= Some(sequence));
            assert!(
                told,
                "died after {after}, repeated after {pause} s: {frames:?}"
            );
            let head = world.head(&channel("d", "c"));
            assert_eq!((head.sent, head.lease), (head.sequence, None), "{after}");
        }
    }
}

#[test]
fn concurrent_retries_make_one_event() {
    for seed in 0..100 {
        let world = world(seed);
        let (anna, other, bob) = three(&world);
        let tries = [&anna, &other, &anna].map(|line| world.send(line, &say("one")));
        world.settle();
        for handler in tries {
            handler.take().unwrap().unwrap();
        }
        let mut told = world.take(&anna);
        told.extend(world.take(&other));
        let told: Vec<u64> = sequences(
            &of_type(&told, "delivery")
                .into_iter()
                .cloned()
                .collect::<Vec<_>>(),
        );
        assert_eq!(told.len(), 3);
        assert!(
            told.iter().all(|it| *it == told[0]),
            "seed {seed}: {told:?}"
        );
        assert_eq!(slots(&world, "one"), [told[0]], "seed {seed}");
        let frames = world.take(&bob);
        assert_eq!(of_type(&frames, "channel-message").len(), 1, "seed {seed}");
    }
}

#[test]
fn retry_with_other_content_conflicts() {
    let world = world(3);
    let (anna, ..) = three(&world);
    world.ask(&anna, say("one"));
    let mut other = say("one");
    other["content"] = json!("two");
    let answer = world.ask(&anna, other);
    assert_eq!(answer[0]["error"]["code"], "conflict");
    assert_eq!(slots(&world, "two"), [] as [u64; 0]);
}

#[test]
fn lost_write_answer_makes_one_event() {
    for operation in ["allocate", "set_idempotency_record", "put_entry"] {
        for failure in [
            Failure::UnknownApplied,
            Failure::UnknownNotApplied,
            Failure::Refused,
        ] {
            let world = world(4);
            let (anna, _, bob) = three(&world);
            world.service.store.faults().next(operation, failure);
            let answer = world.ask(&anna, say("one"));
            assert_eq!(
                types(&answer)[..2],
                ["delivery", "ack"],
                "{operation} {failure:?}"
            );
            world.sim.run_for(Duration::from_secs(2));
            let sequence = answer[0]["sequence"].as_u64().unwrap();
            assert_eq!(slots(&world, "one"), [sequence], "{operation} {failure:?}");
            let frames = world.take(&bob);
            assert!(
                sequences(&frames).contains(&sequence),
                "{operation} {failure:?}: {frames:?}"
            );
        }
    }
}

#[test]
fn refused_read_still_gets_ack() {
    for operation in [
        "connections",
        "member",
        "idempotency_record",
        "raise_gate",
        "head",
    ] {
        for message in [
            say("one"),
            json!({"type": "ping", "id": "s"}),
            json!({"type": "get-history", "id": "s", "channel-id": "c"}),
            json!({"type": "channel-message", "id": "s", "channel-id": "", "content": 1}),
        ] {
            let world = world(5);
            let (anna, ..) = three(&world);
            world
                .service
                .store
                .faults()
                .next(operation, Failure::Refused);
            let handler = world.send(&anna, &message);
            world.settle();
            let ended = handler.take().unwrap();
            let acks = of_type(&world.take(&anna), "ack").len();
            assert_eq!(acks, 1, "{operation} refused, {message}: {ended:?}");
        }
    }
}

#[test]
fn reader_voids_abandoned_slot() {
    let world = world(6);
    let (anna, _, bob) = three(&world);
    let before = world.calls("allocate");
    let mut handler = world.hold(&anna, &say("one"));
    handler.until(|| world.calls("allocate") > before);
    let begun = world.sim.clock().now();
    let reader = world.send(&bob, &json!({"type": "get-history", "channel-id": "c"}));
    world.sim.run_for(Duration::from_millis(900));
    assert!(reader.is_running(), "the writer may only be slow");
    world.settle();
    assert!(begun.until(world.sim.clock().now()) >= Duration::from_secs(1));
    let log = world.entries(&channel("d", "c"));
    assert!(matches!(
        log[..],
        [
            _,
            _,
            LogEntry {
                event: Event {
                    body: EventBody::Void,
                    ..
                },
                ..
            }
        ]
    ));
    // The writer was only slow. Its own condition fails, and it takes another slot.
    handler.finish().unwrap();
    world.settle();
    assert_eq!(slots(&world, "one"), [4]);
}

/// Others keep writing, but a gap is waited for only a second.
#[test]
fn gap_is_voided_under_steady_traffic() {
    let world = world(7);
    let (anna, other, bob) = three(&world);
    let before = world.calls("allocate");
    let mut handler = world.hold(&anna, &say("dead"));
    handler.until(|| world.calls("allocate") > before);
    drop(handler);
    // The dead writer held the lease, which ends first.
    world.sim.clock().advance(Duration::from_secs(12));
    world.take(&bob);
    for message in 0..12 {
        world.send(&other, &say(&format!("m{message}")));
        world.sim.run_for(Duration::from_millis(500));
    }
    let frames = world.take(&bob);
    assert!(
        frames.iter().any(|it| it["sequence"].as_u64() >= Some(6) || it["last-sequence"].as_u64() >= Some(6)),
        "Bob got nothing within six seconds: {frames:?}"
    );
    world.settle();
}

#[test]
fn direct_message_reaches_all_devices() {
    let world = world(8);
    let (anna, other, bob) = three(&world);
    let answer = world.ask(
        &anna,
        json!({"type": "direct-message", "subscriber-id": "bob", "content": 1, "message-id": "m"}),
    );
    assert_eq!(types(&answer), ["delivery", "ack", "delivery"]);
    assert_eq!(
        (&answer[0]["status"], &answer[2]["status"]),
        (&json!("stored"), &json!("received"))
    );
    let frames = world.take(&bob);
    assert_eq!(
        (types(&frames), &frames[0]["subscriber-id"]),
        (vec!["direct-message"], &json!("anna"))
    );
    let frames = world.take(&other);
    assert_eq!(
        (types(&frames), &frames[0]["subscriber-id"]),
        (vec!["direct-message", "delivery"], &json!("bob"))
    );
}

/// However many messages the reader has sent since.
#[test]
fn read_receipt_passes_readers_own_messages() {
    let world = world(8);
    let (anna, other, bob) = three(&world);
    let to =
        json!({"type": "direct-message", "subscriber-id": "bob", "content": 1, "message-id": "m"});
    world.ask(&anna, to);
    world.take(&bob);
    for message in 2..=121 {
        let answer = world.ask(
            &bob,
            json!({"type": "direct-message", "subscriber-id": "anna", "content": message}),
        );
        assert_eq!(answer[0]["sequence"], message);
    }
    world.take(&anna);
    world.take(&other);
    for moved in [true, false] {
        let read =
            json!({"type": "delivery", "subscriber-id": "anna", "sequence": 121, "status": "read"});
        assert_eq!(types(&world.ask(&bob, read)), ["ack"]);
        for line in [&anna, &other] {
            let told = world.take(line);
            assert_eq!(told.len(), usize::from(moved));
            assert!(
                told.iter()
                    .all(|it| it["status"] == "read" && it["sequence"] == 121)
            );
        }
    }
}

/// A holder of a large channel's backlog finishes what it began before its function is stopped by force.
#[test]
fn large_backlog_is_sent_in_parts() {
    let world = world(8);
    let (anna, _, bob) = three(&world);
    let before = world.calls("allocate");
    let mut handler = world.hold(&anna, &say("dead"));
    handler.until(|| world.calls("allocate") > before);
    drop(handler);
    for message in 0..40 {
        let saying = world.send(&bob, &say(&format!("m{message}")));
        world.sim.run_for(Duration::from_millis(20));
        assert!(!saying.is_running());
    }
    fill(&world, 1_000);
    world.sim.clock().advance(Duration::from_secs(12));
    let before = world.calls("receivers");
    world.settle();
    world.sweep();
    world.settle();
    let head = world.head(&channel("d", "c"));
    assert_eq!((head.sent, head.sequence), (43, 43));
    assert!(world.calls("receivers") - before >= 3);
}
