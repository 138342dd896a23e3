//! The answers to client messages, and the messages that get no answer.

#![allow(clippy::indexing_slicing, reason = "a failed test shows the line")]

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{Client, DEADLINE, Site};
use tokio_tungstenite::tungstenite::Message;

#[path = "e2e_answers/malformed.rs"]
mod malformed;

#[tokio::test]
async fn reply_to_repeats_id_exactly() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.connect("alice").await?;
    let long = "x".repeat(10_000);
    let longest = "é".repeat(6 * 1024);
    let ids = [
        "",
        "0",
        "00123",
        "9007199254740993",
        "null",
        "true",
        " ",
        "\u{0}",
        "a\u{0}b",
        "\n\t\"\\/",
        "😀👩‍👩‍👧",
        "é",
        "e\u{301}",
        "\u{feff}",
        "\u{202e}abc",
        "\u{ffff}",
        &long,
        &longest,
    ];
    for id in ids {
        for message in [
            json!({ "type": "hello", "id": id }),
            json!({ "type": "ping", "id": id }),
            json!({ "type": "list-channels", "limit": 0, "id": id }),
        ] {
            // The client compares `reply-to` with the id.
            client.ask(message).await?;
        }
    }
    let escaped = r#"{"type":"hello","id":"\u0041\u00e9\ud83d\ude00\u0000\/"}"#;
    client.ask_text(escaped, "Aé😀\0/").await?;
    Ok(())
}

#[tokio::test]
async fn no_id_means_no_reply_to() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.connect("alice").await?;
    client.send_text(r#"{"type":"hello"}"#).await?;
    for expected in ["welcome", "ack"] {
        let frame = client.frame().await?;
        ensure!(frame["type"] == expected, "{}", frame.text);
        ensure!(frame.json.get("id").is_none(), "{}", frame.text);
        ensure!(frame.json.get("reply-to").is_none(), "{}", frame.text);
    }
    client
        .send_text(r#"{"type":"leave-channel","channel-id":"?"}"#)
        .await?;
    let ack = client.frame().await?;
    ensure!(
        ack["type"] == "ack" && ack["status"] == false,
        "{}",
        ack.text
    );
    ensure!(ack.json.get("reply-to").is_none() && ack.json.get("id").is_none());
    Ok(())
}

#[tokio::test]
async fn malformed_messages_are_ignored() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.connect("alice").await?;
    let texts: BTreeSet<String> = malformed::texts().into_iter().collect();
    let texts: Vec<String> = texts.into_iter().collect();
    ensure!(texts.len() >= 1000, "{} different texts", texts.len());
    for some in texts.chunks(16) {
        for text in some {
            client.send_text(text).await?;
        }
        // An answer to one of them would arrive before this one.
        client
            .request(json!({ "type": "ping" }))
            .await
            .map_err(|error| error.context(format!("one of {some:?} is not ignored")))?;
    }
    // No text had an effect.
    let channels = client.request(json!({ "type": "list-channels" })).await?;
    ensure!(channels.list("channels")?.is_empty(), "{}", channels.text);
    let conversations = client
        .request(json!({ "type": "list-conversations" }))
        .await?;
    ensure!(
        conversations.list("conversations")?.is_empty(),
        "{}",
        conversations.text
    );
    ensure!(client.kept().is_empty());
    Ok(())
}

#[tokio::test]
async fn unknown_fields_are_ignored() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.connect("alice").await?;
    let text = r#"{"future":{"deep":[1,null]},"type":"hello","id":"first","id":"1","x":1e999}"#;
    let welcome = client.ask_text(text, "1").await?.honoured()?;
    ensure!(welcome["type"] == "welcome");
    let text = "\r\n\t {\"type\" : \"ping\" , \"id\" : \"2\"}  \n";
    client.ask_text(text, "2").await?.honoured()?;
    Ok(())
}

