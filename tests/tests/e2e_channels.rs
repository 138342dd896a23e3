//! Channels: membership, rights, and the events that members get.

#![allow(clippy::indexing_slicing, reason = "a failed test shows the line")]

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{Client, Site, eventually};

#[tokio::test]
async fn creator_is_member_and_administrator() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let attributes = json!({ "topic": "work" });
    let invitation = alice
        .request(json!({
            "type": "create-channel", "name": "Team", "invite-token": "t", "attributes": attributes,
        }))
        .await?;
    ensure!(invitation["type"] == "invitation", "{}", invitation.text);
    ensure!(invitation["name"] == "Team" && invitation["invite-token"] == "t");
    ensure!(invitation["administrator"] == true && invitation["attributes"] == attributes);
    let channel = invitation.text_of("channel-id")?;
    let channels = alice.request(json!({ "type": "list-channels" })).await?;
    ensure!(channels.list("channels")?.len() == 1 && channels.json.get("next").is_none());
    let membership = &channels["channels"][0];
    ensure!(membership["channel-id"] == channel && membership["administrator"] == true);
    ensure!(
        membership["name"] == "Team" && membership["last-sequence"] == 1,
        "{membership}"
    );
    ensure!(membership["attributes"] == attributes, "{membership}");
    ensure!(members(&mut alice, &channel).await? == [("alice".to_owned(), true)]);
    let history = alice
        .whole_history(&json!({ "channel-id": channel }))
        .await?;
    ensure!(
        history[0]["kind"] == "subscriber-joined" && history.len() == 1,
        "{history:?}"
    );
    ensure!(history[0]["subscriber"]["id"] == "alice");
    ensure!(history[0]["subscriber"]["administrator"] == true);
    Ok(())
}

#[tokio::test]
async fn repeated_creation_conflicts_for_others() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let create = json!({ "type": "create-channel", "name": "Team", "channel-id": "mine" });
    let first = alice.request(create.clone()).await?;
    let second = alice.request(create.clone()).await?;
    ensure!(first["channel-id"] == second["channel-id"] && first["name"] == second["name"]);
    ensure!(bob.refused(create).await? == "conflict");
    let history = alice
        .whole_history(&json!({ "channel-id": "mine" }))
        .await?;
    ensure!(history.len() == 1, "{history:?}");
    Ok(())
}

#[tokio::test]
async fn joining_returns_members_and_notifies_others() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let channel = alice.create().await?;
    let joined = bob
        .request(json!({ "type": "join-channel", "channel-id": channel, "invite-token": "s3cret" }))
        .await?;
    ensure!(
        joined["type"] == "channel-joined" && joined["sequence"] == 2,
        "{}",
        joined.text
    );
    ensure!(
        joined["membership"]["channel-id"] == channel,
        "{}",
        joined.text
    );
    ensure!(
        joined["membership"]["administrator"] == false,
        "{}",
        joined.text
    );
    let ids: Vec<_> = joined
        .list("subscribers")?
        .iter()
        .map(|it| &it["id"])
        .collect();
    ensure!(ids == ["alice", "bob"], "{}", joined.text);
    let told = alice.push().await?;
    ensure!(told["type"] == "subscriber-joined" && told["channel-id"] == channel);
    ensure!(
        told["sequence"] == 2 && told["subscriber"]["id"] == "bob",
        "{}",
        told.text
    );
    ensure!(
        told["subscriber"]["administrator"] == false,
        "{}",
        told.text
    );
    // Joining again succeeds without an event.
    ensure!(bob.join(&channel).await? == 2);
    bob.say(&channel, &json!("hello")).await?;
    let told = alice.push().await?;
    ensure!(
        told["type"] == "channel-message" && told["sequence"] == 3,
        "{}",
        told.text
    );
    ensure!(
        told["from"] == "bob" && told["content"] == "hello",
        "{}",
        told.text
    );
    Ok(())
}

#[tokio::test]
async fn channel_is_hidden_without_invite_token() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let channel = alice.create().await?;
    let closed = alice
        .request(json!({ "type": "create-channel", "name": "Closed" }))
        .await?;
    let mut answers = Vec::new();
    for message in [
        json!({ "type": "join-channel", "channel-id": "unknown" }),
        json!({ "type": "join-channel", "channel-id": "unknown", "invite-token": "s3cret" }),
        json!({ "type": "join-channel", "channel-id": channel }),
        json!({ "type": "join-channel", "channel-id": channel, "invite-token": "wrong" }),
        json!({ "type": "join-channel", "channel-id": closed["channel-id"], "invite-token": "x" }),
        json!({ "type": "list-subscribers", "channel-id": channel }),
        json!({ "type": "get-history", "channel-id": channel }),
        json!({ "type": "channel-message", "channel-id": channel, "content": 1 }),
    ] {
        let answer = bob.ask(message).await?;
        answers.push(answer.ack["error"].clone());
        ensure!(answer.refused()? == "not-found");
    }
    ensure!(
        answers.iter().all(|it| *it == answers[0]),
        "the answers differ: {answers:?}"
    );
    // The answer to leaving does not reveal either if the channel exists.
    let unknown = bob.leave("unknown").await?;
    let known = bob.leave(&channel).await?;
    ensure!(unknown["type"] == "channel-left" && known["type"] == "channel-left");
    ensure!(alice.kept().is_empty());
    ensure!(members(&mut alice, &channel).await?.len() == 1);
    Ok(())
}

