//! One flow per test, held at one await.

mod answers;
mod append;
mod connections;
mod doorbells;
mod gates;
mod leases;
mod membership;
mod removal;
mod resume;
mod sockjs;
mod young;

use testkit::sim::Sim;

use super::world::{Line, World, incoming};

/// A world of this seed with running workers and without random faults.
fn world(seed: u64) -> World {
    let world = World::new(&Sim::new(seed));
    world.work(0, 0);
    world
}

/// Another device of the same subscriber that is registered but not yet active.
fn coming_up(world: &World, other: &Line) -> Line {
    let line = Line {
        id: world.connection_id(),
        ..other.clone()
    };
    let (service, incoming) = (world.service.clone(), incoming(&line));
    world.run(async move { service.connect(&incoming).await.unwrap() });
    line
}
