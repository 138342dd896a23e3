//! `local-gateway`: see `--help`.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use local_gateway::cli::Options;
use local_gateway::gateway::Gateway;
use local_gateway::{ready, signals};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .compact()
        .init();

    let mut stop = std::pin::pin!(signals::stop());
    let started = tokio::select! {
        started = Gateway::start(&options) => started,
        () = &mut stop => return ExitCode::from(signals::EXIT_CODE),
    };
    let gateway = match started {
        Ok(gateway) => gateway,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let _ = std::io::stdout().write_all(ready::text(gateway.urls()).as_bytes());
    stop.await;
    // A second signal ends the process at once.
    tokio::select! {
        () = gateway.shut_down() => ExitCode::SUCCESS,
        () = signals::stop() => ExitCode::from(signals::EXIT_CODE),
    }
}
