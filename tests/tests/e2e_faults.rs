//! What was acknowledged survives, and nothing is missing without a word: each fault by itself, functions killed at work, and
//! the whole machine gone.

#![allow(clippy::indexing_slicing, reason = "a test fails where it stands")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tests::{Client, DEADLINE, Gateway, Site, eventually, get, soak};
use tokio::sync::watch;

/// Functions that are killed while they work.
const KILLED: usize = 12;
/// After this long a client asks again.
const PATIENCE: Duration = Duration::from_secs(3);

#[tokio::test]
async fn functions_killed_under_load_lose_nothing_that_was_acknowledged() -> Result<()> {
    functions_killed_under_load(&[]).await
}

#[tokio::test]
async fn functions_killed_with_many_invocations_at_once_lose_nothing_either() -> Result<()> {
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
    kill_functions(
        gateway
            .urls()
            .lambda
            .as_deref()
            .context("it has no Lambda")?,
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
    // Who drains may have died too; what was acknowledged is told all the same.
    let mut position = 1;
    while position < last {
        for event in reader.follow(&destination, position).await? {
            position += 1;
            ensure!(event["sequence"] == position, "{event} at {position}");
        }
    }
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
    /// Writes until it is told to stop: what was acknowledged, by its sequence.
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

    /// A function that dies answers nothing; the client connects and asks again, as it would after any silence.
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
            // The authorizer and connect are killed too.
            if let Ok(client) = self.site.connect(&self.name).await {
                self.client = client;
            }
        }
        bail!("{} cannot write", self.name)
    }
}

/// Kills functions while they work, one after the other.
async fn kill_functions(lambda: &str) -> Result<()> {
    let url = format!("{lambda}/_local/functions");
    for _ in 0..KILLED {
        let pid = eventually("a function works", || async {
            let instances = get(&url).await?;
            let instances = instances.as_array().context("no list of functions")?;
            let busy = instances.iter().find(|it| it["busy"] == true);
            Ok(busy.and_then(|it| it["pid"].as_u64()))
        })
        .await?;
        // It may have ended by itself meanwhile.
        Command::new("kill")
            .args(["-9", &pid.to_string()])
            .stderr(Stdio::null())
            .status()?;
        eventually("it is gone", || async {
            let instances = get(&url).await?;
            let instances = instances.as_array().context("no list of functions")?;
            Ok(instances.iter().all(|it| it["pid"] != pid).then_some(()))
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn kept_data_survives_the_gateway_s_sudden_end() -> Result<()> {
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
            // Until the connection ends under it.
            while let Ok(delivery) = alice.say(&channel, &json!(stored.len())).await {
                stored.push(delivery.text_of("message-id")?);
            }
            anyhow::Ok(stored)
        })
    };
    let mut witness = site.connect("alice").await?;
    // The last one may be told to the witness before its `delivery` is to its writer; those before it are not, as each is
    // written after the other's `delivery`.
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
    // It goes on from there.
    let next = alice.say(&channel, &json!("next")).await?;
    ensure!(
        next.number("sequence")? == u64::try_from(history.len())? + 1,
        "{}",
        next.text
    );
    Ok(())
}

/// Devices write, leave and come back while this fault strikes, more often than it ever would.
async fn everything_holds_under(faults: &[&str]) -> Result<()> {
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
        ensure!(summary.struck(name) > 0, "{fault} never struck\n{summary}");
    }
    Ok(())
}

#[tokio::test]
async fn everything_holds_while_instances_are_killed_mid_invocation() -> Result<()> {
    everything_holds_under(&["kill-instance=0.03"]).await
}

#[tokio::test]
async fn everything_holds_while_dynamodb_is_slow() -> Result<()> {
    everything_holds_under(&["delay-dynamodb=0.2"]).await
}

#[tokio::test]
async fn everything_holds_while_dynamodb_fails_and_conflicts() -> Result<()> {
    everything_holds_under(&["fail-dynamodb=0.03", "conflict-dynamodb=0.03"]).await
}

#[tokio::test]
async fn everything_holds_while_dynamodb_s_replies_are_lost() -> Result<()> {
    everything_holds_under(&["lose-dynamodb-reply=0.03"]).await
}

#[tokio::test]
async fn everything_holds_without_any_disconnect() -> Result<()> {
    everything_holds_under(&["drop-disconnect=1"]).await
}

#[tokio::test]
async fn everything_holds_while_posts_are_throttled() -> Result<()> {
    everything_holds_under(&["throttle-post=0.1"]).await
}

#[tokio::test]
async fn everything_holds_while_posts_hang() -> Result<()> {
    everything_holds_under(&["hang-post=0.01"]).await
}

#[tokio::test]
async fn everything_holds_while_nobody_knows_what_became_of_posts() -> Result<()> {
    everything_holds_under(&["lose-post-reply=0.05"]).await
}

#[tokio::test]
async fn everything_holds_while_connections_come_up_late_in_a_flood() -> Result<()> {
    everything_holds_under(&["delay-upgrade=1"]).await
}
