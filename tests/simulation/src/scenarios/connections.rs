//! Connections begin and end, tokens are invalidated, and others are told of presence.

use core::time::Duration;

use protocol::limits;
use serde_json::{Value, json};
use service::ports::{Connections as _, Job};
use testkit::memory::Failure;

use super::{coming_up, world};
use crate::world::{Line, World, incoming, of_type, types};

fn announce(availability: &str) -> Value {
    json!({"type": "announce", "availability": availability})
}

fn presences(frames: &[Value]) -> Vec<&str> {
    of_type(frames, "presence")
        .iter()
        .map(|it| it["subscriber"]["availability"].as_str().unwrap())
        .collect()
}

/// Two connections of Anna and one of Bob, in channel `c`.
fn three(world: &World) -> [Line; 3] {
    let (anna, bob, other) = (
        world.connect("anna"),
        world.connect("bob"),
        world.connect("anna"),
    );
    world.channel_of("c", &[&anna, &bob]);
    world.take(&other);
    [anna, other, bob]
}

fn disconnect(world: &World, line: &Line) {
    world.sockets().close(&line.id);
    let (service, line) = (world.service.clone(), line.clone());
    world.run(async move {
        service
            .disconnect(&line.subscriber().connection(line.id.clone()))
            .await
            .unwrap()
    });
}

#[test]
fn presence_change_is_sent_once() {
    let world = world(1);
    let [anna, other, bob] = three(&world);
    let more = world.connect("bob");
    world.ask(&anna, announce("busy"));
    for line in [&bob, &more] {
        assert_eq!(presences(&world.take(line)), ["busy"]);
    }
    world.ask(&anna, announce("busy"));
    assert_eq!(world.take(&bob), [] as [Value; 0]);
    world.ask(&other, announce("dnd"));
    assert_eq!(presences(&world.take(&bob)), ["dnd"]);
    // The connection that announced last is gone, so the other one's announcement applies again.
    disconnect(&world, &other);
    world.settle();
    assert_eq!(presences(&world.take(&bob)), ["busy"]);
}

#[test]
fn offline_and_invisible_look_alike() {
    let shown = |hide: &dyn Fn(&World, &Line)| {
        let world = world(2);
        let [anna, other, bob] = three(&world);
        disconnect(&world, &other);
        world.ask(&anna, json!({"type": "announce", "availability": "dnd", "status": "s", "attributes": {"a": 1}}));
        world.take(&bob);
        hide(&world, &anna);
        world.settle();
        let told = world.take(&bob);
        let listed = world.ask(&bob, json!({"type": "list-subscribers", "channel-id": "c"}));
        (told, listed)
    };
    let offline = shown(&|world, anna| disconnect(world, anna));
    let invisible = shown(&|world, anna| {
        world.ask(anna, announce("invisible"));
    });
    let unannounced = shown(&|world, anna| {
        world.ask(anna, json!({"type": "unannounce"}));
    });
    assert_eq!(presences(&offline.0), ["invisible"]);
    assert_eq!(offline, invisible);
    assert_eq!(offline, unannounced);
}

#[test]
fn reconnect_within_grace_is_silent() {
    let world = world(3);
    let [anna, _, bob] = three(&world);
    world.ask(&anna, announce("busy"));
    world.take(&bob);
    disconnect(&world, &anna);
    let again = world.line(anna.subscriber());
    let handler = world.send(&again, &announce("busy"));
    world.settle();
    handler.take().unwrap().unwrap();
    assert_eq!(world.take(&bob), [] as [Value; 0]);
}

#[test]
fn lost_forget_answer_keeps_presence_change() {
    let world = world(4);
    let [anna, _, bob] = three(&world);
    world.ask(&anna, announce("busy"));
    world.take(&bob);
    world
        .service
        .store
        .faults()
        .next("forget", Failure::UnknownApplied);
    world.sockets().close(&anna.id);
    let (service, line) = (world.service.clone(), anna.clone());
    let _ = world.run(async move {
        service
            .disconnect(&line.subscriber().connection(line.id.clone()))
            .await
    });
    world.settle();
    assert_eq!(presences(&world.take(&bob)), ["invisible"]);
}

