//! The minute's run: tokens and connections end in time, and what a killed function left unpushed is pushed.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails where it stands"
)]

#[path = "expire/memory.rs"]
mod memory;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::StatusCode;
use serde_json::{Value, json};
use tests::{Client, DEADLINE, Frame, Gateway, Refused, Site, eventually, get};

/// Messages that are under way when functions are killed.
const UNDER_WAY: usize = 20;
/// How often they are.
const ROUNDS: usize = 3;

#[tokio::test]
async fn a_token_s_connections_are_refused_after_its_end_and_dropped_by_the_next_run() -> Result<()>
{
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
    eventually("the token has expired", async || {
        Ok(match site.connect_with(&token).await {
            Ok(client) => {
                client.close().await?;
                // More at once than a subscriber may have would push out the first.
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
        let last = frames.last().context("it is not told why")?;
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
async fn what_killed_functions_left_unpushed_is_pushed_after_a_run() -> Result<()> {
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
        // The first may be a `resync`: what was under way when functions were killed may have left a lease of one who died.
        let begun = loop {
            if let Some(told) = told(&reader.push().await?) {
                break told;
            }
        };
        kill_functions(&site).await?;
        let stored = last_stored(&mut writer).await?.max(begun);
        let mut heard = begun;
        while heard < stored {
            // A lease of somebody who died holds for some seconds yet.
            site.expire().await?;
            heard = heard.max(heard_of(&mut reader).await?);
        }
    }
    Ok(())
}

/// Kills every instance that may be at work, without warning.
async fn kill_functions(site: &Site) -> Result<()> {
    let lambda = site.urls.lambda.as_deref().context("it has no Lambda")?;
    let instances = get(&format!("{lambda}/_local/functions")).await?;
    let pids: Vec<String> = instances
        .as_array()
        .context("it lists its instances")?
        .iter()
        .filter_map(|it| it.get("pid")?.as_u64().map(|pid| pid.to_string()))
        .collect();
    ensure!(!pids.is_empty(), "{instances}");
    // One that ended meanwhile is none to kill.
    Command::new("kill").arg("-KILL").args(pids).status()?;
    Ok(())
}

/// The last place that was acknowledged to the writer, once nothing more is.
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

/// Up to where the reader was told of the log, by event or by `resync`, once nothing more comes.
async fn heard_of(reader: &mut Client) -> Result<u64> {
    let mut heard = 0;
    while let Ok(push) = tokio::time::timeout(Duration::from_secs(1), reader.push()).await {
        heard = told(&push?).unwrap_or(0).max(heard);
    }
    Ok(heard)
}

/// Up to where a push tells of the log.
fn told(push: &Frame) -> Option<u64> {
    let told = ["sequence", "last-sequence"].map(|it| push.json.get(it).and_then(Value::as_u64));
    told.into_iter().flatten().max()
}
