//! How subscribers are seen: only as they announce, and offline exactly like invisible.

#![allow(clippy::indexing_slicing, reason = "a test fails where it stands")]

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{Client, Frame, Site, eventually, get};

#[tokio::test]
async fn an_announcement_is_told_to_who_shares_a_channel_or_a_conversation() -> Result<()> {
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
    // Who shares nothing with her has heard nothing.
    alice.tell("stranger", &json!("now")).await?;
    let first = stranger.push().await?;
    ensure!(first["type"] == "direct-message", "{}", first.text);
    Ok(())
}

#[tokio::test]
async fn a_reconnect_within_the_grace_is_told_to_nobody() -> Result<()> {
    let site = Site::new()?;
    let (mut alice, mut bob, _) = pair(&site).await?;
    announce(&mut alice, "available", "").await?;
    ensure!(bob.push_of("presence").await?["subscriber"]["availability"] == "available");
    // What takes long comes first; it announces nothing yet.
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
async fn losing_the_last_announced_connection_makes_invisible() -> Result<()> {
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
    // Still connected, not announced: not to be told from who is offline.
    let connected = as_member(&mut bob, &channel, "alice").await?;
    silent.request(json!({ "type": "ping" })).await?;
    silent.close().await?;
    let offline = as_member(&mut bob, &channel, "alice").await?;
    ensure!(connected == offline, "{connected} {offline}");
    Ok(())
}

#[tokio::test]
async fn the_latest_announcement_of_any_live_connection_holds() -> Result<()> {
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
    // Without the latest, the one before it holds again.
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
async fn who_announces_invisible_looks_offline_whatever_its_status() -> Result<()> {
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
async fn connecting_and_going_invisible_is_told_to_nobody() -> Result<()> {
    let site = Site::new()?;
    let (alice, mut bob, channel) = pair(&site).await?;
    alice.close().await?;
    for _ in 0..3 {
        let mut again = site.connect("alice").await?;
        announce(&mut again, "invisible", "secret").await?;
        again.request(json!({ "type": "unannounce" })).await?;
        again.close().await?;
    }
    // What is announced after that is told first.
    let mut carol = site.connect("carol").await?;
    carol.join(&channel).await?;
    announce(&mut carol, "available", "").await?;
    let first = bob.push_of("presence").await?;
    ensure!(first["subscriber"]["id"] == "carol", "{}", first.text);
    Ok(())
}

#[tokio::test]
async fn an_unchanged_announcement_is_not_told_again() -> Result<()> {
    let site = Site::new()?;
    let (mut alice, mut bob, _) = pair(&site).await?;
    announce(&mut alice, "available", "same").await?;
    // Told before the rest is written: what is told is what stands there by then.
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

/// Alice and Bob, who share a channel.
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
