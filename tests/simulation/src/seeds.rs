//! The simulation over many seeds.

use testkit::sim::Sim;

use crate::{run, tally::Tally};

/// Seeds of a run in the gate. `SIMULATION_SEEDS` sets another number, `SEED` selects a single one.
const SEEDS: u64 = 2_000;
/// The number of tests that share the seeds and run side by side.
const PARTS: u64 = 8;

/// One test for each part, so that they run side by side.
macro_rules! parts {
    ($($name:ident $part:literal)*) => {
        $(
            #[test]
            fn $name() {
                hold($part);
            }
        )*
    };
}

parts! {
    invariants_hold_1_of_8 0
    invariants_hold_2_of_8 1
    invariants_hold_3_of_8 2
    invariants_hold_4_of_8 3
    invariants_hold_5_of_8 4
    invariants_hold_6_of_8 5
    invariants_hold_7_of_8 6
    invariants_hold_8_of_8 7
}

/// Runs a part of the seeds.
fn hold(part: u64) {
    let range = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    let (mut broken, mut tally) = (Vec::new(), Tally::default());
    for seed in range.filter(|it| it / crate::profile::PROFILES % PARTS == part) {
        tally.add("seeds", 1);
        match run::run(&Sim::new(seed), |_| ()) {
            Ok(done) => tally.merge(&done),
            Err(what) => broken.push(format!(
                "SEED={seed} cargo nextest run -p simulation seeds:: --no-capture\n{what}"
            )),
        }
    }
    println!("simulation | {tally}");
    assert!(
        broken.is_empty(),
        "to repeat what follows:\n{}",
        broken.join("\n")
    );
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap())
}
