//! Every limit from both sides: the limit itself is accepted, and one more is rejected.

#![allow(clippy::indexing_slicing, reason = "a failed test shows the line")]

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use tests::{Client, DEADLINE, Site, dynamodb};

#[tokio::test]
async fn content_is_at_most_16_kib() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let channel = alice.create().await?;
    for destination in [
        json!({ "channel-id": channel }),
        json!({ "subscriber-id": "bob" }),
    ] {
        let message = |content: Value| {
            let mut message = destination.clone();
            let kind = if message.get("channel-id").is_some() {
                "channel"
            } else {
                "direct"
            };
            message["type"] = format!("{kind}-message").into();
            message["content"] = content;
            message
        };
        both_sides(&mut alice, 16 * 1024, "too-large", |length| {
            message("x".repeat(length - 2).into())
        })
        .await?;
        // The limit counts bytes, not characters.
        let wide = "é".repeat(8 * 1024);
        ensure!(alice.refused(message(wide.into())).await? == "too-large");
    }
    Ok(())
}

#[tokio::test]
async fn attributes_are_at_most_4_kib() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let channel = alice.create().await?;
    for message in [
        json!({ "type": "announce", "availability": "busy" }),
        json!({ "type": "create-channel", "name": "Team" }),
        json!({ "type": "channel-message", "channel-id": channel, "content": 1 }),
        json!({ "type": "direct-message", "subscriber-id": "bob", "content": 1 }),
    ] {
        both_sides(&mut alice, 4 * 1024, "too-large", |length| {
            let mut message = message.clone();
            message["attributes"] = json!({ "a": "x".repeat(length - r#"{"a":""}"#.len()) });
            message
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn text_limits_count_characters() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    for filling in ["x", "é", "😀"] {
        both_sides(
            &mut alice,
            128,
            "invalid-value",
            |length| json!({ "type": "create-channel", "name": filling.repeat(length) }),
        )
        .await?;
        both_sides(&mut alice, 128, "invalid-value", |length| {
            let token = filling.repeat(length);
            json!({ "type": "create-channel", "name": "Team", "invite-token": token })
        })
        .await?;
        both_sides(&mut alice, 256, "invalid-value", |length| {
            let status = filling.repeat(length);
            json!({ "type": "announce", "availability": "busy", "status": status })
        })
        .await?;
    }
    for empty in [
        json!({ "type": "create-channel", "name": "" }),
        json!({ "type": "create-channel", "name": "Team", "invite-token": "" }),
        json!({ "type": "create-channel", "name": "Team", "channel-id": "" }),
    ] {
        ensure!(alice.refused(empty).await? == "invalid-value");
    }
    Ok(())
}

#[tokio::test]
async fn id_length_and_characters_are_limited() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    both_sides(&mut alice, 128, "invalid-value", |length| {
        json!({ "type": "create-channel", "name": "Team", "channel-id": "c".repeat(length) })
    })
    .await?;
    both_sides(&mut alice, 128, "invalid-value", |length| {
        json!({ "type": "direct-message", "subscriber-id": "s".repeat(length), "content": 1 })
    })
    .await?;
    both_sides(&mut alice, 128, "invalid-value", |length| {
        let id = "m".repeat(length);
        json!({ "type": "direct-message", "subscriber-id": "bob", "content": 1, "message-id": id })
    })
    .await?;
    let allowed = "ABCXYZabcxyz0189._~+@:-";
    let message = |id: &str| json!({ "type": "direct-message", "subscriber-id": id, "content": 1 });
    alice.request(message(allowed)).await?;
    for other in [
        "", "#", "a b", "é", "a/b", "a%20b", "a\u{0}b", "a,b", "a=b", "😀", "a\n",
    ] {
        ensure!(
            alice.refused(message(other)).await? == "invalid-value",
            "{other:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn page_limit_is_1_to_100() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    for number in 0..101 {
        alice.tell("bob", &json!(number)).await?;
    }
    let history = |limit: Option<Value>| {
        let mut message = json!({ "type": "get-history", "subscriber-id": "bob" });
        if let Some(limit) = limit {
            message["limit"] = limit;
        }
        message
    };
    for (limit, expected) in [(None, 50), (Some(json!(1)), 1), (Some(json!(100)), 100)] {
        let page = alice.request(history(limit)).await?;
        ensure!(page.list("events")?.len() == expected, "{}", page.text);
        ensure!(page["more"] == true, "{}", page.text);
    }
    for limit in [json!(0), json!(101), json!(-1), json!(1.5), json!(1e300)] {
        ensure!(
            alice.refused(history(Some(limit.clone()))).await? == "invalid-value",
            "{limit}"
        );
        for list in ["list-channels", "list-conversations"] {
            let message = json!({ "type": list, "limit": limit });
            ensure!(
                alice.refused(message).await? == "invalid-value",
                "{list} {limit}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn message_is_at_most_32_kib() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let of = |length: usize| {
        let empty = r#"{"type":"ping","id":"1","x":""}"#;
        format!(
            r#"{{"type":"ping","id":"1","x":"{}"}}"#,
            "x".repeat(length - empty.len())
        )
    };
    alice.ask_text(&of(32 * 1024), "1").await?.honoured()?;
    alice.send_text(&of(32 * 1024 + 1)).await?;
    let (frames, close) = alice.closed_within(DEADLINE).await?;
    ensure!(frames.is_empty(), "{frames:?}");
    let code = close.map(|it| u16::from(it.code));
    ensure!(code == Some(1009), "{code:?}");
    Ok(())
}

#[tokio::test]
async fn nesting_is_at_most_64_deep() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let of = |levels: usize| {
        // The message itself is the first level.
        let deep = format!("{}{}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        format!(r#"{{"type":"direct-message","id":"1","subscriber-id":"bob","content":{deep}}}"#)
    };
    alice.ask_text(&of(64), "1").await?.honoured()?;
    alice.send_text(&of(65)).await?;
    alice.request(json!({ "type": "ping" })).await?;
    Ok(())
}

#[tokio::test]
async fn connection_21_replaces_oldest() -> Result<()> {
    let site = Site::new()?;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = site.connect("alice").await?;
        client.request(json!({ "type": "ping" })).await?;
        clients.push(client);
    }
    let mut newest = site.connect("alice").await?;
    let mut oldest = clients.remove(0);
    let (frames, _) = oldest.closed_within(DEADLINE).await?;
    let Some(last) = frames.last() else {
        bail!("no frame before the close");
    };
    ensure!(
        last["type"] == "disconnect" && last["code"] == "connection-limit",
        "{}",
        last.text
    );
    let mut bob = site.connect("bob").await?;
    bob.tell("alice", &json!("hello")).await?;
    for client in clients.iter_mut().chain([&mut newest]) {
        let event = client.push().await?;
        ensure!(event["type"] == "direct-message", "{}", event.text);
        client.request(json!({ "type": "ping" })).await?;
    }
    Ok(())
}

#[tokio::test]
async fn subscriber_joins_at_most_1000_channels() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let joined = bob.create().await?;
    let also_joined = bob.create().await?;
    let key = format!("{}#alice", site.domain);
    let rows: Vec<Value> = (0..998)
        .map(|number| {
            let item = json!({
                "subscriber": { "S": key }, "item": { "S": format!("channel#x-{number}") },
                "joined": { "N": "1" },
            });
            json!({ "PutRequest": { "Item": item } })
        })
        .collect();
    // BatchWriteItem takes 25.
    for some in rows.chunks(25) {
        let body = json!({ "RequestItems": { "messaging-Subscribers": some } });
        dynamodb(&site.urls, "BatchWriteItem", &body).await?;
    }
    alice.create().await?;
    alice.join(&joined).await?;
    let create = json!({ "type": "create-channel", "name": "Team" });
    ensure!(alice.refused(create.clone()).await? == "limit-exceeded");
    let join =
        json!({ "type": "join-channel", "channel-id": also_joined, "invite-token": "s3cret" });
    ensure!(alice.refused(join.clone()).await? == "limit-exceeded");
    // Leaving one channel makes room for another.
    alice.leave(&joined).await?;
    alice.request(join).await?;
    ensure!(alice.refused(create).await? == "limit-exceeded");
    Ok(())
}

#[tokio::test]
async fn channel_has_at_most_100000_members() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let channel = alice.create().await?;
    set_members(&site, &channel, 99_999).await?;
    let mut bob = site.connect("bob").await?;
    bob.join(&channel).await?;
    let mut carl = site.connect("carl").await?;
    let join = json!({ "type": "join-channel", "channel-id": channel, "invite-token": "s3cret" });
    ensure!(carl.refused(join.clone()).await? == "limit-exceeded");
    // A member that joins again still succeeds.
    bob.join(&channel).await?;
    bob.leave(&channel).await?;
    carl.request(join).await?;
    Ok(())
}

#[tokio::test]
async fn large_channels_get_no_presence() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let channel = alice.create().await?;
    bob.join(&channel).await?;
    // Carl gets every presence because he has a conversation with Alice.
    let mut carl = site.connect("carl").await?;
    carl.tell("alice", &json!(1)).await?;
    for (members, availability) in [(100, "busy"), (101, "dnd"), (100, "available")] {
        set_members(&site, &channel, members).await?;
        alice
            .request(json!({ "type": "announce", "availability": availability }))
            .await?;
        let receivers = if members == 100 {
            vec![&mut carl, &mut bob]
        } else {
            vec![&mut carl]
        };
        for client in receivers {
            let presence = client.push_of("presence").await?;
            // A presence that Bob should not get would arrive before this one.
            ensure!(
                presence["subscriber"]["availability"] == availability,
                "{}",
                presence.text
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn resume_takes_at_most_100_destinations() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    both_sides(&mut alice, 100, "limit-exceeded", |length| {
        let position = |it: usize| json!({ "subscriber-id": format!("s-{it}"), "sequence": 0 });
        let positions: Vec<Value> = (0..length).map(position).collect();
        json!({ "type": "resume", "positions": positions })
    })
    .await
}

#[tokio::test]
async fn id_is_at_most_12_kib() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let longest = "x".repeat(12 * 1024);
    let answer = alice.ask(json!({ "type": "ping", "id": longest })).await?;
    answer.honoured()?;
    // A longer id makes the message malformed, so the service ignores it.
    let text = json!({ "type": "ping", "id": format!("{longest}x") }).to_string();
    alice.send_text(&text).await?;
    alice.request(json!({ "type": "ping" })).await?;
    Ok(())
}

/// Sets the member count in a channel's roster.
async fn set_members(site: &Site, channel: &str, members: u64) -> Result<()> {
    let body = json!({
        "TableName": "messaging-Channels",
        "Key": { "channel": { "S": format!("{}#{channel}", site.domain) }, "item": { "S": "roster" } },
        "UpdateExpression": "SET #members = :members",
        "ConditionExpression": "attribute_exists(#members)",
        "ExpressionAttributeNames": { "#members": "members" },
        "ExpressionAttributeValues": { ":members": { "N": members.to_string() } },
    });
    dynamodb(&site.urls, "UpdateItem", &body).await?;
    Ok(())
}

/// Sends a message of the greatest length, then one that is longer by one and must be rejected.
async fn both_sides(
    client: &mut Client,
    greatest: usize,
    code: &str,
    message: impl Fn(usize) -> Value,
) -> Result<()> {
    client.request(message(greatest)).await?;
    let refused = client.refused(message(greatest + 1)).await?;
    ensure!(refused == code, "{greatest}: {refused}");
    Ok(())
}
