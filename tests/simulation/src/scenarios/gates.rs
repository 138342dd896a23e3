//! A response comes before what was caused after its request.

use core::time::Duration;

use serde_json::{Value, json};
use service::ports::{Clock as _, Connections as _, Framing, Job, Reference};
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

/// Fails if the connection has a parked reference or a gate.
fn nothing_waits(world: &World, line: &Line) {
    let (service, of) = (world.service.clone(), line.clone());
    let connections =
        world.run(async move { service.store.connections(of.subscriber()).await.unwrap() });
    let left = &connections[&line.id];
    assert!(left.parked.is_empty() && left.gates.is_empty(), "{left:?}");
}

/// Raises gates without an owner, each for so many seconds, and parks `parked` resyncs behind the last of them.
fn leave(world: &World, line: &Line, gates: &'static [(&str, u64)], parked: usize) {
    let (service, line) = (world.service.clone(), line.clone());
    let left = world.run(async move {
        let (store, now) = (&service.store, service.environment.now());
        for (gate, seconds) in gates {
            let ends = now.plus(Duration::from_secs(*seconds));
            let key = line.subscriber().connection(line.id.clone());
            let raised = store.raise_gate(&key, gate, ends);
            assert!(raised.await?.is_ok());
        }
        let log = channel("d", "c");
        let references = vec![Reference::Resync { log }; parked];
        let saw = gates.last().map(|(gate, _)| *gate);
        store
            .park(
                &line.subscriber().connection(line.id.clone()),
                saw,
                &references,
            )
            .await
    });
    left.unwrap();
}

/// A handler that has posted its response but not yet its `ack`.
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
fn pushes_wait_for_response_and_ack() {
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
fn dead_gate_owner_yields_resync() {
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

/// The sender that parked the event died before scheduling a release, and no other push goes to this connection.
#[test]
fn next_message_releases_orphaned_events() {
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
fn next_sender_releases_dead_gate() {
    let world = world(3);
    let (anna, bob) = two(&world);
    let handler = between_response_and_ack(&world, &bob, &list());
    // Without faults no worker runs here, so the next sender is the first to find what is parked.
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

/// The sender that takes over the gate brings an event of its own. What others park meanwhile is not lost, and no event
/// is pushed twice.
#[test]
fn push_parked_during_takeover_arrives_once() {
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
fn last_handler_releases_parked_pushes_once() {
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

/// A handler reads the parked references when it begins. When it ends they may be long released, and other references
/// may be parked behind another gate.
#[test]
fn handler_rereads_parked_before_release() {
    let world = world(5);
    let (anna, bob) = two(&world);
    let dead = between_response_and_ack(&world, &bob, &list());
    let saying = world.send(&anna, &say("one"));
    world.sim.run_for(Duration::from_millis(10));
    assert!(!saying.is_running());
    drop(dead);
    // The first gate ends while the second one is up.
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
fn pushes_wait_for_activation() {
    // References parked for longer than their lease lasts are not known to be in order.
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

/// A handler that posted one by one while something is parked would never end while others keep writing.
#[test]
fn slow_release_collapses_to_resync() {
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
    assert!((1..30).contains(&told), "{told} events were posted singly");
    assert_eq!(frames[told]["type"], "resync");
    assert_eq!(frames[told]["last-sequence"], 32);
    assert_eq!(frames.len(), told + 1);
    world.settle();
}

/// The job that activates a connection runs at least once. Two concurrent runs must not lose what was parked.
#[test]
fn concurrent_activations_lose_and_repeat_nothing() {
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
fn slow_reader_gets_resync_in_order() {
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

/// Two functions died: the owner of a gate, and the one that should have released what it parked there. A third is
/// about to die.
#[test]
fn handler_beside_dead_gate_schedules_release() {
    let world = world(10);
    let (_, bob) = two(&world);
    leave(&world, &bob, &[("dead", 0), ("dies", 4)], 1);
    world.ask_briefly(&bob, list());
    world.settle();
    assert_eq!(types(&world.take(&bob)), ["resync"]);
}

/// While other posts succeed a throttled one has met the account's rate, and is retried. A connection that is throttled
/// for longer reads too slowly.
#[test]
fn throttled_posts_retry_while_others_succeed() {
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
        // The last one more often than if it were the only connection.
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
fn stalled_connection_is_dropped() {
    let world = world(8);
    let (anna, bob) = two(&world);
    world.sockets().force(&bob.id, Some(Forced::Throttled));
    let saying = world.send(&anna, &say("one"));
    // The shortest time limit of a worker.
    world.sim.run_for(Duration::from_secs(45));
    assert!(!saying.is_running());
    assert!(
        !world.sockets().is_open(&bob.id),
        "the client is more than 30 s behind"
    );
    assert!(
        world.jobs_done().len() < 20,
        "{} jobs",
        world.jobs_done().len()
    );
    world.settle();
}

/// No sender posts to the connection while it accepts nothing, and the size of its item is limited.
#[test]
fn oversized_parked_backlog_drops_connection() {
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

/// A drop first removes the connection's entry. A function that dies after that leaves a connection that is not listed
/// under its subscriber.
#[test]
fn retried_job_finishes_dead_drop() {
    let world = world(8);
    let (_, bob) = two(&world);
    world
        .run({
            let (service, bob) = (world.service.clone(), bob.clone());
            async move {
                let (subscriber, connection) = (bob.subscriber().clone(), bob.id.clone());
                service
                    .store
                    .forget(&subscriber.connection(connection.clone()))
                    .await?;
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
fn unknown_post_yields_one_resync() {
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
fn only_gone_connection_is_forgotten() {
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
