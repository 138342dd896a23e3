//! SockJS-framed connections: `o` once and first, several messages in a frame, and their ends.

use core::time::Duration;

use serde_json::{Value, json};
use service::ports::{Connections as _, Framing, Job};
use testkit::{memory::Forced, sim::Sim};

use super::world;
use crate::world::{Line, World, incoming, of_type, subscriber, types};

const SHUTDOWN: &str = r#"c[3001,"shutdown"]"#;

/// A SockJS-framed connection of Ada that is registered, with its job still queued.
fn registered(world: &World) -> Line {
    let of = world.clone();
    world.run(async move {
        let mut identity = of.identity(&subscriber("d", "ada")).await;
        identity.framing = Framing::Sockjs;
        let line = Line {
            id: of.connection_id(),
            identity,
        };
        of.service.connect(&incoming(&line)).await.unwrap();
        line
    })
}

/// As [`registered`], but open at the gateway.
fn up(world: &World) -> Line {
    let line = registered(world);
    world.sockets().open(&line.id);
    line
}

/// As [`up`], and the client has received `o`.
fn open(world: &World) -> Line {
    let line = up(world);
    world.settle();
    assert_eq!(wire(world, &line), ["o"]);
    world.take(&line);
    line
}

fn wire(world: &World, line: &Line) -> Vec<String> {
    let frames = world.sockets().frames(&line.id);
    frames.into_iter().map(|it| it.text).collect()
}

fn receive(world: &World, line: &Line, body: &str) {
    let service = world.service.clone();
    let incoming = world.invocation_with(line, body.to_owned());
    world.run(async move { service.receive(&incoming).await.unwrap() });
}

fn is_registered(world: &World, line: &Line) -> bool {
    let (service, line) = (world.service.clone(), line.clone());
    world.run(async move {
        let found = service.store.connections(line.subscriber()).await.unwrap();
        found.contains_key(&line.id)
    })
}

fn say(text: &str) -> Value {
    json!({"type": "direct-message", "subscriber-id": "ada", "content": text})
}

fn hello() -> Value {
    json!({"type": "hello", "id": "h"})
}

#[test]
fn open_frame_comes_once_and_first() {
    for seed in 0..100 {
        let world = world(seed);
        let bob = world.connect("bob");
        let latency = Duration::from_millis(20);
        world.service.store.faults().set_latency(latency);
        let line = registered(&world);
        world.service.workers.put(Job::Connected {
            subscriber: line.subscriber().clone(),
            connection: line.id.clone(),
            token: line.identity.token.clone(),
            framing: Framing::Sockjs,
        });
        let saying = world.send(&bob, &say("one"));
        world.sim.run_for(Duration::from_millis(seed * 7));
        world.sockets().open(&line.id);
        let more = world.send(&bob, &say("two"));
        world.settle();
        for task in [saying, more] {
            task.take().unwrap().unwrap();
        }
        assert_eq!(wire(&world, &line)[0], "o", "seed {seed}");
        assert_eq!(world.sockets().broken_framing(&line.id), None);
        assert_eq!(types(&world.take(&line)), ["direct-message"; 2]);
    }
}

#[test]
fn dying_worker_opens_or_drops_session() {
    let (mut told, mut dropped) = (0, 0);
    for seed in 0..300 {
        let world = World::new(&Sim::new(seed));
        world.work(150, 300);
        let line = up(&world);
        world.settle();
        let sockets = world.sockets();
        assert_eq!(sockets.broken_framing(&line.id), None, "seed {seed}");
        assert_eq!(sockets.is_open(&line.id), is_registered(&world, &line));
        if sockets.is_open(&line.id) {
            assert!(
                sockets.is_told(&line.id),
                "seed {seed}: the client waits for ever"
            );
            told += 1;
        } else {
            assert_eq!(wire(&world, &line).last().unwrap(), SHUTDOWN);
            dropped += 1;
        }
    }
    assert!(told > 50 && dropped > 5, "{told} opened, {dropped} dropped");
}

#[test]
fn unknown_open_frame_drops_connection() {
    for (outcome, told) in [
        (Forced::UnknownDelivered, true),
        (Forced::UnknownLost, false),
    ] {
        let world = world(1);
        let line = up(&world);
        world.sockets().force_next(&line.id, outcome);
        world.settle();
        assert_eq!(world.sockets().is_told(&line.id), told);
        assert!(!world.sockets().is_open(&line.id));
        assert!(!is_registered(&world, &line));
        assert_eq!(wire(&world, &line).last().unwrap(), SHUTDOWN);
    }
}

#[test]
fn rejected_open_frame_is_retried() {
    let world = world(1);
    let line = up(&world);
    for outcome in [Forced::Throttled, Forced::Gone] {
        world.sockets().force_next(&line.id, outcome);
    }
    world.settle();
    assert_eq!(wire(&world, &line), ["o"]);
}

