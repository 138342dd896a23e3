//! One function at a time pushes a log, and an acknowledged event is always pushed.

use core::time::Duration;

use serde_json::{Value, json};
use service::ports::{Connections as _, Job, Lease, Logs as _};
use testkit::sim::Sim;

use super::{coming_up, world};
use crate::world::{Line, World, channel, of_type, sequences, types};

fn say(text: &str) -> Value {
    json!({"type": "channel-message", "channel-id": "c", "content": text, "message-id": text})
}

fn two(world: &World) -> (Line, Line) {
    let (anna, bob) = (world.connect("anna"), world.connect("bob"));
    world.channel_of("c", &[&anna, &bob]);
    (anna, bob)
}

#[test]
fn lease_holder_pushes_concurrent_events() {
    let world = world(1);
    let (anna, bob) = two(&world);
    let before = world.calls("put_entry");
    let mut holder = world.hold(&anna, &say("one"));
    holder.until(|| world.calls("put_entry") > before);
    for text in ["two", "three"] {
        assert_eq!(types(&world.ask(&anna, say(text)))[0], "delivery");
    }
    assert_eq!(world.take(&bob), [] as [Value; 0]);
    holder.finish().unwrap();
    world.settle();
    assert_eq!(sequences(&world.take(&bob)), [3, 4, 5]);
    assert_eq!(world.head(&channel("d", "c")).lease, None);
}

#[test]
fn event_during_lease_release_is_pushed() {
    for seed in 0..200 {
        let world = world(seed);
        let (anna, bob) = two(&world);
        let sends: Vec<_> = (0..4)
            .map(|n| {
                world.send(
                    if n % 2 == 0 { &anna } else { &bob },
                    &say(&format!("m{n}")),
                )
            })
            .collect();
        world.settle();
        for handler in sends {
            handler.take().unwrap().unwrap();
        }
        for line in [&anna, &bob] {
            let frames = world.take(line);
            let pushed: Vec<Value> = of_type(&frames, "channel-message")
                .into_iter()
                .cloned()
                .collect();
            assert_eq!(pushed.len(), 2, "seed {seed}: {frames:?}");
            assert!(sequences(&pushed).is_sorted(), "seed {seed}: {frames:?}");
        }
        let head = world.head(&channel("d", "c"));
        assert_eq!((head.sent, head.lease), (6, None), "seed {seed}");
    }
}

#[test]
fn dead_lease_holder_yields_resync() {
    let world = world(2);
    let (anna, bob) = two(&world);
    let mut holder = world.hold(&anna, &say("one"));
    holder.until(|| !world.sockets().frames(&bob.id).is_empty());
    drop(holder);
    let nothing = world.ask(&anna, say("two"));
    assert_eq!(
        types(&nothing),
        ["delivery", "ack", "delivery", "ack"][..nothing.len()]
    );
    assert_eq!(sequences(&world.take(&bob)), [3], "the lease still holds");
    world.sim.clock().advance(Duration::from_secs(12));
    world.ask(&anna, say("three"));
    world.settle();
    let frames = world.take(&bob);
    assert_eq!(types(&frames), ["resync"]);
    assert_eq!(frames[0]["last-sequence"], 5);
    let head = world.head(&channel("d", "c"));
    assert_eq!((head.sent, head.lease), (5, None));
}

#[test]
fn sweep_pushes_abandoned_events() {
    let world = world(3);
    let (anna, bob) = two(&world);
    let before = world.calls("put_entry");
    let mut holder = world.hold(&anna, &say("one"));
    holder.until(|| world.calls("put_entry") > before);
    drop(holder);
    world.sim.clock().advance(Duration::from_secs(60));
    world.sweep();
    world.settle();
    assert_eq!(types(&world.take(&bob)), ["resync"]);
    world.sweep();
    assert_eq!(world.take(&bob), [] as [Value; 0]);
}

/// The handler reaches its deadline while it pushes.
#[test]
fn handler_hands_lease_to_worker() {
    let world = world(4);
    let (anna, bob) = two(&world);
    let mut holder = world.hold(&anna, &say("one"));
    holder.until(|| !world.sockets().frames(&bob.id).is_empty());
    world.ask_briefly(&anna, say("two"));
    world.sim.clock().advance(Duration::from_secs(4));
    holder.finish().unwrap();
    world.settle();
    let handed = world
        .jobs_done()
        .iter()
        .filter(|it| {
            matches!(
                it,
                Job::Drain {
                    holder: Some(_),
                    ..
                }
            )
        })
        .count();
    assert_eq!(handed, 1);
    assert_eq!(sequences(&world.take(&bob)), [3, 4]);
    assert_eq!(world.head(&channel("d", "c")).lease, None);
}

