//! Presence: others see only announcements, and offline looks exactly like invisible.

#![allow(clippy::indexing_slicing, reason = "a failed test shows the line")]

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{Client, Frame, Site, eventually, get};

#[tokio::test]
async fn announcement_reaches_members_and_peers() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut member = site.connect("member").await?;
    let mut peer = site.connect("peer").await?;
    let mut stranger = site.connect("stranger").await?;
    let channel = alice.create().await?;
    member.join(&channel).await?;
    alice.tell("peer", &json!("hello")).await?;
    let attributes = json!({ "mood": "fine" });
    alice
        .request(json!({
            "type": "announce", "availability": "dnd", "status": "writing", "attributes": attributes,
        }))
        .await?;
    let seen = json!({
        "id": "alice", "availability": "dnd", "status": "writing", "attributes": attributes,
    });
    let mut versions = Vec::new();
    for client in [&mut member, &mut peer] {
        let presence = client.push_of("presence").await?;
        ensure!(presence["subscriber"] == seen, "{}", presence.text);
        versions.push(presence.number("version")?);
    }
    let listed = as_member(&mut member, &channel, "alice").await?;
    ensure!(
        listed["availability"] == "dnd" && listed["status"] == "writing",
        "{listed}"
    );
    ensure!(listed["attributes"] == attributes, "{listed}");
    alice.request(json!({ "type": "unannounce" })).await?;
    for (client, version) in [&mut member, &mut peer].into_iter().zip(versions) {
        let presence = client.push_of("presence").await?;
        ensure!(
            presence["subscriber"] == invisible("alice"),
            "{}",
            presence.text
        );
        ensure!(presence.number("version")? > version, "{}", presence.text);
    }
    // A subscriber that shares nothing with Alice gets no presence.
    alice.tell("stranger", &json!("now")).await?;
    let first = stranger.push().await?;
    ensure!(first["type"] == "direct-message", "{}", first.text);
    Ok(())
}

#[tokio::test]
async fn quick_reconnect_publishes_no_presence() -> Result<()> {
    let site = Site::new()?;
    let (mut alice, mut bob, _) = pair(&site).await?;
    announce(&mut alice, "available", "").await?;
    ensure!(bob.push_of("presence").await?["subscriber"]["availability"] == "available");
    // Connect first, because it takes long. The connection does not announce yet.
    let mut again = site.connect("alice").await?;
    alice.close().await?;
    let about = site.about("alice", "");
    eventually("the announced connection is gone", async || {
        let shown = get(about.trim_end_matches('/')).await?;
        let connections = shown["connections"].as_array().map(Vec::len);
        Ok((connections == Some(1)).then_some(()))
    })
    .await?;
    announce(&mut again, "available", "").await?;
    announce(&mut again, "busy", "").await?;
    let next = bob.push_of("presence").await?;
    ensure!(
        next["subscriber"]["availability"] == "busy",
        "{}",
        next.text
    );
    Ok(())
}

#[tokio::test]
async fn losing_last_announcement_makes_invisible() -> Result<()> {
    let site = Site::new()?;
    let (mut alice, mut bob, channel) = pair(&site).await?;
    let mut silent = site.connect("alice").await?;
    announce(&mut alice, "available", "here").await?;
    bob.push_of("presence").await?;
    alice.close().await?;
    let presence = bob.push_of("presence").await?;
    ensure!(
        presence["subscriber"] == invisible("alice"),
        "{}",
        presence.text
    );
    // A subscriber that is connected without an announcement looks offline.
    let connected = as_member(&mut bob, &channel, "alice").await?;
    silent.request(json!({ "type": "ping" })).await?;
    silent.close().await?;
    let offline = as_member(&mut bob, &channel, "alice").await?;
    ensure!(connected == offline, "{connected} {offline}");
    Ok(())
}

