//! The service under races, retries, faults and crashes: over the ports in memory, in virtual time.
//!
//! The scenarios hold one flow at one await; the simulation lets a seed decide everything.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "a test may fail"
)]

#[path = "simulation/check.rs"]
mod check;
#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/run.rs"]
mod run;
#[path = "simulation/script.rs"]
mod script;
#[path = "simulation/world.rs"]
mod world;

#[path = "simulation/scenarios/mod.rs"]
mod scenarios;

use testkit::sim;

/// Seeds of a run in CI; `SIMULATION_SEEDS` says how many else, `SEED` names a single one.
const SEEDS: u64 = 300;

#[test]
fn whatever_happens_the_invariants_hold() {
    let seeds = std::env::var("SIMULATION_SEEDS").map_or(SEEDS, |it| it.parse().unwrap());
    sim::check(seeds, |sim| {
        if let Err(broken) = run::run(sim, |_| ()) {
            panic!("{broken}");
        }
    });
}
