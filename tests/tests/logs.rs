//! Logs and metrics contain ids and numbers, but no tokens and no content.

#![allow(clippy::indexing_slicing, reason = "a failed test shows the line")]

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use tests::{Gateway, Site, eventually, send, text};

/// A word that all content of this test contains, and that occurs nowhere else.
const SECRET: &str = "kumquat";

#[tokio::test]
async fn tokens_and_content_are_never_logged() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let trouble = [
        "--verbose",
        "--fault",
        "fail-dynamodb=0.1",
        "--fault",
        "lose-post-reply=0.1",
        "--fault",
        "throttle-post=0.1",
    ];
    let gateway = Gateway::start_logging(&trouble, &log)?;
    let site = Site::at(gateway.urls().clone());
    let mut tokens = Vec::new();
    for subscriber in ["alice", "bob"] {
        let token = eventually("a token is issued", async || {
            Ok(site.token(subscriber).await.ok())
        })
        .await?;
        tokens.push(token);
    }
    let channel = json!({ "name": SECRET, "attributes": { SECRET: SECRET } }).to_string();
    let url = format!("{}/domains/{}/channels/c", site.urls.api, site.domain);
    send(Method::PUT, &url, &channel).await?;
    for token in &tokens {
        // Under faults a handshake may fail. Its log lines are checked too.
        let Ok(mut client) = site.connect_with(token).await else {
            continue;
        };
        for n in 0..15 {
            let said = json!({ "text": SECRET, "n": n });
            for message in [
                json!({ "type": "channel-message", "channel-id": "c", "content": said }),
                json!({ "type": "direct-message", "subscriber-id": "carol", "content": said }),
                json!({ "type": "announce", "availability": "busy", "status": SECRET }),
                json!({ "type": "join-channel", "channel-id": "c", "invite-token": SECRET }),
                json!({ "type": "authorize", "token": tokens[1] }),
                json!({ "type": SECRET, "content": SECRET }),
            ] {
                client.send_text(&message.to_string()).await?;
            }
        }
    }
    let logged = eventually("everything is logged", async || {
        let logged = std::fs::read_to_string(&log)?;
        let done = logged.contains("Messages{type=\"announce\"}") && logged.contains("ERROR");
        Ok(done.then_some(logged))
    })
    .await?;
    drop(gateway);
    let logged = format!("{logged}{}", std::fs::read_to_string(&log)?);
    ensure!(!logged.contains(SECRET), "content is logged");
    for token in &tokens {
        ensure!(!logged.contains(token.as_str()), "a token is logged");
    }
    // Each log line of a function is JSON and names its connection and domain.
    let lines = logged.lines().filter_map(|line| {
        let line = line.strip_prefix("[message] ")?;
        serde_json::from_str::<Value>(line).ok()
    });
    let of_events: Vec<_> = lines.filter(|line| line["level"] == "ERROR").collect();
    for line in &of_events {
        let spans = line["spans"].to_string();
        ensure!(spans.contains("\"connection\""), "{line}");
        ensure!(spans.contains(&site.domain), "{line}");
        ensure!(spans.contains("requestId"), "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn refused_handshake_logs_no_error() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let gateway = Gateway::start_logging(&["--verbose"], &log)?;
    let site = Site::at(gateway.urls().clone());
    ensure!(site.connect_with("unknown").await.is_err());
    let logged = eventually("the refusal is logged", async || {
        let logged = std::fs::read_to_string(&log)?;
        Ok(logged.contains("handshake refused").then_some(logged))
    })
    .await?;
    drop(gateway);
    let logged = format!("{logged}{}", std::fs::read_to_string(&log)?);
    let authorizer = logged
        .lines()
        .filter(|line| line.starts_with("[authorizer]"));
    for line in authorizer {
        ensure!(!line.contains("ERROR"), "{line}");
        ensure!(!line.contains("Diagnostic"), "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn metrics_are_exposed_for_prometheus() -> Result<()> {
    let gateway = Gateway::start::<&str>(&[])?;
    let site = Site::at(gateway.urls().clone());
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let channel = alice.create().await?;
    bob.join(&channel).await?;
    for n in 0..3 {
        alice.say(&channel, &json!(n)).await?;
        bob.push_of("channel-message").await?;
    }
    let edge = site
        .urls
        .edge
        .as_deref()
        .context("the gateway has no public port")?;
    let metrics = eventually("the metrics are complete", async || {
        let metrics = text(&format!("{edge}/metrics")).await?;
        let said = "messaging_messages_sum{type=\"channel-message\"} 3\n";
        Ok(metrics.contains(said).then_some(metrics))
    })
    .await?;
    let value = |name: &str| -> Result<f64> {
        let line = metrics.lines().find_map(|it| it.strip_prefix(name));
        Ok(line
            .with_context(|| format!("no {name} in {metrics}"))?
            .trim()
            .parse()?)
    };
    // Each message takes a delivery, an ack and a push. Joining adds more.
    ensure!(value("messaging_posts_delivered_sum")? >= 9.0, "{metrics}");
    ensure!(value("messaging_fanout_size_sum")? >= 3.0, "{metrics}");
    ensure!(
        value("messaging_drain_age_milliseconds_count")? >= 3.0,
        "{metrics}"
    );
    ensure!(
        value("messaging_gate_wait_milliseconds_count")? >= 2.0,
        "{metrics}"
    );
    ensure!(value("messaging_cold_starts_sum")? >= 4.0, "{metrics}");
    Ok(())
}
