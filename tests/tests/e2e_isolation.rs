//! Isolation: domains do not see each other, and non-members do not see a channel.

#![allow(clippy::indexing_slicing, reason = "a failed test shows the line")]

use anyhow::{Result, ensure};
use serde_json::json;
use tests::Site;

#[tokio::test]
async fn domains_with_equal_ids_stay_separate() -> Result<()> {
    let here = Site::new()?;
    let there = here.neighbour();
    let mut sides = Vec::new();
    for (site, word) in [(&here, "here"), (&there, "there")] {
        let mut alice = site.connect("alice").await?;
        let bob = site.connect("bob").await?;
        let create = json!({
            "type": "create-channel", "name": word, "channel-id": "general", "invite-token": "s3cret",
        });
        ensure!(alice.request(create).await?["name"] == word);
        sides.push((word, alice, bob));
    }
    // Do the same with the same ids in both domains.
    for (word, alice, bob) in &mut sides {
        ensure!(bob.join("general").await? == 2);
        let told = alice.push().await?;
        ensure!(
            told["type"] == "subscriber-joined" && told["sequence"] == 2,
            "{}",
            told.text
        );
        let message = json!({
            "type": "channel-message", "channel-id": "general", "content": word, "message-id": "m",
        });
        let stored = alice.request(message).await?;
        ensure!(stored["sequence"] == 3 && stored.json.get("duplicate").is_none());
        let message = json!({
            "type": "direct-message", "subscriber-id": "alice", "content": word, "message-id": "m",
        });
        let stored = bob.request(message).await?;
        ensure!(stored["sequence"] == 1 && stored.json.get("duplicate").is_none());
        let announce = json!({ "type": "announce", "availability": "busy", "status": word });
        bob.request(announce).await?;
    }
    // Each domain sees only its own content, and no further pushes.
    for (word, alice, bob) in &mut sides {
        ensure!(alice.push_of("direct-message").await?["content"] == **word);
        ensure!(alice.push_of("presence").await?["subscriber"]["status"] == **word);
        ensure!(bob.push_of("channel-message").await?["content"] == **word);
        let history = alice
            .whole_history(&json!({ "channel-id": "general" }))
            .await?;
        ensure!(
            history.len() == 3 && history[2]["content"] == **word,
            "{history:?}"
        );
        let history = bob
            .whole_history(&json!({ "subscriber-id": "alice" }))
            .await?;
        ensure!(
            history.len() == 1 && history[0]["content"] == **word,
            "{history:?}"
        );
        let channels = alice.request(json!({ "type": "list-channels" })).await?;
        ensure!(channels.list("channels")?.len() == 1, "{}", channels.text);
        ensure!(
            channels["channels"][0]["name"] == **word,
            "{}",
            channels.text
        );
        let left = [alice.kept(), bob.kept()].concat();
        ensure!(left.iter().all(|it| it["type"] == "delivery"), "{left:?}");
    }
    Ok(())
}

#[tokio::test]
async fn non_member_gets_no_channel_events() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let mut eve = site.connect("eve").await?;
    let channel = alice.create().await?;
    bob.join(&channel).await?;
    alice
        .request(json!({ "type": "announce", "availability": "available" }))
        .await?;
    bob.push_of("presence").await?;
    for number in 0..10 {
        alice.say(&channel, &json!(number)).await?;
        bob.push_of("channel-message").await?;
    }
    bob.leave(&channel).await?;
    alice.push_of("subscriber-left").await?;
    alice.tell("eve", &json!("first")).await?;
    let first = eve.push().await?;
    ensure!(first["type"] == "direct-message", "{}", first.text);
    Ok(())
}
