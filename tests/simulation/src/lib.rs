//! The service under races, retries, faults and crashes, over the ports in memory and in virtual time.
//!
//! The scenarios hold one flow at one await. The simulation lets a seed decide everything.
#![cfg(test)]
#![allow(clippy::as_conversions, reason = "a test may fail")]

mod acts;
mod check;
mod client;
mod mutations;
mod position;
mod run;
mod scale;
mod scenarios;
mod script;
mod seeds;
mod shared;
mod tally;
mod world;
