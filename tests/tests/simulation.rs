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

#[path = "simulation/careless.rs"]
mod careless;
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

use testkit::sim::Sim;

/// Seeds of a run in CI; `SIMULATION_SEEDS` says how many else, `SEED` names a single one.
const SEEDS: u64 = 120;
/// The seeds are shared out among so many tests, which run side by side.
const PARTS: u64 = 4;

#[test]
fn whatever_happens_the_invariants_hold_first_part() {
    hold(0);
}

#[test]
fn whatever_happens_the_invariants_hold_second_part() {
    hold(1);
}

#[test]
fn whatever_happens_the_invariants_hold_third_part() {
    hold(2);
}

#[test]
fn whatever_happens_the_invariants_hold_fourth_part() {
    hold(3);
}

/// Runs a part of the seeds.
fn hold(part: u64) {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|it| it.parse::<u64>().unwrap())
    };
    let range = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    let mut broken = Vec::new();
    for seed in range.filter(|it| it % PARTS == part) {
        if let Err(what) = run::run(&Sim::new(seed), |_| ()) {
            broken.push(format!("SEED={seed} {what}"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
