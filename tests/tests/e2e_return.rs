//! Resuming, read cursors, typing notices and reauthorization.

#![allow(clippy::indexing_slicing, reason = "a failed test shows the line")]

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{DEADLINE, Site};

#[tokio::test]
async fn resume_answers_all_destinations() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let first = alice.create().await?;
    let position = bob.join(&first).await?;
    let since = bob
        .request(json!({ "type": "hello" }))
        .await?
        .text_of("server-time")?;
    bob.close().await?;

    for number in 0..3 {
        alice.say(&first, &json!(number)).await?;
    }
    alice.tell("bob", &json!("direct")).await?;
    let mut bob = site.connect("bob").await?;
    let resumed = bob
        .request(json!({
            "type": "resume",
            "positions": [
                { "channel-id": first, "sequence": position },
                { "channel-id": "nowhere", "sequence": 0 },
            ],
            "since": since,
        }))
        .await?;
    let destinations = resumed.list("destinations")?;
    ensure!(destinations.len() == 3, "{}", resumed.text);
    let events = destinations[0]["events"].as_array().map_or(0, Vec::len);
    ensure!(
        events == 3 && destinations[0]["complete"] == true,
        "{}",
        resumed.text
    );
    ensure!(destinations[1]["error"]["code"] == "not-found");
    ensure!(destinations[2]["subscriber-id"] == "alice" && destinations[2]["last-sequence"] == 1);
    ensure!(destinations[2].get("events").is_none());
    Ok(())
}

#[tokio::test]
async fn resumed_messages_count_as_received() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    alice.tell("bob", &json!("hello")).await?;
    let mut bob = site.connect("bob").await?;
    let positions = json!([{ "subscriber-id": "alice", "sequence": 0 }]);
    bob.request(json!({ "type": "resume", "positions": positions }))
        .await?;
    let received = alice.push_of("delivery").await?;
    ensure!(
        received["status"] == "received" && received["sequence"] == 1,
        "{}",
        received.text
    );
    bob.request(json!({ "type": "resume", "positions": positions }))
        .await?;
    alice.request(json!({ "type": "ping" })).await?;
    ensure!(alice.kept().is_empty(), "`received` is sent once");
    Ok(())
}

#[tokio::test]
async fn oversized_resume_is_incomplete() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let channel = alice.create().await?;
    let long = Value::from("x".repeat(15 * 1024));
    for _ in 0..12 {
        alice.say(&channel, &long).await?;
    }
    let positions = json!([{ "channel-id": channel, "sequence": 0 }]);
    let resumed = alice
        .request(json!({ "type": "resume", "positions": positions }))
        .await?;
    ensure!(resumed.text.len() < 120 * 1024);
    let destination = &resumed.list("destinations")?[0];
    ensure!(destination["complete"] == false && destination["last-sequence"] == 13);
    let whole = alice
        .whole_history(&json!({ "channel-id": channel }))
        .await?;
    ensure!(whole.len() == 13);
    Ok(())
}

#[tokio::test]
async fn read_cursor_only_moves_forward() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let mut bobs_phone = site.connect("bob").await?;
    // Wait for both `received` notices before reading, so that none arrives later.
    for sequence in 1..=2 {
        alice.tell("bob", &json!(sequence)).await?;
        let received = alice.push_of("delivery").await?;
        ensure!(received["status"] == "received" && received["sequence"] == sequence);
    }
    let read = |sequence: u64, status: &str| json!({ "type": "delivery", "subscriber-id": "alice", "sequence": sequence, "status": status });
    bob.request(read(2, "read")).await?;
    let told = alice.push_of("delivery").await?;
    ensure!(
        told["status"] == "read" && told["subscriber-id"] == "bob" && told["sequence"] == 2,
        "{}",
        told.text
    );
    let own = bobs_phone.push_of("delivery").await?;
    ensure!(own["subscriber-id"] == "alice" && own["status"] == "read");
    // A lower sequence succeeds and changes nothing. `read` also moved `displayed`.
    bob.request(read(1, "read")).await?;
    bob.request(read(2, "displayed")).await?;
    ensure!(bob.refused(read(3, "read")).await? == "invalid-value");
    alice.request(json!({ "type": "ping" })).await?;
    ensure!(
        alice.kept().iter().all(|it| it["type"] != "delivery"),
        "no cursor moved"
    );
    let conversations = bob.request(json!({ "type": "list-conversations" })).await?;
    let conversation = &conversations.list("conversations")?[0];
    ensure!(conversation["read-sequence"] == 2 && conversation["unread"] == 0);
    Ok(())
}

#[tokio::test]
async fn unread_counts_from_read_cursor() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let channel = alice.create().await?;
    let joined = bob.join(&channel).await?;
    for number in 0..3 {
        alice.say(&channel, &json!(number)).await?;
    }
    let listed = bob.request(json!({ "type": "list-channels" })).await?;
    ensure!(
        listed.list("channels")?[0]["unread"] == 3,
        "{}",
        listed.text
    );
    let read = json!({
        "type": "delivery", "channel-id": channel, "sequence": joined + 2, "status": "read",
    });
    bob.request(read).await?;
    let listed = bob.request(json!({ "type": "list-channels" })).await?;
    let membership = &listed.list("channels")?[0];
    ensure!(membership["unread"] == 1 && membership["read-sequence"] == joined + 2);
    Ok(())
}

#[tokio::test]
async fn typing_reaches_only_others() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let channel = alice.create().await?;
    bob.join(&channel).await?;
    let typing = json!({ "type": "typing", "channel-id": channel, "active": true });
    alice.request(typing.clone()).await?;
    let told = bob.push_of("typing").await?;
    ensure!(told["channel-id"] == channel && told["subscriber-id"] == "alice");
    ensure!(told["active"] == true && told.json.get("sequence").is_none());
    alice
        .request(json!({ "type": "typing", "subscriber-id": "bob", "active": false }))
        .await?;
    let told = bob.push_of("typing").await?;
    ensure!(told["subscriber-id"] == "alice" && told.json.get("channel-id").is_none());
    let mut eve = site.connect("eve").await?;
    ensure!(eve.refused(typing).await? == "not-found");
    Ok(())
}

#[tokio::test]
async fn fresh_token_replaces_old_one() -> Result<()> {
    let site = Site::new()?;
    let old = site.token("alice").await?;
    let mut alice = site.connect_with(&old).await?;
    let authorize = |token: &str| json!({ "type": "authorize", "token": token });
    ensure!(alice.refused(authorize("nonsense")).await? == "token-invalid");
    let bobs = site.token("bob").await?;
    ensure!(alice.refused(authorize(&bobs)).await? == "token-mismatch");
    let neighbours = site.neighbour().token("alice").await?;
    ensure!(alice.refused(authorize(&neighbours)).await? == "token-mismatch");

    let fresh = site.token("alice").await?;
    let authorized = alice.request(authorize(&fresh)).await?;
    ensure!(authorized["type"] == "authorized" && authorized["token-expires-at"].is_string());
    site.invalidate(&old).await?;
    alice.request(json!({ "type": "ping" })).await?;
    ensure!(alice.refused(authorize(&old)).await? == "token-invalid");
    site.invalidate(&fresh).await?;
    let last = alice.push_of("disconnect").await?;
    ensure!(last["code"] == "token-invalidated");
    alice.closed_within(DEADLINE).await?;
    Ok(())
}
