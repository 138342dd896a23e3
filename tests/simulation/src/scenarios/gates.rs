//! A response comes before what was caused after its request.

use core::time::Duration;

use serde_json::{Value, json};
use service::ports::{Connections as _, Environment as _, Framing, Job, Reference};
use testkit::memory::Forced;

use super::{coming_up, world};
use crate::world::{Held, Line, World, channel, of_type, sequences, types};

fn say(text: &str) -> Value {
    json!({"type": "channel-message", "channel-id": "c", "content": text, "message-id": text})
}

fn list() -> Value {
    json!({"type": "list-channels", "id": "l"})
}

/// Anna and Bob in channel `c`.
fn two(world: &World) -> (Line, Line) {
    let (anna, bob) = (world.connect("anna"), world.connect("bob"));
    world.channel_of("c", &[&anna, &bob]);
    (anna, bob)
}

/// Neither a reference nor a gate.
fn nothing_waits(world: &World, line: &Line) {
    let (service, of) = (world.service.clone(), line.clone());
    let connections =
        world.run(async move { service.store.connections(of.subscriber()).await.unwrap() });
    let left = &connections[&line.id];
    assert!(left.parked.is_empty() && left.gates.is_empty(), "{left:?}");
}

/// Leaves gates of nobody, each for so many seconds, and parks a `resync` so many times behind the last of them.
fn leave(world: &World, line: &Line, gates: &'static [(&str, u64)], parked: usize) {
    let (service, line) = (world.service.clone(), line.clone());
    let left = world.run(async move {
        let (store, now) = (&service.store, service.environment.now());
        for (gate, seconds) in gates {
            let ends = now.plus(Duration::from_secs(*seconds));
            let raised = store.raise_gate(line.subscriber(), &line.id, gate, ends);
            assert!(raised.await?.is_ok());
        }
        let log = channel("d", "c");
        let references = vec![Reference::Resync { log }; parked];
        let saw = gates.last().map(|(gate, _)| *gate);
        store
            .park(line.subscriber(), &line.id, saw, &references)
            .await
    });
    left.unwrap();
}

/// A handler that has posted its response and not yet its `ack`.
fn between_response_and_ack(
    world: &World,
    line: &Line,
    message: &Value,
) -> Held<Result<(), service::ports::Fault>> {
    let mut handler = world.hold(line, message);
    let before = world.sockets().frames(&line.id).len();
    handler.until(|| world.sockets().frames(&line.id).len() > before);
    handler
}

#[test]
fn what_others_send_waits_until_the_response_and_its_ack_are_out() {
    let world = world(1);
    let (anna, bob) = two(&world);
    let handler = between_response_and_ack(&world, &bob, &list());
    for text in ["one", "two"] {
        let answer = world.ask_briefly(&anna, say(text));
        assert_eq!(types(&answer), ["delivery", "ack"]);
    }
    assert_eq!(types(&world.take(&bob)), ["channels"]);
    handler.finish().unwrap();
    world.settle();
    let rest = world.take(&bob);
    assert_eq!(types(&rest), ["ack", "channel-message", "channel-message"]);
    assert_eq!(sequences(&rest), [3, 4]);
}

#[test]
fn a_handler_that_dies_behind_its_gate_is_taken_over_with_a_resync() {
    let world = world(2);
    let (anna, bob) = two(&world);
    let handler = between_response_and_ack(&world, &bob, &list());
    let saying = world.send(&anna, &say("one"));
    world.sim.run_for(Duration::from_secs(1));
    assert!(!saying.is_running());
    drop(handler);
    world.settle();
    let frames = world.take(&bob);
    assert_eq!(types(&frames), ["channels", "resync"]);
    assert_eq!(frames[1]["last-sequence"], 3);
    world.ask(&anna, say("two"));
    assert_eq!(sequences(&world.take(&bob)), [4]);
}

/// Whoever parked it died before it had the worker see to it, and nobody pushes to this connection any more.
#[test]
fn what_waits_behind_nobody_is_let_go_with_the_next_message_of_its_client() {
    let world = world(15);
    let (_anna, bob) = two(&world);
    leave(&world, &bob, &[("dead", 1)], 1);
    world.sim.clock().advance(Duration::from_secs(6));
    world.settle();
    assert_eq!(world.take(&bob), [] as [Value; 0]);
    let answer = world.ask(&bob, json!({"type": "ping", "id": "p"}));
    world.settle();
    let mut told = types(&answer);
    let rest = world.take(&bob);
    told.extend(types(&rest));
    assert_eq!(told, ["ack", "resync"]);
    nothing_waits(&world, &bob);
}