/// The same in the middle of the members, with each worker started twice. No member is served twice or left out.
#[test]
fn worker_resumes_partial_batch() {
    for seed in 0..50 {
        let world = World::new(&Sim::new(seed));
        world.work(0, 1_000);
        let lines = ["anna", "bob", "carl", "dora"].map(|it| world.connect(it));
        let [anna, bob, carl, dora] = &lines;
        world.channel_of("c", &[anna, bob, carl, dora]);
        world.service.store.cap_pages(Some(1));
        let mut holder = world.hold(anna, &say("one"));
        holder.until(|| !world.sockets().frames(&bob.id).is_empty());
        world.ask_briefly(anna, say("two"));
        world.sim.clock().advance(Duration::from_secs(4));
        holder.finish().unwrap();
        world.settle();
        let after: Vec<String> = world
            .jobs_done()
            .iter()
            .filter_map(|it| match it {
                Job::GoOn { midway, .. } => Some(midway.after.to_string()),
                _ => None,
            })
            .collect();
        assert_eq!(after, ["bob", "bob"], "seed {seed}");
        for line in [bob, carl, dora] {
            assert_eq!(sequences(&world.take(line)), [5, 6], "seed {seed}");
        }
        assert_eq!(world.head(&channel("d", "c")).lease, None);
    }
}

/// A job runs at least once. Two workers that were handed the same lease must not push twice.
#[test]
fn handed_lease_has_one_worker() {
    for seed in 0..200 {
        let world = world(seed);
        let (anna, bob) = two(&world);
        let log = channel("d", "c");
        let before = world.calls("put_entry");
        let mut holder = world.hold(&anna, &say("one"));
        holder.until(|| world.calls("put_entry") > before);
        drop(holder);
        for text in ["two", "three"] {
            world.ask(&anna, say(text));
        }
        world.run({
            let (service, log) = (world.service.clone(), log.clone());
            let until = world.sim.clock().now().plus(Duration::from_secs(10));
            async move {
                let old = service.store.head(&log).await.unwrap().unwrap().lease;
                let new = Lease {
                    holder: "handed".into(),
                    until,
                };
                let taken = service.store.take_lease(&log, old.as_ref(), &new).await;
                assert!(taken.unwrap().is_some());
            }
        });
        for _ in 0..2 {
            world.service.workers.put(Job::Drain {
                log: log.clone(),
                holder: Some("handed".into()),
            });
        }
        world.settle();
        let told = sequences(&world.take(&bob));
        assert_eq!(told, [3, 4, 5], "seed {seed}");
    }
}

/// After a worker has read the head and before it takes the lease, others may push everything and release the lease.
#[test]
fn stale_head_pushes_nothing_again() {
    let world = world(11);
    let (anna, bob) = (world.connect("anna"), world.connect("bob"));
    let log = channel("d", "c");
    let before = world.calls("change");
    let create =
        json!({"type": "create-channel", "channel-id": "c", "name": "c", "invite-token": "t"});
    let mut creating = world.hold(&anna, &create);
    creating.until(|| world.calls("change") > before);
    let head = world.head(&log);
    assert!(
        head.lease.is_none() && head.sent < head.sequence,
        "{head:?}"
    );
    let job = Job::Drain { log, holder: None };
    let (service, read) = (world.service.clone(), world.calls("head"));
    let mut worker = world.held(async move { service.work(&job).await });
    worker.until(|| world.calls("head") > read);
    creating.finish().unwrap();
    let join = json!({"type": "join-channel", "channel-id": "c", "invite-token": "t"});
    world.ask(&bob, join);
    world.ask(&anna, say("one"));
    for line in [&anna, &bob] {
        world.take(line);
    }
    worker.finish().unwrap();
    world.settle();
    for line in [&anna, &bob] {
        assert_eq!(world.take(line), [] as [Value; 0]);
    }
    let head = world.head(&channel("d", "c"));
    assert_eq!((head.sent, head.lease), (3, None));
}

