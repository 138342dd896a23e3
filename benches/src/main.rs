//! Measures Messaging against floors and peers in the same run. See docs/performance.md.

#![allow(
    clippy::as_conversions,
    clippy::print_stdout,
    reason = "a tool that counts and prints; its numbers are small"
)]

mod floor;
mod lines;
mod load;
mod proc;
mod process;
mod report;
mod requests;
mod socket;
mod stack;
mod talk;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::floor::Floor;
use crate::lines::{Line, Plan};
use crate::load::Load;
use crate::stack::{Peers, binaries};

/// Measures Messaging on its local gateway against floors and peers, and prints each line with its ratios.
#[derive(Debug, Parser)]
struct Options {
    /// Measure only these lines instead of all
    #[arg(long, value_delimiter = ',')]
    only: Vec<Line>,

    /// Rounds of each subject, taken in turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,

    /// Connections that the line about memory opens
    #[arg(long, default_value_t = 10_000)]
    connections: usize,

    /// Leave out the peers from npm and PyPI
    #[arg(long)]
    no_peers: bool,

    /// Use the functions that are already built
    #[arg(long)]
    no_build: bool,

    /// File for the results as JSON
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/benches/result.json"
    )]
    json: PathBuf,

    #[command(subcommand)]
    command: Option<What>,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    Load(Load),
    /// Run a floor. Only the benchmarks themselves use this
    #[command(hide = true)]
    Floor {
        floor: Floor,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(What::Floor { floor }) = options.command {
        return floor.run().await;
    }
    // Dropping an unfinished run ends the processes that it started.
    tokio::select! {
        done = run(&options) => done,
        () = stop_signal() => anyhow::bail!("stopped"),
    }
}

async fn stop_signal() {
    let mut terminate = signal(SignalKind::terminate()).ok();
    let terminated = async {
        match &mut terminate {
            Some(terminate) => drop(terminate.recv().await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

async fn run(options: &Options) -> Result<()> {
    if !options.no_build {
        build()?;
    }
    match &options.command {
        Some(What::Load(load)) => load.run().await,
        _ => measure(options).await,
    }
}

async fn measure(options: &Options) -> Result<()> {
    let plan = Plan {
        rounds: options.rounds.into(),
        peers: if options.no_peers {
            None
        } else {
            Some(Peers::install()?)
        },
        connections: options.connections,
    };
    let lines = if options.only.is_empty() {
        Line::value_variants()
    } else {
        &options.only
    };
    println!("min, median and max of {} rounds", plan.rounds);
    let mut results = Vec::new();
    for line in lines {
        let measured = line
            .measure(&plan)
            .await
            .with_context(|| format!("{line:?}"))?;
        print!("{}", measured.text());
        results.push(measured.json());
        // Written after each line, so that a failing later line does not lose the results.
        if let Some(folder) = options.json.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&options.json, serde_json::to_vec_pretty(&results)?)?;
    }
    Ok(())
}

/// Builds the gateway and the functions in the profile of this executable.
fn build() -> Result<()> {
    let folder = binaries()?;
    let name = folder.file_name().and_then(|it| it.to_str());
    let profile = match name.context("the executable is not in a profile's folder")? {
        "debug" => "dev",
        other => other,
    };
    let status = Command::new(option_env!("CARGO").unwrap_or("cargo"))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args(["build", "--quiet", "--workspace", "--bins", "--locked"])
        .args(["--profile", profile])
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the functions do not build");
    Ok(())
}
