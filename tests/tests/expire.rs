//! The expiry run: tokens and connections end in time, and the events of killed functions are delivered.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a failed test shows the line"
)]

#[path = "expire/memory.rs"]
mod memory;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::StatusCode;
use serde_json::{Value, json};
use tests::{Client, DEADLINE, Frame, Gateway, Refused, Site, eventually, get};

/// The number of messages that are under way when functions are killed.
const UNDER_WAY: usize = 20;
/// The number of times that functions are killed.
const ROUNDS: usize = 3;

#[tokio::test]
async fn expiry_run_closes_expired_connections() -> Result<()> {
    let gateway = Gateway::start::<&str>(&[])?;
    let site = Site::at(gateway.urls().clone());
    let token = site.short_token("alice", 10).await?;
    let mut speaking = site.connect_with(&token).await?;
    let mut silent = site.connect_with(&token).await?;
    let mut other = site.connect("alice").await?;
    for client in [&mut speaking, &mut silent, &mut other] {
        client.request(json!({ "type": "ping" })).await?;
    }
    site.expire().await?;
    let notice = silent.push_of("token-expiring").await?;
    ensure!(notice["token-expires-at"].is_string(), "{}", notice.text);
    eventually("the token expires", async || {
        Ok(match site.connect_with(&token).await {
            Ok(client) => {
                client.close().await?;
                // Too many connections at once would replace the first one.
                tokio::time::sleep(Duration::from_millis(500)).await;
                None
            }
            Err(error) => match error.downcast_ref::<Refused>() {
                Some(Refused(StatusCode::UNAUTHORIZED)) => Some(()),
                _ => return Err(error),
            },
        })
    })
    .await?;

    let message =
        json!({ "type": "direct-message", "id": "late", "subscriber-id": "alice", "content": 1 });
    speaking.send_text(&message.to_string()).await?;
    site.expire().await?;
    for client in [&mut speaking, &mut silent] {
        let (frames, _) = client.closed_within(DEADLINE).await?;
        let last = frames.last().context("no frame before the close")?;
        ensure!(
            last["type"] == "disconnect" && last["code"] == "token-expired",
            "{frames:?}"
        );
        ensure!(frames.iter().all(|it| it["type"] != "ack"), "{frames:?}");
    }
    other.request(json!({ "type": "ping" })).await?;
    ensure!(other.kept().is_empty());
    Ok(())
}

#[tokio::test]
async fn expiry_run_delivers_abandoned_events() -> Result<()> {
    let gateway = Gateway::start::<&str>(&[])?;
    let site = Site::at(gateway.urls().clone());
    let mut reader = site.connect("reader").await?;
    let channel = reader.create().await?;
    let mut writer = site.connect("writer").await?;
    writer.join(&channel).await?;
    for round in 0..ROUNDS {
        for n in 0..UNDER_WAY {
            let message = json!({
                "type": "channel-message", "id": format!("{round}-{n}"), "channel-id": channel, "content": n,
            });
            writer.send_text(&message.to_string()).await?;
        }
        // The first push may be a `resync`, because a function killed in the last round may have left its lease.
        let begun = loop {
            if let Some(sequence) = reported(&reader.push().await?) {
                break sequence;
            }
        };
        kill_functions(&site).await?;
        let stored = last_stored(&mut writer).await?.max(begun);
        let mut heard = begun;
        while heard < stored {
            // The lease of a dead function holds for some more seconds.
            site.expire().await?;
            heard = heard.max(heard_of(&mut reader).await?);
        }
    }
    Ok(())
}

/// Kills every function instance without warning.
async fn kill_functions(site: &Site) -> Result<()> {
    let lambda = site
        .urls
        .lambda
        .as_deref()
        .context("the deployment has no Lambda URL")?;
    let instances = get(&format!("{lambda}/_local/functions")).await?;
    let pids: Vec<String> = instances
        .as_array()
        .context("no list of functions")?
        .iter()
        .filter_map(|it| it.get("pid")?.as_u64().map(|pid| pid.to_string()))
        .collect();
    ensure!(!pids.is_empty(), "{instances}");
    // `kill` fails for a process that ended meanwhile, which is fine.
    Command::new("kill").arg("-KILL").args(pids).status()?;
    Ok(())
}

/// Returns the last sequence that was acknowledged to the writer. Waits until no more acknowledgements arrive.
async fn last_stored(writer: &mut Client) -> Result<u64> {
    let mut last = 0;
    while let Ok(frame) = tokio::time::timeout(Duration::from_secs(2), writer.frame()).await {
        let frame = frame?;
        if frame["type"] == "delivery" {
            last = frame.number("sequence")?.max(last);
        }
    }
    Ok(last)
}

/// Returns the last sequence that the reader got by event or `resync`. Waits until no more pushes arrive.
async fn heard_of(reader: &mut Client) -> Result<u64> {
    let mut heard = 0;
    while let Ok(push) = tokio::time::timeout(Duration::from_secs(1), reader.push()).await {
        heard = reported(&push?).unwrap_or(0).max(heard);
    }
    Ok(heard)
}

/// Returns the sequence up to which a push reports the log.
fn reported(push: &Frame) -> Option<u64> {
    let sequences =
        ["sequence", "last-sequence"].map(|it| push.json.get(it).and_then(Value::as_u64));
    sequences.into_iter().flatten().max()
}