#[tokio::test]
async fn former_member_reads_nothing() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let channel = alice.create().await?;
    bob.join(&channel).await?;
    alice.say(&channel, &json!("before")).await?;
    bob.push_of("channel-message").await?;
    ensure!(bob.leave(&channel).await?["channel-id"] == channel);
    alice.push_of("subscriber-joined").await?;
    let left = alice.push_of("subscriber-left").await?;
    ensure!(
        left["subscriber-id"] == "bob" && left["reason"] == "left",
        "{}",
        left.text
    );
    ensure!(left["sequence"] == 4, "{}", left.text);
    alice.say(&channel, &json!("after")).await?;
    for message in [
        json!({ "type": "list-subscribers", "channel-id": channel }),
        json!({ "type": "get-history", "channel-id": channel }),
        json!({ "type": "channel-message", "channel-id": channel, "content": 1 }),
    ] {
        ensure!(bob.refused(message).await? == "not-found");
    }
    // The next push to Bob is not the channel's event, although that was stored first.
    alice.tell("bob", &json!("direct")).await?;
    let next = bob.push().await?;
    ensure!(next["type"] == "direct-message", "{}", next.text);
    // A member that joins again can read the events of the time between.
    bob.join(&channel).await?;
    ensure!(
        bob.whole_history(&json!({ "channel-id": channel }))
            .await?
            .len()
            == 6
    );
    Ok(())
}

#[tokio::test]
async fn longest_member_replaces_last_administrator() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    // The order of joining counts, not the order of names.
    let mut zoe = site.connect("zoe").await?;
    let mut bob = site.connect("bob").await?;
    let channel = alice.create().await?;
    zoe.join(&channel).await?;
    bob.join(&channel).await?;
    alice.leave(&channel).await?;
    for client in [&mut zoe, &mut bob] {
        let left = client.push_of("subscriber-left").await?;
        let changed = client.push_of("administrator-changed").await?;
        ensure!(left.number("sequence")? + 1 == changed.number("sequence")?);
        ensure!(changed["subscriber-id"] == "zoe" && changed["administrator"] == true);
    }
    let expected = [("bob".to_owned(), false), ("zoe".to_owned(), true)];
    ensure!(members(&mut bob, &channel).await? == expected);
    Ok(())
}

#[tokio::test]
async fn channel_ends_with_last_member() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let channel = alice.create().await?;
    bob.join(&channel).await?;
    alice.leave(&channel).await?;
    bob.leave(&channel).await?;
    let join = json!({ "type": "join-channel", "channel-id": channel, "invite-token": "s3cret" });
    ensure!(bob.refused(join.clone()).await? == "not-found");
    ensure!(alice.refused(join).await? == "not-found");
    let create = json!({ "type": "create-channel", "name": "Team", "channel-id": channel });
    ensure!(bob.refused(create).await? == "conflict");
    for client in [&mut alice, &mut bob] {
        let channels = client.request(json!({ "type": "list-channels" })).await?;
        ensure!(channels.list("channels")?.is_empty(), "{}", channels.text);
    }
    Ok(())
}

#[tokio::test]
async fn simultaneous_leaves_keep_an_administrator() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let channel = alice.create().await?;
    let mut members_in = Vec::new();
    for index in 0..6 {
        let mut client = site.connect(&format!("member-{index}")).await?;
        client.join(&channel).await?;
        members_in.push(client);
    }
    let mut stays = members_in
        .pop()
        .into_iter()
        .next()
        .ok_or(anyhow::anyhow!("no member"))?;
    members_in.push(alice);
    let leaving = members_in.into_iter().map(|mut client| {
        let channel = channel.clone();
        async move {
            // Under contention the service may answer `unavailable`.
            eventually("every member can leave", async || {
                let message = json!({ "type": "leave-channel", "channel-id": channel });
                Ok((client.ask(message).await?.ack["status"] == true).then_some(()))
            })
            .await
        }
    });
    futures::future::try_join_all(leaving).await?;
    let left = members(&mut stays, &channel).await?;
    ensure!(left == [("member-5".to_owned(), true)], "{left:?}");
    // The log agrees, event by event.
    let mut administrators = 0_i64;
    let mut present = 0_i64;
    for event in stays
        .whole_history(&json!({ "channel-id": channel }))
        .await?
    {
        match event["kind"].as_str() {
            Some("subscriber-joined") => {
                present += 1;
                administrators += i64::from(event["subscriber"]["administrator"] == true);
            }
            Some("subscriber-left") => present -= 1,
            Some("administrator-changed") => {
                ensure!(event["administrator"] == true, "{event}");
                administrators += 1;
            }
            Some("void") => {}
            other => anyhow::bail!("{other:?}"),
        }
    }
    ensure!(
        present == 1 && administrators >= 1,
        "{present} {administrators}"
    );
    Ok(())
}

