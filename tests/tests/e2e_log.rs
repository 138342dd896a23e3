//! The log: one order for all members, no loss, no repetition, and pages.

#![allow(clippy::indexing_slicing, reason = "a failed test shows the line")]

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tests::{Client, Site};

const WRITERS: usize = 8;
const EACH: usize = 25;

#[tokio::test]
async fn concurrent_writers_share_one_order() -> Result<()> {
    let site = Site::new()?;
    let mut reader = site.connect("reader").await?;
    let channel = reader.create().await?;
    let mut writers = Vec::new();
    for index in 0..WRITERS {
        let mut client = site.connect(&format!("writer-{index}")).await?;
        let joined = client.join(&channel).await?;
        writers.push((index, joined, client));
    }
    let last = 1 + WRITERS + WRITERS * EACH;
    // Each writer sends its messages, then reads pushes until it knows every event since it joined.
    let writing = writers.into_iter().map(|(index, joined, mut client)| {
        let channel = channel.clone();
        async move {
            let mut seen = BTreeMap::new();
            for number in 0..EACH {
                let content = json!({ "by": index, "number": number });
                let stored = client.say(&channel, &content).await?;
                let what = (stored.text_of("message-id")?, content);
                let repeated = seen.insert(stored.number("sequence")?, what);
                ensure!(repeated.is_none(), "a sequence twice: {}", stored.text);
            }
            let own = seen.len();
            let mut previous = joined;
            while seen.len() < last - usize::try_from(joined)? {
                let event = client.push().await?;
                let sequence = event.number("sequence")?;
                ensure!(sequence > previous, "{sequence} after {previous}");
                previous = sequence;
                let id = event["message-id"].as_str().unwrap_or_default().to_owned();
                let repeated = seen.insert(sequence, (id, event["content"].clone()));
                ensure!(repeated.is_none(), "an event twice: {}", event.text);
            }
            ensure!(own == EACH);
            Ok(seen)
        }
    });
    let written = try_join_all(writing).await?;
    // The reader gets every event in order.
    let mut read = BTreeMap::new();
    for expected in 2..=u64::try_from(last)? {
        let event = reader.push().await?;
        ensure!(event["sequence"] == expected, "{expected}: {}", event.text);
        let id = event["message-id"].as_str().unwrap_or_default().to_owned();
        read.insert(expected, (id, event["content"].clone()));
    }
    // Writers, reader and history agree.
    for seen in &written {
        let same = seen
            .iter()
            .all(|(sequence, what)| read.get(sequence) == Some(what));
        ensure!(same, "clients saw different events");
    }
    let history = reader
        .whole_history(&json!({ "channel-id": channel }))
        .await?;
    ensure!(history.len() == last);
    for event in &history[1 + WRITERS..] {
        let sequence = event["sequence"].as_u64().context("no sequence")?;
        let (id, content) = read.get(&sequence).context("not read")?;
        ensure!(
            event["message-id"] == **id && event["content"] == *content,
            "{event}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn repeated_message_writes_nothing() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let channel = alice.create().await?;
    bob.join(&channel).await?;
    for destination in [
        json!({ "channel-id": channel }),
        json!({ "subscriber-id": "bob" }),
    ] {
        let mut message = destination.clone();
        message["type"] = match destination.get("channel-id") {
            Some(_) => "channel-message".into(),
            None => "direct-message".into(),
        };
        message["content"] = json!({ "n": 1 });
        message["message-id"] = "the-same".into();
        let first = alice.request(message.clone()).await?;
        let second = alice.request(message.clone()).await?;
        ensure!(first.json.get("duplicate").is_none(), "{}", first.text);
        repeats(&first, &second)?;
        // The same holds after a reconnect.
        let mut again = site.connect("alice").await?;
        repeats(&first, &again.request(message.clone()).await?)?;
        again.close().await?;
        let mut other = message.clone();
        other["content"] = json!({ "n": 2 });
        ensure!(alice.refused(other).await? == "conflict");
        message["message-id"] = "another".into();
        let next = alice.request(message).await?;
        ensure!(
            next.number("sequence")? == first.number("sequence")? + 1,
            "{}",
            next.text
        );
        // Bob gets each message once.
        for id in ["the-same", "another"] {
            let event = bob.push().await?;
            ensure!(event["message-id"] == id, "{}", event.text);
        }
    }
    // Message ids are scoped to the sender, so Bob may use the same id.
    let message = json!({
        "type": "channel-message", "channel-id": channel, "content": 3, "message-id": "the-same",
    });
    let stored = bob.request(message).await?;
    ensure!(stored.json.get("duplicate").is_none(), "{}", stored.text);
    Ok(())
}

#[tokio::test]
async fn concurrent_repeats_store_one_event() -> Result<()> {
    let site = Site::new()?;
    let mut first = site.connect("alice").await?;
    let mut second = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    for round in 1..=20 {
        let message = json!({
            "type": "direct-message", "subscriber-id": "bob", "content": round,
            "message-id": format!("round-{round}"),
        });
        let (one, other) =
            futures::try_join!(first.request(message.clone()), second.request(message))?;
        ensure!(
            one["sequence"] == other["sequence"],
            "{} {}",
            one.text,
            other.text
        );
        let duplicates = [&one, &other].map(|it| it["duplicate"] == true);
        ensure!(
            duplicates.iter().filter(|it| **it).count() == 1,
            "{} {}",
            one.text,
            other.text
        );
    }
    let events = bob
        .whole_history(&json!({ "subscriber-id": "alice" }))
        .await?;
    let messages: Vec<_> = events.iter().filter(|it| it["kind"] == "message").collect();
    ensure!(messages.len() == 20, "{events:?}");
    // The sequences that repeats had allocated are void. Bob gets a `resync` there, and each message once.
    let mut seen: Vec<Value> = Vec::new();
    while seen.len() < events.len() {
        let destination = json!({ "subscriber-id": "alice" });
        seen.extend(bob.follow(&destination, u64::try_from(seen.len())?).await?);
    }
    for (seen, event) in seen.iter().zip(&events) {
        ensure!(seen["sequence"] == event["sequence"] && seen["content"] == event["content"]);
    }
    Ok(())
}

fn repeats(first: &tests::Frame, second: &tests::Frame) -> Result<()> {
    ensure!(second["duplicate"] == true, "{}", second.text);
    for same in [
        "sequence",
        "message-id",
        "timestamp",
        "status",
        "channel-id",
        "subscriber-id",
    ] {
        ensure!(
            first[same] == second[same],
            "{same}: {} {}",
            first.text,
            second.text
        );
    }
    Ok(())
}

#[tokio::test]
async fn history_is_paged_both_ways() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    for number in 1..=10 {
        alice.tell("bob", &json!(number)).await?;
    }
    for (range, expected, more) in [
        (json!({}), 1..11, false),
        (json!({ "limit": 3 }), 8..11, true),
        (json!({ "after": 0, "limit": 4 }), 1..5, true),
        (json!({ "after": 4, "limit": 4 }), 5..9, true),
        (json!({ "after": 8, "limit": 4 }), 9..11, false),
        (json!({ "after": 6, "limit": 4 }), 7..11, false),
        (json!({ "after": 10 }), 1..1, false),
        (json!({ "before": 11, "limit": 4 }), 7..11, true),
        (json!({ "before": 7, "limit": 4 }), 3..7, true),
        (json!({ "before": 3, "limit": 4 }), 1..3, false),
        (json!({ "before": 5, "limit": 4 }), 1..5, false),
        (json!({ "before": 1 }), 1..1, false),
    ] {
        let mut message = range.clone();
        message["type"] = "get-history".into();
        message["subscriber-id"] = "bob".into();
        let page = alice.request(message).await?;
        let sequences: Vec<_> = page
            .list("events")?
            .iter()
            .filter_map(|it| it["sequence"].as_u64())
            .collect();
        ensure!(
            sequences == expected.collect::<Vec<_>>(),
            "{range}: {sequences:?}"
        );
        ensure!(page["more"] == more, "{range}: {}", page.text);
        ensure!(
            page["first-sequence"] == 1 && page["last-sequence"] == 10,
            "{}",
            page.text
        );
        ensure!(page["subscriber-id"] == "bob", "{}", page.text);
    }
    Ok(())
}

#[tokio::test]
async fn history_page_fits_server_message() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    // Characters that grow when escaped, and characters that do not.
    for filling in ["x", "\"", "\u{1}", "😀"] {
        let length = json!(filling).to_string().len() - 2;
        let content = Value::from(filling.repeat((16 * 1024 - 2) / length));
        for _ in 0..6 {
            alice.tell("bob", &content).await?;
        }
    }
    let destination = json!({ "subscriber-id": "alice" });
    for direction in ["after", "before"] {
        let mut position: i64 = if direction == "after" { 0 } else { 25 };
        let mut found = 0;
        loop {
            let mut message = destination.clone();
            message["type"] = "get-history".into();
            message[direction] = position.into();
            message["limit"] = 100.into();
            let page = bob.request(message).await?;
            // SockJS sends the message as a JSON string in an array after a letter.
            let framed = json!([page.text]).to_string().len() + 1;
            ensure!(framed <= 120 * 1024, "{framed} bytes");
            let events = page.list("events")?;
            found += events.len();
            ensure!(!events.is_empty(), "an empty page");
            let edge = if direction == "after" {
                events.last()
            } else {
                events.first()
            };
            position = edge
                .and_then(|it| it["sequence"].as_i64())
                .context("no sequence")?;
            if page["more"] == false {
                break;
            }
        }
        ensure!(found == 24, "{direction}: {found}");
    }
    Ok(())
}

