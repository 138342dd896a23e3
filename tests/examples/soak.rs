//! A soak under faults, on a local gateway of its own with the real functions: shows how far it is, ends with a table, and
//! fails if anything was lost, stored twice, out of order or missing without a word.
//!
//! `cargo run --profile local -p tests --example soak -- --messages 100000 --seed 1`

#![allow(clippy::print_stdout, reason = "a tool that shows what it found")]

use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use tests::soak::{self, Options, USUAL_FAULTS};

/// Devices write, lose their connections and resume while everything goes wrong now and then.
#[derive(Debug, Parser)]
struct Arguments {
    /// Messages in all
    #[arg(long, default_value_t = 100_000)]
    messages: u64,
    /// Subscribers; every second one has two devices
    #[arg(long, default_value_t = 16)]
    subscribers: usize,
    /// Channels; each subscriber is in two
    #[arg(long, default_value_t = 12)]
    channels: usize,
    /// The seed of the faults and of what the devices do
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// After so many minutes no more is sent; what was is held against the history all the same
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// A fault such as hang-post=0.01, instead of the usual ones. Can be repeated; `none` is none
    #[arg(long = "fault", value_name = "KIND=RATE")]
    faults: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut faults = arguments.faults;
    if faults.is_empty() {
        faults = USUAL_FAULTS.map(str::to_owned).into();
    }
    faults.retain(|it| it != "none");
    println!(
        "{} messages of {} subscribers in {} channels, seed {}, faults: {}",
        arguments.messages,
        arguments.subscribers,
        arguments.channels,
        arguments.seed,
        faults.join(" ")
    );
    let summary = soak::run(&Options {
        messages: arguments.messages,
        subscribers: arguments.subscribers,
        channels: arguments.channels,
        seed: arguments.seed,
        faults,
        limit: Duration::from_secs(arguments.minutes * 60),
        progress: Some(Duration::from_secs(10)),
    })
    .await?;
    println!("{summary}");
    summary.verdict()
}
