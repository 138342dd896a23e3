//! A database that forgets one condition: some seed has to catch each.

use testkit::{memory::Condition, sim::Sim};

use crate::run::{PROFILES, run};

/// Within so many seeds of each profile at the latest.
const SEEDS: u64 = 60;

/// Finds the seed that catches it, and says what did not hold there.
fn is_caught(condition: Condition, profile: u64) {
    let seeds = (0..SEEDS).map(|it| it * PROFILES + profile);
    let caught = seeds.into_iter().find_map(|seed| {
        let broken = run(&Sim::new(seed), |world| {
            world.service.store.ignore(condition);
        });
        broken.err().map(|what| (seed, what))
    });
    let Some((seed, what)) = caught else {
        panic!("no seed catches {condition:?} forgotten");
    };
    let what: String = what.chars().take(160).collect();
    println!("mutation | {condition:?} | seed {seed} | {what}");
}

/// Nothing else goes wrong.
const CALM: u64 = 0;
/// What may be done twice is done twice.
const TWICE: u64 = 4;
/// The store is slow now and then.
const SLOW: u64 = 5;

#[test]
fn two_markers_of_one_message_are_caught() {
    is_caught(Condition::Marker, CALM);
}

#[test]
fn an_entry_over_another_is_caught() {
    is_caught(Condition::Entry, SLOW);
}

#[test]
fn two_that_push_one_log_are_caught() {
    is_caught(Condition::Lease, CALM);
}

#[test]
fn a_lease_given_back_too_early_is_caught() {
    is_caught(Condition::Release, TWICE);
}

#[test]
fn two_changes_of_one_roster_are_caught() {
    is_caught(Condition::Roster, CALM);
}

#[test]
fn a_gate_that_does_not_stand_is_caught() {
    is_caught(Condition::Gate, CALM);
}

#[test]
fn what_was_not_parked_is_caught() {
    is_caught(Condition::Parked, CALM);
}

#[test]
fn a_gate_that_is_lowered_over_what_waits_is_caught() {
    is_caught(Condition::Lower, CALM);
}

#[test]
fn a_connection_under_a_token_that_ended_is_caught() {
    is_caught(Condition::Token, CALM);
}

#[test]
fn a_member_who_left_and_is_let_in_is_caught() {
    is_caught(Condition::Membership, CALM);
}
