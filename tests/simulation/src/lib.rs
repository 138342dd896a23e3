//! The service under races, retries, faults and crashes, over the ports in memory and in virtual time.
//!
//! The scenarios hold one flow at one await. The simulation lets a seed decide everything.
#![cfg(test)]
#![allow(clippy::as_conversions, reason = "a test may fail")]

mod acts;
mod catch_up;
mod check;
mod client;
mod line;
mod mutations;
mod position;
mod profile;
mod run;
mod scale;
mod scenarios;
mod script;
mod seeds;
mod shared;
mod tally;
mod world;
