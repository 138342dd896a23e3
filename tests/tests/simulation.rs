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

#[path = "simulation/world.rs"]
mod world;

#[path = "simulation/scenarios/mod.rs"]
mod scenarios;