#[tokio::test]
async fn binary_frame_closes_with_1003() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.connect("alice").await?;
    client
        .send_message(Message::binary(&br#"{"type":"ping"}"#[..]))
        .await?;
    let (frames, close) = client.closed_within(DEADLINE).await?;
    ensure!(frames.is_empty(), "{frames:?}");
    let code = close.map(|it| u16::from(it.code));
    ensure!(code == Some(1003), "{code:?}");
    Ok(())
}

#[tokio::test]
async fn welcome_has_identity_and_limits() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.connect("alice").await?;
    let welcome = client.request(json!({ "type": "hello" })).await?;
    ensure!(welcome["subscriber-id"] == "alice" && welcome["domain"] == site.domain);
    for time in ["server-time", "token-expires-at", "connection-expires-at"] {
        let text = welcome.text_of(time)?;
        // 2026-08-01T12:00:00.000Z
        ensure!(
            text.len() == 24 && text.ends_with('Z') && &text[19..20] == ".",
            "{text}"
        );
    }
    ensure!(welcome["server-time"].as_str() < welcome["connection-expires-at"].as_str());
    for (limit, value) in [
        ("client-message-bytes", 32 * 1024),
        ("server-message-bytes", 120 * 1024),
        ("content-bytes", 16 * 1024),
        ("attributes-bytes", 4 * 1024),
        ("status-characters", 256),
        ("name-characters", 128),
        ("id-characters", 128),
        ("page", 100),
        ("channels-per-subscriber", 1_000),
        ("connections-per-subscriber", 20),
        ("members-per-channel", 100_000),
        ("history-days", 30),
        ("connection-seconds", 7_200),
        ("idle-seconds", 600),
    ] {
        ensure!(
            welcome["limits"][limit] == value,
            "{limit}: {}",
            welcome["limits"]
        );
    }
    Ok(())
}

#[tokio::test]
async fn well_formed_message_gets_one_ack() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.connect("alice").await?;
    for message in malformed::well_formed() {
        // The client checks that there is exactly one `ack` and checks its fields.
        client.ask(message).await?;
    }
    // No further answer arrives.
    client.request(json!({ "type": "ping" })).await?;
    Ok(())
}

#[tokio::test]
async fn pipelined_messages_are_each_answered_once() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.connect("alice").await?;
    for id in 0..50 {
        let message = json!({ "type": "ping", "id": id.to_string() });
        client.send_text(&message.to_string()).await?;
    }
    let mut answered = Vec::new();
    for _ in 0..50 {
        let ack = client.frame().await?;
        ensure!(
            ack["type"] == "ack" && ack["status"] == true,
            "{}",
            ack.text
        );
        ensure!(ack["id"] == ack["reply-to"], "{}", ack.text);
        answered.push(ack.text_of("id")?.parse::<u32>()?);
    }
    answered.sort_unstable();
    ensure!(answered == (0..50).collect::<Vec<_>>(), "{answered:?}");
    Ok(())
}

#[tokio::test]
async fn rejected_message_changes_nothing() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.connect("alice").await?;
    let channel = client
        .request(json!({ "type": "create-channel", "name": "Team" }))
        .await?
        .text_of("channel-id")?;
    for (message, code) in [
        (
            json!({ "type": "join-channel", "channel-id": "unknown" }),
            "not-found",
        ),
        (
            json!({ "type": "list-subscribers", "channel-id": "unknown" }),
            "not-found",
        ),
        (
            json!({ "type": "get-history", "channel-id": "unknown" }),
            "not-found",
        ),
        (
            json!({ "type": "channel-message", "channel-id": "unknown", "content": 1 }),
            "not-found",
        ),
        (
            json!({ "type": "list-subscribers", "channel-id": "#" }),
            "invalid-value",
        ),
        (
            json!({ "type": "direct-message", "subscriber-id": "alice", "content": 1 }),
            "invalid-value",
        ),
        (
            json!({ "type": "get-history", "subscriber-id": "alice" }),
            "invalid-value",
        ),
        (
            json!({ "type": "announce", "availability": "away" }),
            "invalid-value",
        ),
        (
            json!({ "type": "get-history", "channel-id": &channel, "after": 1, "before": 2 }),
            "invalid-value",
        ),
        (
            json!({ "type": "get-history", "channel-id": &channel, "after": -1 }),
            "invalid-value",
        ),
        (
            json!({ "type": "get-history", "channel-id": &channel, "after": 1.5 }),
            "invalid-value",
        ),
        (
            json!({ "type": "list-channels", "after": "#" }),
            "invalid-value",
        ),
    ] {
        let refused = client.refused(message.clone()).await?;
        ensure!(refused == code, "{message}: {refused}");
    }
    unchanged(&mut client, &channel).await
}

async fn unchanged(client: &mut Client, channel: &str) -> Result<()> {
    let history = client
        .request(json!({ "type": "get-history", "channel-id": channel }))
        .await?;
    ensure!(history.number("last-sequence")? == 1, "{}", history.text);
    let channels = client.request(json!({ "type": "list-channels" })).await?;
    ensure!(channels.list("channels")?.len() == 1, "{}", channels.text);
    let conversations = client
        .request(json!({ "type": "list-conversations" }))
        .await?;
    ensure!(conversations["conversations"] == Value::Array(vec![]));
    ensure!(client.kept().is_empty());
    Ok(())
}