#[test]
fn invalidation_disconnects_and_rejects_messages() {
    let world = world(5);
    let [anna, other, bob] = three(&world);
    let (service, token) = (world.service.clone(), anna.identity.token.clone());
    assert!(world.run(async move { service.invalidate(&token).await.unwrap() }));
    let last = world.take(&anna);
    assert_eq!(
        (types(&last), &last[0]["code"]),
        (vec!["disconnect"], &json!("token-invalidated"))
    );
    assert!(!world.sockets().is_open(&anna.id));
    assert!(world.sockets().is_open(&other.id), "it has another token");
    // The close and a message crossed on the wire.
    let handler = world.send(
        &anna,
        &json!({"type": "channel-message", "channel-id": "c", "content": 1}),
    );
    world.settle();
    handler.take().unwrap().unwrap();
    assert_eq!(world.take(&bob), [] as [Value; 0]);
    let (service, again) = (
        world.service.clone(),
        Line {
            id: world.connection_id(),
            ..anna
        },
    );
    assert!(world.run(async move { service.connect(&incoming(&again)).await.is_err() }));
}

/// In any order, the connection is refused or it is dropped.
#[test]
fn invalidation_racing_connect_leaves_nothing_open() {
    for seed in 0..300 {
        let world = world(seed);
        let anna = crate::world::subscriber("d", "anna");
        let identity = world.run({
            let (world, anna) = (world.clone(), anna.clone());
            async move { world.identity(&anna).await }
        });
        let connecting = world.sim.spawn({
            let (world, identity) = (world.clone(), identity.clone());
            async move { world.connect_with(identity).await }
        });
        let invalidating = world.sim.spawn({
            let (service, token) = (world.service.clone(), identity.token.clone());
            async move { service.invalidate(&token).await }
        });
        world.settle();
        assert!(invalidating.take().unwrap().unwrap());
        let left = world.run({
            let (service, anna) = (world.service.clone(), anna.clone());
            async move { service.store.connections(&anna).await.unwrap() }
        });
        assert!(left.is_empty(), "seed {seed}");
        if let Some(line) = connecting.take().unwrap() {
            assert!(!world.sockets().is_open(&line.id), "seed {seed}");
        }
    }
}

#[test]
fn retry_finishes_dead_invalidation() {
    for step in 0..60 {
        let world = world(6);
        let anna = world.connect("anna");
        let second = world.run({
            let (world, identity) = (world.clone(), anna.identity.clone());
            async move { world.connect_with(identity).await.unwrap() }
        });
        world.settle();
        let invalidate = || {
            let (service, token) = (world.service.clone(), anna.identity.token.clone());
            async move { service.invalidate(&token).await }
        };
        let mut dies = world.held(invalidate());
        for _ in 0..step {
            dies.step();
        }
        drop(dies);
        assert!(world.run(invalidate()).unwrap());
        world.settle();
        for line in [&anna, &second] {
            assert!(
                !world.sockets().is_open(&line.id),
                "died after {step} steps"
            );
        }
    }
}

#[test]
fn connection_over_limit_replaces_oldest() {
    let world = world(7);
    let lines: Vec<Line> = (0..=limits::CONNECTIONS_PER_SUBSCRIBER)
        .map(|_| {
            world.sim.clock().advance(Duration::from_secs(1));
            world.connect("anna")
        })
        .collect();
    let open: Vec<bool> = lines
        .iter()
        .map(|it| world.sockets().is_open(&it.id))
        .collect();
    assert_eq!(
        open.iter().filter(|it| **it).count(),
        limits::CONNECTIONS_PER_SUBSCRIBER
    );
    assert!(!open[0]);
    assert_eq!(world.take(&lines[0])[0]["code"], "connection-limit");
}

#[test]
fn never_activated_connection_is_forgotten() {
    let world = world(8);
    let anna = world.connect("anna");
    coming_up(&world, &anna);
    world.settle();
    let left = world.run({
        let (service, anna) = (world.service.clone(), anna.clone());
        async move { service.store.connections(anna.subscriber()).await.unwrap() }
    });
    assert_eq!(left.keys().collect::<Vec<_>>(), [&anna.id]);
}

#[test]
fn stale_disconnect_spares_other_connections() {
    let world = world(9);
    let [anna, other, bob] = three(&world);
    world.ask(&other, announce("busy"));
    world.take(&bob);
    disconnect(&world, &anna);
    disconnect(&world, &anna);
    world.settle();
    assert!(world.sockets().is_open(&other.id));
    assert_eq!(world.take(&bob), [] as [Value; 0]);
}

/// The worker that publishes a presence may die while others change it. In the end the latest presence is published.
#[test]
fn worker_publishes_presence_after_failure() {
    let world = World::new(&testkit::sim::Sim::new(10));
    world.work(0, 0);
    let [anna, _, bob] = three(&world);
    world
        .service
        .store
        .faults()
        .after("memberships", 0, Failure::Refused);
    world.ask(&anna, announce("busy"));
    world.settle();
    assert_eq!(presences(&world.take(&bob)), ["busy"]);
    assert!(
        world
            .jobs_done()
            .iter()
            .any(|it| matches!(it, Job::Presence { .. }))
    );
}