#[tokio::test]
async fn content_is_kept_byte_for_byte() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut other = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let contents = [
        "123456789012345678901234567890",
        "-0",
        "1.0",
        "1E300",
        "0.10000000000000000000000000000000001",
        r#"{"a":1,"a":2,"b":{"b":1,"b":[]}}"#,
        r#"{ "spaced" : [ 1 , 2 ] }"#,
        r#""\u0041\u00e9\/\ud83d\ude00""#,
        r#""é😀\u0000\"""#,
        "null",
        "false",
        "\"\"",
        "[]",
        "{}",
        r#"{"__proto__":null,"":0,"type":"ack","reply-to":"1"}"#,
    ];
    for (index, content) in contents.iter().enumerate() {
        let id = format!("c{index}");
        let text = format!(
            r#"{{"type":"direct-message","id":"{id}","subscriber-id":"bob","content":{content},"attributes":{{"x":{content}}}}}"#
        );
        alice.ask_text(&text, &id).await?.honoured()?;
        contains(&bob.push_of("direct-message").await?.text, content)?;
        contains(&other.push_of("direct-message").await?.text, content)?;
        let page = bob
            .request(json!({ "type": "get-history", "subscriber-id": "alice", "limit": 1 }))
            .await?;
        contains(&page.text, content)?;
    }
    let unreadable =
        r#"{"type":"direct-message","id":"no","subscriber-id":"bob","content":[1E400]}"#;
    ensure!(alice.ask_text(unreadable, "no").await?.refused()? == "invalid-value");
    Ok(())
}

fn contains(text: &str, content: &str) -> Result<()> {
    let content_at = format!(r#""content":{content},"#);
    let attributes_at = format!(r#""attributes":{{"x":{content}}}"#);
    ensure!(
        text.contains(&content_at) && text.contains(&attributes_at),
        "{content}: {text}"
    );
    Ok(())
}

#[tokio::test]
async fn stored_event_is_immediately_readable() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let channel = alice.create().await?;
    bob.join(&channel).await?;
    for number in 0..20 {
        let stored = alice.say(&channel, &json!(number)).await?;
        let page = latest(&mut bob, &channel).await?;
        ensure!(page["last-sequence"] == stored["sequence"], "{}", page.text);
        ensure!(page["events"][0]["content"] == number, "{}", page.text);
    }
    Ok(())
}

async fn latest(client: &mut Client, channel: &str) -> Result<tests::Frame> {
    client
        .request(json!({ "type": "get-history", "channel-id": channel, "limit": 1 }))
        .await
}