#[tokio::test]
async fn latest_announcement_wins() -> Result<()> {
    let site = Site::new()?;
    let (mut first, mut bob, _) = pair(&site).await?;
    let mut second = site.connect("alice").await?;
    for (client, availability) in [
        (true, "available"),
        (false, "busy"),
        (true, "dnd"),
        (false, "available"),
    ] {
        let client = if client { &mut first } else { &mut second };
        announce(client, availability, "").await?;
        let presence = bob.push_of("presence").await?;
        ensure!(
            presence["subscriber"]["availability"] == availability,
            "{}",
            presence.text
        );
    }
    announce(&mut first, "dnd", "first").await?;
    bob.push_of("presence").await?;
    // Without the latest announcement the one before it applies again.
    first.request(json!({ "type": "unannounce" })).await?;
    let presence = bob.push_of("presence").await?;
    ensure!(
        presence["subscriber"]["availability"] == "available",
        "{}",
        presence.text
    );
    Ok(())
}

#[tokio::test]
async fn invisible_subscriber_looks_offline() -> Result<()> {
    let site = Site::new()?;
    let (mut alice, mut bob, channel) = pair(&site).await?;
    let offline = as_member(&mut bob, &channel, "alice").await?;
    announce(&mut alice, "available", "here").await?;
    bob.push_of("presence").await?;
    alice
        .request(json!({
            "type": "announce", "availability": "invisible", "status": "hidden",
            "attributes": { "secret": true },
        }))
        .await?;
    let presence = bob.push_of("presence").await?;
    ensure!(
        presence["subscriber"] == invisible("alice"),
        "{}",
        presence.text
    );
    let listed = as_member(&mut bob, &channel, "alice").await?;
    ensure!(listed == offline, "{listed} {offline}");
    Ok(())
}

#[tokio::test]
async fn invisible_announcement_publishes_nothing() -> Result<()> {
    let site = Site::new()?;
    let (alice, mut bob, channel) = pair(&site).await?;
    alice.close().await?;
    for _ in 0..3 {
        let mut again = site.connect("alice").await?;
        announce(&mut again, "invisible", "secret").await?;
        again.request(json!({ "type": "unannounce" })).await?;
        again.close().await?;
    }
    // A later announcement of Carol is the first presence that Bob gets.
    let mut carol = site.connect("carol").await?;
    carol.join(&channel).await?;
    announce(&mut carol, "available", "").await?;
    let first = bob.push_of("presence").await?;
    ensure!(first["subscriber"]["id"] == "carol", "{}", first.text);
    Ok(())
}

#[tokio::test]
async fn unchanged_announcement_is_not_republished() -> Result<()> {
    let site = Site::new()?;
    let (mut alice, mut bob, _) = pair(&site).await?;
    announce(&mut alice, "available", "same").await?;
    // Wait for this push before announcing again, because a push contains the latest stored announcement.
    let first = bob.push_of("presence").await?;
    ensure!(first["subscriber"]["status"] == "same", "{}", first.text);
    for _ in 0..3 {
        announce(&mut alice, "available", "same").await?;
    }
    announce(&mut alice, "available", "other").await?;
    let next = bob.push_of("presence").await?;
    ensure!(next["subscriber"]["status"] == "other", "{}", next.text);
    Ok(())
}

/// Connects Alice and Bob, and lets them share a channel.
async fn pair(site: &Site) -> Result<(Client, Client, String)> {
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let channel = alice.create().await?;
    bob.join(&channel).await?;
    Ok((alice, bob, channel))
}

async fn announce(client: &mut Client, availability: &str, status: &str) -> Result<Frame> {
    client
        .request(json!({ "type": "announce", "availability": availability, "status": status }))
        .await
}

async fn as_member(client: &mut Client, channel: &str, id: &str) -> Result<Value> {
    let message = json!({ "type": "list-subscribers", "channel-id": channel });
    let answer = client.request(message).await?;
    let found = answer
        .list("subscribers")?
        .iter()
        .find(|it| it["id"] == id)
        .cloned();
    found.ok_or_else(|| anyhow::anyhow!("{id} is no member: {}", answer.text))
}

fn invisible(id: &str) -> Value {
    json!({ "id": id, "availability": "invisible", "status": "", "attributes": {} })
}
