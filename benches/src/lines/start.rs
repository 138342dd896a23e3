//! The time from a function's start to its first `next`, with all clients created.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::proc;
use crate::process::Process;
use crate::report::{Bound, Measured, quantile};
use crate::stack::binaries;

use super::Plan;

const WALL: &str = "ms";
const CPU: &str = "ms of CPU";
const MEMORY: &str = "MB";

pub(super) async fn start(plan: &Plan) -> Result<Measured> {
    let mut measured = Measured::new("start", "from the start to the first `next`");
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let bundle = match &plan.peers {
        Some(peers) => Some((peers, peers.bundle("start.js")?)),
        None => None,
    };
    for _ in 0..plan.rounds {
        let mut started = Vec::new();
        for _ in 0..5 {
            started.push(once(&listener, Command::new(binaries()?.join("message"))).await?);
        }
        add(&mut measured, "message", &started);
        if let Some((peers, bundle)) = &bundle {
            let started = [
                once(&listener, peers.node(bundle)).await?,
                once(&listener, peers.node(bundle)).await?,
            ];
            add(&mut measured, "node", &started);
        }
    }
    measured.ratio(("message", WALL), ("node", WALL), Bound::AtMost(0.05));
    measured.ratio(("message", CPU), ("node", CPU), Bound::AtMost(0.05));
    measured.ratio(("message", MEMORY), ("node", MEMORY), Bound::AtMost(0.25));
    Ok(measured)
}

struct Started {
    wall: f64,
    cpu: f64,
    memory: f64,
}

fn add(measured: &mut Measured, subject: &'static str, started: &[Started]) {
    let median =
        |of: fn(&Started) -> f64| quantile(&started.iter().map(of).collect::<Vec<_>>(), 0.5);
    measured.add(subject, WALL, median(|it| it.wall));
    measured.add(subject, CPU, median(|it| it.cpu));
    measured.add(subject, MEMORY, median(|it| it.memory));
}

/// Starts a function under a Runtime API that never returns an invocation.
async fn once(listener: &TcpListener, mut command: Command) -> Result<Started> {
    let address = listener.local_addr()?.to_string();
    let variables = [
        ("AWS_LAMBDA_RUNTIME_API", address.as_str()),
        ("AWS_LAMBDA_FUNCTION_NAME", "message"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "local"),
        ("AWS_SECRET_ACCESS_KEY", "local"),
        ("TOKENS_TABLE", "tokens"),
        ("SUBSCRIBERS_TABLE", "subscribers"),
        ("CHANNELS_TABLE", "channels"),
        ("EVENTS_TABLE", "events"),
        ("SESSIONS_TABLE", "sessions"),
        ("WORKER_FUNCTION", "worker"),
        // The endpoint uses TLS as on AWS, because loading root certificates is part of a start.
        (
            "CONNECTIONS_ENDPOINT",
            "https://example.execute-api.us-east-1.amazonaws.com/prod",
        ),
    ];
    let begun = Instant::now();
    let process = Process::start(command.envs(variables).stdout(Stdio::null()))?;
    let accepted = tokio::time::timeout(Duration::from_secs(20), listener.accept());
    let (mut stream, _) = accepted
        .await
        .context("the function did not start in time")??;
    let mut head = vec![0; 4096];
    let length = stream.read(&mut head).await?;
    let wall = begun.elapsed().as_secs_f64() * 1e3;
    let head = String::from_utf8_lossy(head.get(..length).unwrap_or_default()).into_owned();
    anyhow::ensure!(
        head.contains("/invocation/next"),
        "unexpected first request: {head}"
    );
    let started = Started {
        wall,
        cpu: proc::cpu_nanos(process.id()) / 1e6,
        memory: process.resident() / 1024.0,
    };
    drop(process);
    let _ = stream.shutdown().await;
    Ok(started)
}
