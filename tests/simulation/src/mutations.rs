//! A database that omits one condition. For each condition some seed must find a broken invariant.

use testkit::{memory::Condition, sim::Sim};

use crate::{profile::PROFILES, run::run};

/// The number of seeds of each profile that are tried.
const SEEDS: u64 = 60;

/// Finds the seed that catches the omission, and prints the invariant that broke.
fn is_caught(condition: Condition, profile: u64) {
    let seeds = (0..SEEDS).map(|it| it * PROFILES + profile);
    let caught = seeds.into_iter().find_map(|seed| {
        let broken = run(&Sim::new(seed), |world| {
            world.service.store.ignore(condition);
        });
        broken.err().map(|what| (seed, what))
    });
    let Some((seed, what)) = caught else {
        panic!("no seed catches that {condition:?} is omitted");
    };
    let what: String = what.chars().take(160).collect();
    println!("mutation | {condition:?} | seed {seed} | {what}");
}

/// No other fault occurs.
const CALM: u64 = 0;
/// Jobs are delivered twice.
const TWICE: u64 = 4;
/// The store is slow now and then.
const SLOW: u64 = 5;

#[test]
fn duplicate_idempotency_records_are_caught() {
    is_caught(Condition::IdempotencyRecord, CALM);
}

#[test]
fn overwritten_entry_is_caught() {
    is_caught(Condition::Entry, SLOW);
}

#[test]
fn two_lease_holders_are_caught() {
    is_caught(Condition::Lease, CALM);
}

#[test]
fn early_lease_release_is_caught() {
    is_caught(Condition::Release, TWICE);
}

#[test]
fn concurrent_roster_changes_are_caught() {
    is_caught(Condition::Roster, CALM);
}

#[test]
fn missing_gate_is_caught() {
    is_caught(Condition::Gate, CALM);
}

#[test]
fn lost_parked_push_is_caught() {
    is_caught(Condition::Parked, CALM);
}

#[test]
fn gate_lowered_over_parked_is_caught() {
    is_caught(Condition::Lower, CALM);
}

#[test]
fn registration_under_dead_token_is_caught() {
    is_caught(Condition::Token, CALM);
}

#[test]
fn former_member_access_is_caught() {
    is_caught(Condition::Membership, CALM);
}

#[test]
fn message_after_removal_is_caught() {
    is_caught(Condition::Removal, CALM);
}