#[test]
fn early_message_is_answered_after_open() {
    let world = World::new(&Sim::new(1));
    let line = up(&world);
    let handler = world.send(&line, &hello());
    world.sim.run_for(Duration::from_millis(400));
    assert!(handler.is_running());
    world.work(0, 0);
    world.settle();
    handler.take().unwrap().unwrap();
    let wire = wire(&world, &line);
    assert_eq!((wire.len(), wire[0].as_str()), (2, "o"), "{wire:?}");
    assert_eq!(types(&world.take(&line)), ["welcome", "ack"]);
}

#[test]
fn first_message_drops_unopened_session() {
    let world = World::new(&Sim::new(1));
    let line = up(&world);
    let handler = world.send(&line, &hello());
    world.settle();
    handler.take().unwrap().unwrap();
    assert_eq!(wire(&world, &line), [SHUTDOWN]);
    assert!(!world.sockets().is_open(&line.id));
}

#[test]
fn frame_messages_are_handled_in_order() {
    let world = world(1);
    let line = open(&world);
    let messages: Vec<String> = (0..5)
        .map(|number| {
            let kind = ["hello", "ping"][number % 2];
            json!({"type": kind, "id": number.to_string()}).to_string()
        })
        .collect();
    receive(&world, &line, &json!(messages).to_string());
    assert_eq!(wire(&world, &line).len(), 5);
    let replies = world.take(&line);
    let acks: Vec<&str> = of_type(&replies, "ack")
        .iter()
        .map(|it| it["id"].as_str().unwrap())
        .collect();
    assert_eq!(acks, ["0", "1", "2", "3", "4"]);
    // A single value is also a message. `null` and empty frames are none. A value that is not a string stands for its
    // JSON text.
    receive(&world, &line, &json!(messages[1]).to_string());
    receive(&world, &line, r#"[{"type": "ping"}]"#);
    for nothing in ["", "[]", "[1, null]"] {
        receive(&world, &line, nothing);
    }
    assert_eq!(types(&world.take(&line)), ["ack", "ack"]);
}

#[test]
fn broken_frame_ends_connection() {
    let world = world(1);
    let line = open(&world);
    receive(&world, &line, r#"["{}"#);
    assert_eq!(wire(&world, &line), [r#"c[3000,"Broken framing."]"#]);
    assert!(!world.sockets().is_open(&line.id));
    assert!(!is_registered(&world, &line));
    // The close and a message crossed on the wire.
    let handler = world.send(&line, &json!({"type": "ping"}));
    world.settle();
    handler.take().unwrap().unwrap();
    assert_eq!(types(&world.take(&line)), [] as [&str; 0]);
}

#[test]
fn parked_pushes_share_one_frame() {
    let world = world(1);
    let bob = world.connect("bob");
    let line = registered(&world);
    for text in ["1", "2", "3"] {
        world.ask_briefly(&bob, say(text));
    }
    world.sockets().open(&line.id);
    world.settle();
    assert_eq!(wire(&world, &line).len(), 2, "`o`, and one frame of three");
    assert_eq!(types(&world.take(&line)), ["direct-message"; 3]);
}

#[test]
fn failed_batch_becomes_one_resync() {
    for outcome in [Forced::Throttled, Forced::UnknownLost, Forced::TooLarge] {
        let world = world(3);
        let (bob, line) = (world.connect("bob"), open(&world));
        let before = world.calls("raise_gate");
        let mut handler = world.hold(&line, &hello());
        handler.until(|| world.calls("raise_gate") > before);
        for text in ["1", "2", "3"] {
            world.ask_briefly(&bob, say(text));
        }
        world.sockets().force(&line.id, Some(outcome));
        handler.finish().unwrap();
        assert_eq!(wire(&world, &line), [] as [&str; 0]);
        world.sockets().force(&line.id, None);
        world.settle();
        let told = world.take(&line);
        assert_eq!(types(&told), ["resync"], "{outcome:?}");
        assert_eq!(told[0]["last-sequence"], 3);
    }
}

#[test]
fn invalidated_token_closes_with_4401() {
    let world = world(1);
    let line = open(&world);
    let (service, token) = (world.service.clone(), line.identity.token.clone());
    assert!(world.run(async move { service.invalidate(&token).await.unwrap() }));
    let wire = wire(&world, &line);
    assert_eq!(wire.len(), 2, "{wire:?}");
    assert_eq!(wire[1], r#"c[4401,"token-invalidated"]"#);
    assert_eq!(types(&world.take(&line)), ["disconnect"]);
    assert!(!world.sockets().is_open(&line.id));
}