#[tokio::test]
async fn lists_page_without_gaps_or_repeats() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut created = Vec::new();
    for _ in 0..7 {
        created.push(alice.create().await?);
    }
    created.sort();
    let list = json!({ "type": "list-channels", "limit": 3 });
    let mut listed = all_pages(&mut alice, list, "channels", "channel-id").await?;
    listed.sort();
    ensure!(listed == created, "{listed:?}");
    let mut expected = vec!["alice".to_owned()];
    for index in 0..4 {
        let name = format!("member-{index}");
        site.connect(&name).await?.join(&created[0]).await?;
        alice.tell(&name, &json!("hello")).await?;
        expected.push(name);
    }
    let list = json!({ "type": "list-subscribers", "channel-id": created[0], "limit": 2 });
    let mut listed = all_pages(&mut alice, list, "subscribers", "id").await?;
    listed.sort();
    ensure!(listed == expected, "{listed:?}");
    let list = json!({ "type": "list-conversations", "limit": 1 });
    let mut listed = all_pages(&mut alice, list, "conversations", "subscriber-id").await?;
    listed.sort();
    ensure!(listed == expected[1..], "{listed:?}");
    Ok(())
}

#[tokio::test]
async fn joining_under_load_misses_no_event() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let channel = alice.create().await?;
    let writer = {
        let channel = channel.clone();
        tokio::spawn(async move {
            for number in 0..40 {
                alice.say(&channel, &json!(number)).await?;
            }
            anyhow::Ok(())
        })
    };
    let joined = bob.join(&channel).await?;
    let before = bob.kept();
    ensure!(before.is_empty(), "pushed before the answer: {before:?}");
    // 40 messages and two joins.
    for expected in joined + 1..=42 {
        let event = bob.push().await?;
        ensure!(event["sequence"] == expected, "{expected}: {}", event.text);
    }
    writer.await??;
    ensure!(
        bob.whole_history(&json!({ "channel-id": channel }))
            .await?
            .len()
            == 42
    );
    Ok(())
}

/// Events from before the leave may still arrive, but none from after it.
#[tokio::test]
async fn leaving_under_load_stops_events() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let channel = alice.create().await?;
    bob.join(&channel).await?;
    let writer = {
        let channel = channel.clone();
        tokio::spawn(async move {
            for number in 0..40 {
                alice.say(&channel, &json!(number)).await?;
            }
            anyhow::Ok(alice)
        })
    };
    bob.push_of("channel-message").await?;
    bob.leave(&channel).await?;
    let mut alice = writer.await??;
    let history = alice
        .whole_history(&json!({ "channel-id": channel }))
        .await?;
    let left = history.iter().find(|it| it["kind"] == "subscriber-left");
    let left = left.and_then(|it| it["sequence"].as_u64());
    // The last push to Bob is not from the channel.
    alice.tell("bob", &json!("direct")).await?;
    let direct = bob.push_of("direct-message").await?;
    bob.request(json!({ "type": "ping" })).await?;
    for event in bob.kept() {
        ensure!(
            event["sequence"].as_u64() < left,
            "{} after he left at {left:?}",
            event.text
        );
    }
    ensure!(left.is_some() && direct["content"] == "direct");
    Ok(())
}

async fn members(client: &mut Client, channel: &str) -> Result<Vec<(String, bool)>> {
    let message = json!({ "type": "list-subscribers", "channel-id": channel });
    let answer = client.request(message).await?;
    let mut members: Vec<_> = answer
        .list("subscribers")?
        .iter()
        .map(|it| {
            let id = it["id"].as_str().unwrap_or_default().to_owned();
            (id, it["administrator"] == true)
        })
        .collect();
    members.sort();
    Ok(members)
}

async fn all_pages(
    client: &mut Client,
    mut list: Value,
    name: &str,
    id: &str,
) -> Result<Vec<String>> {
    let limit = list["limit"].as_u64();
    let mut ids = Vec::new();
    loop {
        let page = client.request(list.clone()).await?;
        let items = page.list(name)?;
        ensure!(u64::try_from(items.len()).ok() <= limit, "{}", page.text);
        ids.extend(
            items
                .iter()
                .map(|it| it[id].as_str().unwrap_or_default().to_owned()),
        );
        match page.json.get("next") {
            Some(next) => list["after"] = next.clone(),
            None => return Ok(ids),
        }
    }
}
