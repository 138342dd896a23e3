//! Acknowledged messages survive, and each gap is announced: with each fault by itself, with functions killed while they work,
//! and after a crash of the whole gateway.

#![allow(clippy::indexing_slicing, reason = "a failed test shows the line")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tests::{Client, DEADLINE, Gateway, Site, eventually, get, soak};
use tokio::sync::watch;

/// The number of functions that are killed while they work.
const KILLED: usize = 12;
/// The time after which a client retries.
const PATIENCE: Duration = Duration::from_secs(3);

#[tokio::test]
async fn killed_functions_lose_no_acknowledged_message() -> Result<()> {
    functions_killed_under_load(&[]).await
}

#[tokio::test]
async fn killed_concurrent_functions_lose_no_message() -> Result<()> {
    functions_killed_under_load(&["--concurrency", "16"]).await
}

async fn functions_killed_under_load(arguments: &[&str]) -> Result<()> {
    let gateway = Gateway::start(arguments)?;
    let site = Site::at(gateway.urls().clone());
    let mut reader = site.connect("reader").await?;
    let channel = reader.create().await?;
    let (stop, stopping) = watch::channel(false);
    let mut writers = Vec::new();
    for index in 0..4 {
        let mut writer = Writer {
            site: site.clone(),
            name: format!("writer-{index}"),
            channel: channel.clone(),
            client: site.connect(&format!("writer-{index}")).await?,
        };
        writer.client.join(&channel).await?;
        writers.push(tokio::spawn(writer.write(stopping.clone())));
    }
    // Kill functions while the writers send, then collect the acknowledged messages.
    kill_functions(
        gateway
            .urls()
            .lambda
            .as_deref()
            .context("the gateway has no Lambda URL")?,
    )
    .await?;
    stop.send(true)?;
    let mut stored = BTreeMap::new();
    for writer in writers {
        for (sequence, content) in writer.await?? {
            let repeated = stored.insert(sequence, content);
            ensure!(repeated.is_none(), "two messages at {sequence}");
        }
    }
    let destination = json!({ "channel-id": channel });
    let last = stored.keys().max().copied().context("nothing was stored")?;
    // The reader gets every acknowledged message, although lease holders may have died too.
    let mut position = 1;
    while position < last {
        for event in reader.follow(&destination, position).await? {
            position += 1;
            ensure!(event["sequence"] == position, "{event} at {position}");
        }
    }
    // The history contains exactly the acknowledged messages.
    let history = reader
        .whole_history(&json!({ "channel-id": channel }))
        .await?;
    let messages: BTreeMap<u64, &Value> = history
        .iter()
        .filter(|it| it["kind"] == "message")
        .filter_map(|it| Some((it["sequence"].as_u64()?, &it["content"])))
        .collect();
    ensure!(
        messages.len() == stored.len(),
        "{} of {}",
        messages.len(),
        stored.len()
    );
    for (sequence, content) in &stored {
        ensure!(
            messages.get(sequence) == Some(&content),
            "{sequence} is lost or changed"
        );
    }
    Ok(())
}

struct Writer {
    site: Site,
    name: String,
    channel: String,
    client: Client,
}

impl Writer {
    /// Writes until `stopping`. Returns the acknowledged content by sequence.
    async fn write(mut self, stopping: watch::Receiver<bool>) -> Result<BTreeMap<u64, Value>> {
        let mut stored = BTreeMap::new();
        let mut number = 0;
        while !*stopping.borrow() {
            number += 1;
            let content = json!({ "by": self.name, "number": number });
            let sequence = self.write_one(number, &content).await?;
            stored.insert(sequence, content);
        }
        Ok(stored)
    }

    /// Writes one message. A function that dies does not answer, so the client reconnects and retries.
    async fn write_one(&mut self, number: u64, content: &Value) -> Result<u64> {
        let message = json!({
            "type": "channel-message", "channel-id": self.channel, "content": content,
            "message-id": format!("m-{number}"),
        });
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            let asked = self.client.ask(message.clone());
            if let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, asked).await {
                if answer.ack["status"] == true {
                    return answer.honoured()?.number("sequence");
                }
                ensure!(answer.refused()? == "unavailable");
                continue;
            }
            // The functions `authorizer` and `connect` are killed too, so connecting may fail.
            if let Ok(client) = self.site.connect(&self.name).await {
                self.client = client;
            }
        }
        bail!("{} could not write in time", self.name)
    }
}