#[test]
fn who_comes_upon_a_dead_gate_first_tells_what_waited_there() {
    let world = world(3);
    let (anna, bob) = two(&world);
    let handler = between_response_and_ack(&world, &bob, &list());
    // Nobody works: what is parked is met by the next sender only.
    world
        .service
        .workers
        .faults()
        .set_rates(testkit::memory::Rates::default());
    let saying = world.send(&anna, &say("one"));
    world.sim.run_for(Duration::from_millis(10));
    assert!(!saying.is_running());
    drop(handler);
    world.sim.clock().advance(Duration::from_secs(6));
    world.ask(&anna, say("two"));
    let frames = world.take(&bob);
    assert_eq!(types(&frames)[..2], ["channels", "resync"]);
    assert!(sequences(&frames).is_sorted());
}

/// Who takes over brings something along; what others park meanwhile is neither lost nor is that told twice.
#[test]
fn what_is_parked_while_a_dead_gate_is_taken_over_is_told_once() {
    let world = world(12);
    let (anna, bob) = two(&world);
    world.channel_of("d", &[&anna, &bob]);
    let dead = between_response_and_ack(&world, &bob, &list());
    let saying = world.send(&anna, &say("one"));
    world.sim.run_for(Duration::from_millis(10));
    assert!(!saying.is_running());
    drop(dead);
    world.take(&bob);
    world.sim.clock().advance(Duration::from_secs(6));
    let taken = world.calls("take_gate");
    let mut taking = world.hold(&anna, &say("two"));
    taking.until(|| world.calls("take_gate") > taken);
    let other = json!({"type": "channel-message", "channel-id": "d", "content": "three", "message-id": "three"});
    world.ask_briefly(&anna, other);
    taking.finish().unwrap();
    world.settle();
    let frames = world.take(&bob);
    let told = |channel: &str| {
        let of = frames.iter().filter(|it| it["channel-id"] == channel);
        of.map(|it| it["type"].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(told("c"), ["resync", "channel-message"], "{frames:?}");
    assert_eq!(told("d"), ["channel-message"], "{frames:?}");
}

#[test]
fn two_handlers_of_one_connection_release_what_waited_once_after_both() {
    let world = world(4);
    let (anna, bob) = two(&world);
    let first = between_response_and_ack(&world, &bob, &list());
    world.ask_briefly(&anna, say("one"));
    let second = between_response_and_ack(&world, &bob, &list());
    world.ask_briefly(&anna, say("two"));
    assert_eq!(types(&world.take(&bob)), ["channels", "channels"]);
    first.finish().unwrap();
    world.sim.run_until_idle();
    assert_eq!(types(&world.take(&bob)), ["ack"]);
    second.finish().unwrap();
    world.settle();
    let rest = world.take(&bob);
    assert_eq!(types(&rest), ["ack", "channel-message", "channel-message"]);
    assert_eq!(sequences(&rest), [3, 4]);
}

/// A handler reads what is parked when it begins. When it ends, that may be long gone, and another may stand behind a
/// gate of its own.
#[test]
fn what_was_parked_when_a_handler_began_is_looked_at_again_before_it_is_posted() {
    let world = world(5);
    let (anna, bob) = two(&world);
    let dead = between_response_and_ack(&world, &bob, &list());
    let saying = world.send(&anna, &say("one"));
    world.sim.run_for(Duration::from_millis(10));
    assert!(!saying.is_running());
    drop(dead);
    // The first gate ends while the second one stands.
    world.sim.clock().advance(Duration::from_secs(4));
    let second = between_response_and_ack(&world, &bob, &list());
    world.sim.clock().advance(Duration::from_secs(2));
    let third = between_response_and_ack(&world, &bob, &list());
    second.finish().unwrap();
    assert_eq!(
        types(&world.take(&bob)),
        ["channels", "channels", "channels", "ack"]
    );
    third.finish().unwrap();
    world.settle();
    let rest = world.take(&bob);
    assert_eq!(types(&rest)[0], "ack");
    assert_eq!(rest.len(), 2, "{rest:?}");
}

#[test]
fn nothing_is_posted_before_a_connection_is_up_and_nothing_is_lost_then() {
    // What waits longer than its lease stands is not known to be in order.
    for (wait, told) in [(3, "channel-message"), (20, "resync")] {
        let world = world(6);
        let (anna, bob) = two(&world);
        let young = coming_up(&world, &bob);
        let saying = world.send(&anna, &say("one"));
        world.sim.run_for(Duration::from_secs(wait));
        assert!(!saying.is_running());
        assert_eq!(world.take(&young), [] as [Value; 0]);
        world.sockets().open(&young.id);
        world.settle();
        let frames = world.take(&young);
        assert_eq!(types(&frames), [told], "{frames:?}");
        assert_eq!(sequences(&world.take(&bob)), [3]);
    }
}

/// A handler that posted one by one for as long as something waits would not end while others write all the time.
#[test]
fn what_takes_too_long_to_let_go_becomes_a_resync_and_keeps_nobody() {
    let world = world(11);
    let (anna, bob) = two(&world);
    let young = coming_up(&world, &bob);
    for number in 0..30 {
        world.ask_briefly(&anna, say(&number.to_string()));
    }
    world
        .service
        .store
        .faults()
        .set_latency(Duration::from_millis(500));
    world.sockets().open(&young.id);
    world.sim.run_for(Duration::from_secs(12));
    world.service.store.faults().heal();
    let connection = world.run({
        let (service, young) = (world.service.clone(), young.clone());
        async move {
            let connections = service.store.connections(young.subscriber()).await;
            connections.unwrap()[&young.id].clone()
        }
    });
    assert!(
        connection.parked.is_empty() && connection.gates.is_empty(),
        "{connection:?}"
    );
    let frames = world.take(&young);
    let told = of_type(&frames, "channel-message").len();
    assert!((1..30).contains(&told), "{told} one by one");
    assert_eq!(frames[told]["type"], "resync");
    assert_eq!(frames[told]["last-sequence"], 32);
    assert_eq!(frames.len(), told + 1);
    world.settle();
}

/// The job that waits for a connection is carried out at least once: twice at once must not lose what was parked.
#[test]
fn two_workers_that_let_one_connection_go_lose_and_repeat_nothing() {
    for seed in 0..200 {
        let world = world(seed);
        let (anna, bob) = two(&world);
        let young = coming_up(&world, &bob);
        let job = Job::Connected {
            subscriber: bob.subscriber().clone(),
            connection: young.id.clone(),
            token: young.identity.token.clone(),
            framing: Framing::Raw,
        };
        world.service.workers.put(job);
        for text in ["one", "two"] {
            let saying = world.send(&anna, &say(text));
            world.sim.run_for(Duration::from_millis(300));
            assert!(!saying.is_running());
        }
        world.sockets().open(&young.id);
        let third = world.send(&anna, &say("three"));
        world.settle();
        third.take().unwrap().unwrap();
        assert_eq!(sequences(&world.take(&young)), [3, 4, 5], "seed {seed}");
    }
}

#[test]
fn a_client_that_reads_too_slowly_is_told_to_look_and_nothing_overtakes() {
    let world = world(7);
    let (anna, bob) = two(&world);
    world.sockets().force(&bob.id, Some(Forced::Throttled));
    for text in ["one", "two"] {
        let saying = world.send(&anna, &say(text));
        world.sim.run_for(Duration::from_secs(1));
        assert!(!saying.is_running());
    }
    assert_eq!(world.take(&bob), [] as [Value; 0]);
    world.sockets().force(&bob.id, None);
    world.settle();
    let frames = world.take(&bob);
    assert_eq!(types(&frames)[0], "resync");
    assert_eq!(frames.last().unwrap()["last-sequence"], 4);
    nothing_waits(&world, &bob);
}

/// Two died: one behind its gate, and the one who was to see to what it had parked there. A third is about to.
#[test]
fn who_leaves_what_is_parked_to_another_beside_a_dead_gate_has_it_seen_to() {
    let world = world(10);
    let (_, bob) = two(&world);
    leave(&world, &bob, &[("dead", 0), ("dies", 4)], 1);
    world.ask_briefly(&bob, list());
    world.settle();
    assert_eq!(types(&world.take(&bob)), ["resync"]);
}

/// As long as others get through it is the account's rate, and nobody has to look; who is throttled for longer reads too slowly.
#[test]
fn who_is_throttled_is_tried_again_while_others_get_through() {
    let world = world(9);
    let anna = world.connect("anna");
    let others: Vec<Line> = (0..10)
        .map(|n| world.connect(&format!("other-{n:02}")))
        .collect();
    let all: Vec<&Line> = [&anna].into_iter().chain(&others).collect();
    world.channel_of("c", &all);
    let (slow, others) = others.split_first().unwrap();
    world.sockets().force(&slow.id, Some(Forced::Throttled));
    for (n, other) in others.iter().enumerate() {
        // The last one more often than it would be if it were the only one.
        for _ in 0..n {
            world.sockets().force_next(&other.id, Forced::Throttled);
        }
    }
    for text in ["one", "two"] {
        let saying = world.send(&anna, &say(text));
        world.sim.run_for(Duration::from_secs(10));
        assert!(!saying.is_running());
    }
    world.sockets().force(&slow.id, None);
    world.settle();
    let first = 1 + u64::try_from(all.len()).unwrap();
    for other in others {
        let frames = world.take(other);
        assert_eq!(sequences(&frames), [first, first + 1], "{frames:?}");
        assert_eq!(frames.len(), 2);
    }
    let frames = world.take(slow);
    assert_eq!(types(&frames)[0], "resync");
    assert_eq!(frames.last().unwrap()["last-sequence"], first + 1);
    nothing_waits(&world, slow);
}

#[test]
fn a_connection_that_never_takes_anything_is_dropped_and_keeps_no_worker() {
    let world = world(8);
    let (anna, bob) = two(&world);
    world.sockets().force(&bob.id, Some(Forced::Throttled));
    let saying = world.send(&anna, &say("one"));
    // The shortest life of a worker.
    world.sim.run_for(Duration::from_secs(45));
    assert!(!saying.is_running());
    assert!(
        !world.sockets().is_open(&bob.id),
        "it is more than 30 s behind"
    );
    assert!(
        world.jobs_done().len() < 20,
        "{} jobs",
        world.jobs_done().len()
    );
    world.settle();
}

/// Nobody posts to it while it takes nothing, and its item has an end.
#[test]
fn what_waits_for_a_connection_is_bounded_and_a_backlog_is_let_go() {
    for (waiting, stays) in [(350, true), (450, false)] {
        let world = world(8);
        let (anna, bob) = two(&world);
        leave(&world, &bob, &[("dead", 0)], waiting);
        world.ask(&anna, say("one"));
        world.settle();
        assert_eq!(world.sockets().is_open(&bob.id), stays);
        if stays {
            assert_eq!(types(&world.take(&bob))[0], "resync");
            nothing_waits(&world, &bob);
        }
    }
}

/// Its entry goes first. Whoever dies before the second step leaves a connection that nobody finds among its subscriber's.
#[test]
fn a_drop_that_died_half_way_is_finished_by_the_jobs_repeat() {
    let world = world(8);
    let (_, bob) = two(&world);
    world
        .run({
            let (service, bob) = (world.service.clone(), bob.clone());
            async move {
                let (subscriber, connection) = (bob.subscriber().clone(), bob.id.clone());
                service.store.forget(&subscriber, &connection).await?;
                let job = Job::Release {
                    subscriber,
                    connection,
                };
                service.work(&job).await
            }
        })
        .unwrap();
    assert!(!world.sockets().is_open(&bob.id));
}

#[test]
fn a_post_that_nobody_knows_about_is_followed_by_a_resync_and_not_repeated() {
    for forced in [
        Forced::UnknownLost,
        Forced::UnknownDelivered,
        Forced::TooLarge,
    ] {
        let world = world(9);
        let (anna, bob) = two(&world);
        world.sockets().force_next(&bob.id, forced);
        world.ask(&anna, say("one"));
        let frames = world.take(&bob);
        let resync = of_type(&frames, "resync");
        assert_eq!(resync.len(), 1, "{forced:?}: {frames:?}");
        assert_eq!(resync[0]["last-sequence"], 3);
        assert!(of_type(&frames, "channel-message").len() <= 1);
    }
}

#[test]
fn a_connection_that_is_gone_is_forgotten_and_it_alone() {
    let world = world(10);
    let (anna, bob) = two(&world);
    let other = world.line(bob.subscriber());
    world.settle();
    world.take(&other);
    world.sockets().close(&bob.id);
    world.ask(&anna, say("one"));
    assert_eq!(sequences(&world.take(&other)), [3]);
    let left = world.run({
        let (service, bob) = (world.service.clone(), bob.clone());
        async move { service.store.connections(bob.subscriber()).await.unwrap() }
    });
    assert_eq!(left.keys().collect::<Vec<_>>(), [&other.id]);
}
