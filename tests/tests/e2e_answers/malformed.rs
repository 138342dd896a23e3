//! Well-formed messages of every type, and malformed texts derived from them.

use serde_json::{Value, json};

/// Returns a message of every type with all its fields, and the names of its required fields.
fn specimens() -> Vec<(Value, &'static [&'static str])> {
    vec![
        (json!({ "type": "hello" }), &[]),
        (json!({ "type": "ping" }), &[]),
        (
            json!({ "type": "announce", "availability": "away", "status": "s", "attributes": {} }),
            &["availability"],
        ),
        (json!({ "type": "unannounce" }), &[]),
        (
            json!({ "type": "create-channel", "name": "", "invite-token": "t", "attributes": {}, "channel-id": "c" }),
            &["name"],
        ),
        (
            json!({ "type": "update-channel", "channel-id": "c", "name": "n", "attributes": {} }),
            &["channel-id"],
        ),
        (
            json!({ "type": "delete-channel", "channel-id": "c" }),
            &["channel-id"],
        ),
        (
            json!({ "type": "join-channel", "channel-id": "c", "invite-token": "t" }),
            &["channel-id"],
        ),
        (
            json!({ "type": "leave-channel", "channel-id": "c" }),
            &["channel-id"],
        ),
        (
            json!({ "type": "invite-subscriber", "channel-id": "c", "subscriber-id": "s" }),
            &["channel-id", "subscriber-id"],
        ),
        (
            json!({ "type": "remove-subscriber", "channel-id": "c", "subscriber-id": "s" }),
            &["channel-id", "subscriber-id"],
        ),
        (
            json!({ "type": "set-administrator", "channel-id": "c", "subscriber-id": "s", "administrator": true }),
            &["channel-id", "subscriber-id", "administrator"],
        ),
        (
            json!({ "type": "list-channels", "after": "a", "limit": 5 }),
            &[],
        ),
        (
            json!({ "type": "list-subscribers", "channel-id": "c", "after": "a", "limit": 5 }),
            &["channel-id"],
        ),
        (
            json!({ "type": "list-conversations", "after": "a", "limit": 5 }),
            &[],
        ),
        (
            json!({ "type": "channel-message", "channel-id": "c", "content": 1, "message-id": "m", "attributes": {} }),
            &["channel-id", "content"],
        ),
        (
            json!({ "type": "direct-message", "subscriber-id": "#", "content": 1, "message-id": "m", "attributes": {} }),
            &["subscriber-id", "content"],
        ),
        (
            json!({ "type": "delivery", "channel-id": "c", "sequence": 1, "status": "read" }),
            &["channel-id", "sequence", "status"],
        ),
        (
            json!({ "type": "get-history", "channel-id": "c", "after": 1, "limit": 5 }),
            &["channel-id"],
        ),
        (
            json!({ "type": "resume", "positions": [], "since": "2026-01-01T00:00:00.000Z" }),
            &["positions"],
        ),
        (
            json!({ "type": "typing", "subscriber-id": "s", "active": true }),
            &["subscriber-id", "active"],
        ),
        (json!({ "type": "authorize", "token": "t" }), &["token"]),
    ]
}

/// Returns one message of every type. None of them changes stored state.
pub(crate) fn well_formed() -> Vec<Value> {
    specimens()
        .into_iter()
        .map(|(message, _)| message)
        .collect()
}

/// Returns texts that are malformed or have an unknown type.
pub(crate) fn texts() -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for (specimen, required) in specimens() {
        texts.extend(spoilt(&specimen, required));
    }
    texts.extend(unknown_types());
    texts.extend(no_json());
    texts
}