/// A holder is slow to park. Meanwhile the gate is unchanged, but another holder has the lease and parked later events
/// there.
#[test]
fn late_park_keeps_event_order() {
    let world = world(12);
    let (anna, bob) = two(&world);
    let young = coming_up(&world, &bob);
    let (read, parked) = (world.calls("connections_of"), world.calls("park"));
    let mut slow = world.hold(&anna, &say("one"));
    slow.until(|| world.calls("connections_of") > read);
    assert!(slow.step());
    assert_eq!(world.calls("park"), parked, "the holder has not parked yet");
    world.sim.clock().advance(Duration::from_secs(12));
    for text in ["two", "three"] {
        world.ask_briefly(&anna, say(text));
    }
    assert!(world.calls("park") > parked);
    slow.until(|| world.calls("park") > parked + 2);
    world.sockets().open(&young.id);
    drop(slow);
    world.settle();
    let frames = world.take(&young);
    assert!(frames.len() > 1, "{frames:?}");
    assert!(sequences(&frames).is_sorted(), "{frames:?}");
    let last = frames
        .iter()
        .filter_map(|it| it["last-sequence"].as_u64())
        .max();
    assert_eq!(last, Some(5), "{frames:?}");
}

#[test]
fn reader_schedules_drain_after_expired_lease() {
    let world = world(5);
    let (anna, bob) = two(&world);
    let before = world.calls("put_entry");
    let mut holder = world.hold(&anna, &say("one"));
    holder.until(|| world.calls("put_entry") > before);
    drop(holder);
    world.sim.clock().advance(Duration::from_secs(12));
    world.ask(&anna, json!({"type": "get-history", "channel-id": "c"}));
    world.settle();
    assert_eq!(types(&world.take(&bob)), ["resync"]);
}

#[test]
fn failed_member_read_is_repeated() {
    let world = world(9);
    let (anna, bob) = two(&world);
    for (reads, fails) in [(1, false), (2, true)] {
        if fails {
            let faults = world.service.store.faults();
            faults.next("receivers", testkit::memory::Failure::Refused);
        }
        let before = world.calls("receivers");
        world.ask(&anna, say(&reads.to_string()));
        assert_eq!(world.calls("receivers") - before, reads);
        assert_eq!(types(&world.take(&bob)), ["channel-message"]);
    }
}

#[test]
fn joining_member_gets_later_message() {
    let world = world(10);
    let (anna, _bob) = two(&world);
    let carl = world.connect("carl");
    let before = world.calls("allocate");
    let join = json!({"type": "join-channel", "channel-id": "c", "invite-token": "t"});
    let mut joining = world.hold(&carl, &join);
    joining.until(|| world.calls("allocate") > before);
    // The slot before the message's is allocated, but the row does not exist yet. The message's receivers must not be
    // read now.
    let before = world.calls("receivers");
    world.ask(&anna, say("one"));
    assert_eq!(world.calls("receivers"), before);
    joining.finish().unwrap();
    world.settle();
    let told = world.take(&carl);
    assert!(types(&told).contains(&"channel-message"), "{told:?}");
}

#[test]
fn refused_store_calls_lose_no_event() {
    let world = world(6);
    let (anna, bob) = two(&world);
    for operation in ["receivers", "connections_of", "release", "renew"] {
        let faults = world.service.store.faults();
        faults.next(operation, testkit::memory::Failure::Refused);
        if operation == "receivers" {
            // If the read while the message is stored is refused, it is not retried there.
            faults.next(operation, testkit::memory::Failure::Refused);
        }
        let handler = world.send(&anna, &say(operation));
        world.settle();
        let _ = handler.take();
        world.sweep();
        world.settle();
        let head = world.head(&channel("d", "c"));
        assert_eq!(
            (head.sent, &head.lease),
            (head.sequence, &None),
            "{operation}"
        );
        let frames = world.take(&bob);
        let told = frames.iter().any(|frame| {
            frame["sequence"].as_u64() == Some(head.sequence)
                || frame["last-sequence"].as_u64() == Some(head.sequence)
        });
        assert!(told, "{operation}: {frames:?}");
    }
    let bobs = world.run({
        let (service, bob) = (world.service.clone(), bob.clone());
        async move { service.store.connections(bob.subscriber()).await.unwrap() }
    });
    assert!(bobs[&bob.id].parked.is_empty());
}
