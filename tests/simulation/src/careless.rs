//! A database that forgets one condition: the simulation has to notice each.

use testkit::{memory::Condition, sim::Sim};

use crate::run::run;

/// Within so many seeds at the latest.
const SEEDS: u64 = 60;

fn is_noticed(condition: Condition, seeds: impl Iterator<Item = u64>) {
    let noticed = seeds.take(usize::try_from(SEEDS).unwrap()).find(|seed| {
        run(&Sim::new(*seed), |world| {
            world.service.store.ignore(condition);
        })
        .is_err()
    });
    assert!(noticed.is_some(), "nobody noticed {condition:?} forgotten");
}

/// Seeds where nothing else goes wrong.
fn calm() -> impl Iterator<Item = u64> {
    (0..SEEDS * 6).step_by(6)
}

/// Seeds where the database is slow.
fn slow() -> impl Iterator<Item = u64> {
    (10..SEEDS * 12).step_by(12)
}

#[test]
fn two_markers_of_one_message_are_noticed() {
    is_noticed(Condition::Marker, calm());
}

#[test]
fn an_entry_over_another_is_noticed() {
    is_noticed(Condition::Entry, slow());
}

#[test]
fn two_that_push_one_log_are_noticed() {
    is_noticed(Condition::Lease, calm());
}

#[test]
fn two_changes_of_one_roster_are_noticed() {
    is_noticed(Condition::Roster, calm());
}

#[test]
fn what_was_not_parked_is_noticed() {
    is_noticed(Condition::Parked, calm());
}

#[test]
fn a_gate_that_is_lowered_over_what_waits_is_noticed() {
    is_noticed(Condition::Gate, calm());
}
