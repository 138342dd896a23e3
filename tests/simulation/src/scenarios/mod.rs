//! One flow each, held at one await.

mod append;
mod connections;
mod doorbells;
mod gates;
mod leases;
mod membership;
mod sockjs;
mod young;

use testkit::sim::Sim;

use super::world::World;

/// A world of this seed whose workers are at work and where nothing fails by chance.
fn world(seed: u64) -> World {
    let world = World::new(&Sim::new(seed));
    world.work(0, 0);
    world
}