/// Returns copies with a required field missing, with a field of another type, and cut off at either end.
fn spoilt(specimen: &Value, required: &[&str]) -> Vec<String> {
    let mut texts = Vec::new();
    let fields = specimen.as_object().into_iter().flatten();
    for name in required {
        let mut message = specimen.clone();
        message.as_object_mut().and_then(|it| it.remove(*name));
        texts.push(message.to_string());
    }
    let id = (String::from("id"), json!("1"));
    for (name, value) in fields
        .map(|(name, value)| (name.clone(), value.clone()))
        .chain([id])
    {
        if name == "content" {
            continue;
        }
        for other in [
            json!(null),
            json!("x"),
            json!(7),
            json!(true),
            json!([]),
            json!({}),
        ] {
            if std::mem::discriminant(&other) != std::mem::discriminant(&value) {
                let mut message = specimen.clone();
                message[&name] = other;
                texts.push(message.to_string());
            }
        }
    }
    for both in [
        ["channel-id", "subscriber-id"],
        ["subscriber-id", "channel-id"],
    ] {
        let one_of = ["delivery", "get-history", "typing"].map(Value::from);
        if one_of.contains(&specimen["type"]) && specimen.get(both[0]).is_some() {
            let mut message = specimen.clone();
            message[both[1]] = json!("x");
            texts.push(message.to_string());
        }
    }
    let whole = specimen.to_string();
    texts.extend(
        (1..whole.len())
            .step_by(2)
            .map(|end| whole[..end].to_owned()),
    );
    texts.extend((1..4).map(|start| whole[start..].to_owned()));
    texts
}

fn unknown_types() -> Vec<String> {
    let types = [
        "",
        " ",
        "ack",
        "welcome",
        "Ping",
        "PING",
        "ping ",
        "pong",
        "history",
        "subscribe",
        "\u{0}",
        "channel_message",
        "channelMessage",
        "presence",
        "disconnect",
        "resync",
        "__proto__",
        "null",
    ];
    types
        .iter()
        .map(|name| json!({ "type": name, "id": "1" }).to_string())
        .collect()
}

fn no_json() -> Vec<String> {
    let ping = r#"{"type":"ping","id":"1"}"#;
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let mut texts: Vec<String> = [
        " ",
        "\n",
        "null",
        "true",
        "0",
        "-1",
        "1e5",
        "\"\"",
        "\"ping\"",
        "[]",
        "{}",
        "[[]]",
        "]",
        "}",
        "{]",
        "ping",
        "undefined",
        "NaN",
        "{'type':'ping'}",
        "{type:\"ping\"}",
        "{\"type\":\"ping\",}",
        "{\"type\":\"ping\"}}",
        "{\"type\":\"ping\"} x",
        "{\"type\":\"ping\"}{\"type\":\"ping\"}",
        "// c\n{\"type\":\"ping\"}",
        "{\"type\":\"ping\",\"n\":01}",
        "{\"type\":\"ping\",\"n\":+1}",
        "{\"type\":\"ping\",\"n\":.5}",
        "{\"type\":\"ping\",\"n\":1.}",
        "{\"type\":\"ping\",\"n\":Infinity}",
        "{\"type\":\"ping\",\"s\":\"\t\"}",
        "{\"type\":\"ping\",\"s\":\"\\x41\"}",
        "{\"type\":\"ping\",\"s\":\"\\u12\"}",
        "[{\"type\":\"ping\",\"id\":\"1\"}]",
        "\"{\\\"type\\\":\\\"ping\\\"}\"",
        "<ping/>",
        "type=ping",
        "{\"type\":\"ping\",\"id\":\"\\ud800\"}",
        "{\"type\":\"ping\",\"x\":\"\\udc00\"}",
        "{\"type\":\"ping\",\"x\":\"\\ud83dx\"}",
        "{\"type\":\"ping\",\"x\":\"\\ude00\\ud83d\"}",
        "{\"type\":\"ping\",\"\\ud800\":1}",
        "{\"id\":\"1\"}",
        "{\"Type\":\"ping\"}",
        "{\"type\":[\"ping\"]}",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.push(format!("\u{feff}{ping}"));
    texts.push(format!("\u{a0}{ping}"));
    texts.push(format!(r#"{{"type":"ping","x":{}}}"#, deep(64)));
    texts.push(deep(10_000));
    texts.push(format!(
        r#"{{"type":"ping","id":"{}"}}"#,
        "x".repeat(12 * 1024 + 1)
    ));
    texts
}
