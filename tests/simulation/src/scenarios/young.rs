//! Connections that end before they become active.

use core::time::Duration;

use service::ports::{Connections as _, Framing, Tokens as _};

use super::world;
use crate::world::{Line, World, incoming, subscriber};

const FRAMINGS: [Framing; 2] = [Framing::Raw, Framing::Sockjs];

/// A registered connection of Ada whose worker has begun to wait for it.
fn young(world: &World, framing: Framing) -> Line {
    let of = world.clone();
    let line = world.run(async move {
        let mut identity = of.identity(&subscriber("d", "ada")).await;
        identity.framing = framing;
        let line = Line {
            id: of.connection_id(),
            identity,
        };
        of.service.connect(&incoming(&line)).await.unwrap();
        line
    });
    world.sim.run_for(Duration::from_millis(300));
    line
}

/// Returns true if an entry, or a row under its token, is left of the connection.
fn is_known(world: &World, line: &Line) -> bool {
    let (service, line) = (world.service.clone(), line.clone());
    world.run(async move {
        let store = &service.store;
        let entries = store.connections(line.subscriber()).await.unwrap();
        let token = &line.identity.token;
        let under = store.has_token_connection(token, &line.id).await.unwrap();
        entries.contains_key(&line.id) || under
    })
}

fn invalidate(world: &World, line: &Line) {
    let (service, line) = (world.service.clone(), line.clone());
    world.run(async move {
        let token = &line.identity.token;
        assert!(service.invalidate(token).await.unwrap());
    });
}

#[test]
fn worker_stops_waiting_after_disconnect() {
    for framing in FRAMINGS {
        let world = world(1);
        let line = young(&world, framing);
        let (service, of) = (world.service.clone(), line.clone());
        world.run(async move {
            service
                .disconnect(&of.subscriber().connection(of.id.clone()))
                .await
                .unwrap()
        });
        let left = world.sim.clock().now();
        world.settle();
        let waited = left.until(world.sim.clock().now());
        assert!(waited < Duration::from_secs(5), "{framing:?}: {waited:?}");
        assert!(!is_known(&world, &line), "{framing:?}");
    }
}

/// The second drop finds what the first one left.
#[test]
fn dropped_connection_closes_on_activation() {
    for framing in FRAMINGS {
        for drops in [1, 2] {
            let world = world(2);
            let line = young(&world, framing);
            for _ in 0..drops {
                invalidate(&world, &line);
            }
            world.sim.run_for(Duration::from_secs(20));
            world.sockets().open(&line.id);
            world.settle();
            assert!(!world.sockets().is_open(&line.id), "{framing:?}, {drops}");
            assert!(!is_known(&world, &line), "{framing:?}, {drops}");
        }
    }
}

#[test]
fn dropped_inactive_connection_leaves_nothing() {
    for framing in FRAMINGS {
        let world = world(3);
        let line = young(&world, framing);
        invalidate(&world, &line);
        world.settle();
        assert!(!is_known(&world, &line), "{framing:?}");
    }
}

/// A client whose token is valid must not be told that it is invalid.
#[test]
fn back_end_drop_allows_reconnect() {
    let world = world(4);
    let line = young(&world, Framing::Raw);
    let (service, of) = (world.service.clone(), line.subscriber().clone());
    world.run(async move { service.disconnect_all(&of).await.unwrap() });
    world.sockets().open(&line.id);
    world.settle();
    assert!(!world.sockets().is_open(&line.id));
    let frames = world.take(&line);
    assert_eq!(frames[0]["code"], "shutdown");
    assert_eq!(frames[0]["reconnect"], true);
}
