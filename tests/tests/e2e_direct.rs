//! Direct messages: their receivers, and the notices to the sender.

#![allow(clippy::indexing_slicing, reason = "a failed test shows the line")]

use anyhow::{Result, ensure};
use serde_json::json;
use tests::Site;

#[tokio::test]
async fn direct_message_reaches_all_other_connections() -> Result<()> {
    let site = Site::new()?;
    let mut origin = site.connect("alice").await?;
    let mut other = site.connect("alice").await?;
    let mut receivers = [site.connect("bob").await?, site.connect("bob").await?];
    let stored = origin
        .request(json!({
            "type": "direct-message", "subscriber-id": "bob", "content": { "text": "hi" },
            "message-id": "m-1", "attributes": { "a": 1 },
        }))
        .await?;
    ensure!(
        stored["type"] == "delivery" && stored["status"] == "stored",
        "{}",
        stored.text
    );
    ensure!(
        stored["message-id"] == "m-1" && stored["sequence"] == 1,
        "{}",
        stored.text
    );
    ensure!(stored["subscriber-id"] == "bob", "{}", stored.text);
    ensure!(stored.json.get("duplicate").is_none(), "{}", stored.text);
    let seen = [(&mut other, "bob")];
    let [first, second] = &mut receivers;
    for (client, peer) in seen
        .into_iter()
        .chain([(first, "alice"), (second, "alice")])
    {
        let event = client.push_of("direct-message").await?;
        ensure!(
            event["subscriber-id"] == peer && event["from"] == "alice",
            "{}",
            event.text
        );
        ensure!(event["content"] == json!({ "text": "hi" }) && event["sequence"] == 1);
        ensure!(event["attributes"] == json!({ "a": 1 }), "{}", event.text);
        ensure!(
            event["message-id"] == "m-1" && event["kind"] == "message",
            "{}",
            event.text
        );
        ensure!(event["timestamp"] == stored["timestamp"], "{}", event.text);
    }
    let received = origin.push().await?;
    ensure!(received["type"] == "delivery" && received["status"] == "received");
    ensure!(received["message-id"] == "m-1" && received["subscriber-id"] == "bob");
    Ok(())
}

#[tokio::test]
async fn offline_messages_are_received_once() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    for text in ["one", "two", "three"] {
        alice.tell("bob", &json!(text)).await?;
    }
    let mut bob = site.connect("bob").await?;
    let conversations = bob.request(json!({ "type": "list-conversations" })).await?;
    let [conversation] = conversations.list("conversations")? else {
        anyhow::bail!("{}", conversations.text);
    };
    ensure!(conversation["subscriber-id"] == "alice", "{conversation}");
    ensure!(
        conversation["last-sequence"] == 3 && conversation["unread"] == 3,
        "{conversation}"
    );
    // Listing does not count as received. Alice's first push is caused by reading.
    for _ in 0..2 {
        let events = bob
            .whole_history(&json!({ "subscriber-id": "alice" }))
            .await?;
        let texts: Vec<_> = events.iter().map(|it| &it["content"]).collect();
        ensure!(texts == ["one", "two", "three"], "{events:?}");
        ensure!(
            events
                .iter()
                .all(|it| it["from"] == "alice" && it["kind"] == "message")
        );
    }
    let received = alice.push().await?;
    ensure!(received["type"] == "delivery" && received["status"] == "received");
    ensure!(
        received["sequence"] == 3 && received["subscriber-id"] == "bob",
        "{}",
        received.text
    );
    bob.tell("alice", &json!("thanks")).await?;
    let next = alice.push().await?;
    ensure!(
        next["type"] == "direct-message",
        "`received` was sent twice: {}",
        next.text
    );
    Ok(())
}

#[tokio::test]
async fn received_is_sent_once_per_message() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    for expected in 1..=10 {
        alice.tell("bob", &json!(expected)).await?;
        ensure!(bob.push().await?["content"] == expected);
        let received = alice.push().await?;
        ensure!(received["status"] == "received" && received["sequence"] == expected);
    }
    // Reading pushed messages again causes no second notice.
    bob.whole_history(&json!({ "subscriber-id": "alice" }))
        .await?;
    bob.tell("alice", &json!("done")).await?;
    let next = alice.push().await?;
    ensure!(next["type"] == "direct-message", "{}", next.text);
    Ok(())
}

#[tokio::test]
async fn both_sides_write_into_one_log() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    for round in 0..5 {
        ensure!(alice.tell("bob", &json!(round)).await?["sequence"] == 2 * round + 1);
        ensure!(bob.tell("alice", &json!(round)).await?["sequence"] == 2 * round + 2);
    }
    let seen_by_alice = alice
        .whole_history(&json!({ "subscriber-id": "bob" }))
        .await?;
    let seen_by_bob = bob
        .whole_history(&json!({ "subscriber-id": "alice" }))
        .await?;
    ensure!(seen_by_alice == seen_by_bob && seen_by_alice.len() == 10);
    Ok(())
}