/// Kills working functions one after the other.
async fn kill_functions(lambda: &str) -> Result<()> {
    let url = format!("{lambda}/_local/functions");
    for _ in 0..KILLED {
        let pid = eventually("a function is busy", || async {
            let instances = get(&url).await?;
            let instances = instances.as_array().context("no list of functions")?;
            let busy = instances.iter().find(|it| it["busy"] == true);
            Ok(busy.and_then(|it| it["pid"].as_u64()))
        })
        .await?;
        // The process may have ended by itself meanwhile.
        Command::new("kill")
            .args(["-9", &pid.to_string()])
            .stderr(Stdio::null())
            .status()?;
        eventually("the killed process is gone", || async {
            let instances = get(&url).await?;
            let instances = instances.as_array().context("no list of functions")?;
            Ok(instances.iter().all(|it| it["pid"] != pid).then_some(()))
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn persisted_data_survives_gateway_crash() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let arguments = [OsStr::new("--data"), folder.path().as_os_str()];
    let gateway = Gateway::start(&arguments)?;
    let mut site = Site::at(gateway.urls().clone());
    let token = site.token("alice").await?;
    let mut alice = site.connect_with(&token).await?;
    let channel = alice.create().await?;
    let writing = {
        let channel = channel.clone();
        tokio::spawn(async move {
            let mut stored = Vec::new();
            // Writes until the connection ends.
            while let Ok(delivery) = alice.say(&channel, &json!(stored.len())).await {
                stored.push(delivery.text_of("message-id")?);
            }
            anyhow::Ok(stored)
        })
    };
    let mut witness = site.connect("alice").await?;
    // The witness may get the last message before its writer gets the `delivery`. Each earlier message was acknowledged
    // before the writer sent the next one.
    for _ in 0..21 {
        witness.push_of("channel-message").await?;
    }
    gateway.kill()?;
    let stored = writing.await??;

    let gateway = Gateway::start(&arguments)?;
    site.urls = gateway.urls().clone();
    let mut alice = site.connect_with(&token).await?;
    let history = alice
        .whole_history(&json!({ "channel-id": channel }))
        .await?;
    let kept: Vec<_> = history
        .iter()
        .filter_map(|it| it["message-id"].as_str())
        .collect();
    ensure!(stored.len() >= 20);
    for id in &stored {
        ensure!(kept.contains(&id.as_str()), "{id} is lost");
    }
    // The log continues after the last event.
    let next = alice.say(&channel, &json!("next")).await?;
    ensure!(
        next.number("sequence")? == u64::try_from(history.len())? + 1,
        "{}",
        next.text
    );
    Ok(())
}

/// Runs a small soak with these faults at rates far above real ones.
async fn invariants_hold_under(faults: &[&str]) -> Result<()> {
    let summary = soak::run(&soak::Options {
        messages: 120,
        subscribers: 4,
        channels: 2,
        seed: 7,
        faults: faults.iter().map(|it| (*it).to_owned()).collect(),
        limit: Duration::from_secs(40),
        progress: None,
    })
    .await?;
    summary.verdict()?;
    for fault in faults {
        let name = fault.split('=').next().unwrap_or_default();
        ensure!(
            summary.struck(name) > 0,
            "{fault} was never injected\n{summary}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn invariants_hold_while_instances_die() -> Result<()> {
    invariants_hold_under(&["kill-instance=0.03"]).await
}

#[tokio::test]
async fn invariants_hold_with_slow_dynamodb() -> Result<()> {
    invariants_hold_under(&["delay-dynamodb=0.2"]).await
}

#[tokio::test]
async fn invariants_hold_with_failing_dynamodb() -> Result<()> {
    invariants_hold_under(&["fail-dynamodb=0.03", "conflict-dynamodb=0.03"]).await
}

#[tokio::test]
async fn invariants_hold_with_lost_dynamodb_replies() -> Result<()> {
    invariants_hold_under(&["lose-dynamodb-reply=0.03"]).await
}

#[tokio::test]
async fn invariants_hold_without_disconnect_events() -> Result<()> {
    invariants_hold_under(&["drop-disconnect=1"]).await
}

#[tokio::test]
async fn invariants_hold_with_throttled_posts() -> Result<()> {
    invariants_hold_under(&["throttle-post=0.1"]).await
}

#[tokio::test]
async fn invariants_hold_with_hanging_posts() -> Result<()> {
    invariants_hold_under(&["hang-post=0.01"]).await
}

#[tokio::test]
async fn invariants_hold_with_lost_post_replies() -> Result<()> {
    invariants_hold_under(&["lose-post-reply=0.05"]).await
}

#[tokio::test]
async fn invariants_hold_with_late_activation() -> Result<()> {
    invariants_hold_under(&["delay-upgrade=1"]).await
}
