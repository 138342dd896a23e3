//! The published SockJS client, as it comes from its registry, against the edge: a row for each transport.
//!
//! `SOCKJS_MESSAGES` says how many messages each side sends, 100 without it; `--no-capture` shows what was measured.

#![allow(clippy::print_stdout, reason = "a test may say what it measured")]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tests::{DEADLINE, Site, post};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

#[tokio::test]
async fn over_websocket_everything_arrives_and_the_reason_of_a_close_does_too() -> Result<()> {
    over("websocket").await
}

#[tokio::test]
async fn over_xhr_streaming_it_does_as_well() -> Result<()> {
    over("xhr-streaming").await
}

#[tokio::test]
async fn over_eventsource_it_does_as_well() -> Result<()> {
    over("eventsource").await
}

#[tokio::test]
async fn over_xhr_polling_it_does_as_well() -> Result<()> {
    over("xhr-polling").await
}

/// Runs the client over one transport and does what it asks of the back end.
async fn over(transport: &str) -> Result<()> {
    let site = Site::new()?;
    let base = site.urls.sockjs.clone().context("no SockJS is served")?;
    let messages = std::env::var("SOCKJS_MESSAGES").unwrap_or_else(|_| "100".to_owned());
    let (alice, bob) = (site.token("alice").await?, site.token("bob").await?);
    let mut client = Command::new("node")
        .current_dir(folder())
        .args(["client.js", &base, transport, &messages, &alice, &bob])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("node does not start")?;
    let mut answers = client.stdin.take().context("it has an input")?;
    let output = client.stdout.take().context("it has an output")?;
    let mut lines = BufReader::new(output).lines();
    let mut measured = None;
    while let Some(line) = timely(lines.next_line()).await?? {
        let line: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        match line.get("ask").and_then(Value::as_str) {
            Some("disconnect") => {
                post(&site.about("alice", "disconnect"), &json!({})).await?;
            }
            Some("invalidate") => site.invalidate(&alice).await?,
            Some(other) => bail!("asked for {other}"),
            None => measured = Some(line),
        }
        // It may have ended already.
        let _ = answers.write_all(b"done\n").await;
    }
    let status = timely(client.wait()).await??;
    ensure!(status.success(), "the client ended with {status}");
    println!("{}", measured.context("nothing was measured")?);
    Ok(())
}

async fn timely<T>(it: impl Future<Output = T>) -> Result<T> {
    let ended = tokio::time::timeout(DEADLINE, it).await;
    ended.context("the client neither asks nor ends")
}

/// Where the client is; installed by `.config/install-clients` before the tests.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sockjs")
}
