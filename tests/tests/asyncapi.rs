//! Checks docs/asyncapi.yaml against the protocol: its examples decode, and its schemas accept exactly what the decoder
//! accepts and the encoder produces.
#![cfg(test)]

mod documents;
#[path = "asyncapi/everything.rs"]
mod everything;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use documents::Document;
use everything::everything;
use protocol::{
    ClientMessage, Code, Decoded, decode, limits::LIMITS, model::parse_name, text::has_control,
};
use serde_json::{Value, json};

#[test]
fn client_messages_have_decodable_examples() -> Result<()> {
    let document = Document::read("docs/asyncapi.yaml")?;
    let client = messages(&document, "client-")?;
    let types: BTreeSet<&str> = client.keys().map(String::as_str).collect();
    assert_eq!(types, ClientMessage::TYPES.iter().copied().collect());
    for (name, message) in &client {
        for example in message {
            let Decoded::Message { id, message } = decode(&example.to_string()) else {
                bail!("{example} is no message");
            };
            assert_eq!(message.message_type(), name, "{example}");
            assert_eq!(id.as_deref(), example.get("id").and_then(Value::as_str));
        }
    }
    Ok(())
}

#[test]
fn schemas_and_decoder_agree_on_malformed() -> Result<()> {
    let document = Document::read("docs/asyncapi.yaml")?;
    let client = messages(&document, "client-")?;
    let mut schemas = document.schemas()?;
    let mut broken = 0;
    for (name, message) in &client {
        let schema = schemas.compile(&format!("/components/messages/client-{name}/payload"))?;
        for example in message {
            for wrong in broken_copies(example)? {
                let ignored = decode(&wrong.to_string()) == Decoded::Ignored;
                let refused = schemas.check(schema, &wrong).is_err();
                ensure!(
                    ignored == refused,
                    "{wrong}: the decoder ignores it: {ignored}, the schema refuses it: {refused}"
                );
                broken += usize::from(ignored);
            }
        }
    }
    ensure!(broken > 200, "only {broken} malformed messages were tried");
    Ok(())
}

#[test]
fn schemas_refuse_rejected_values() -> Result<()> {
    let document = Document::read("docs/asyncapi.yaml")?;
    let mut schemas = document.schemas()?;
    let long = "x".repeat(129);
    for wrong in [
        json!({"type": "announce", "availability": "away"}),
        json!({"type": "announce", "availability": "busy", "status": "x".repeat(257)}),
        json!({"type": "announce", "availability": "busy", "status": "a\nb"}),
        json!({"type": "create-channel", "name": ""}),
        json!({"type": "create-channel", "name": long}),
        json!({"type": "create-channel", "name": "n", "channel-id": ".."}),
        json!({"type": "create-channel", "name": "n", "invite-token": ""}),
        json!({"type": "create-channel", "name": "n", "channel-id": "a b"}),
        json!({"type": "join-channel", "channel-id": ""}),
        json!({"type": "list-channels", "limit": 0}),
        json!({"type": "list-channels", "limit": 101}),
        json!({"type": "list-channels", "limit": 1.5}),
        json!({"type": "list-channels", "after": "#"}),
        json!({"type": "direct-message", "subscriber-id": "b", "content": 1, "message-id": long}),
        json!({"type": "delivery", "subscriber-id": "b", "sequence": 0, "status": "read"}),
        json!({"type": "delivery", "subscriber-id": "b", "sequence": 1, "status": "stored"}),
        json!({"type": "get-history", "channel-id": "c", "after": -1}),
        json!({"type": "get-history", "channel-id": "c", "before": 0}),
        json!({"type": "get-history", "channel-id": "c", "before": 9_007_199_254_740_992_u64}),
        json!({"type": "resume", "positions": vec![json!({"channel-id": "c", "sequence": 1}); 101]}),
        json!({"type": "resume", "positions": [], "since": "yesterday"}),
    ] {
        let name = wrong["type"].as_str().context("the message has no type")?;
        let schema = schemas.compile(&format!("/components/messages/client-{name}/payload"))?;
        let decoded = decode(&wrong.to_string());
        ensure!(
            matches!(decoded, Decoded::Rejected { .. }),
            "{wrong}: {decoded:?}"
        );
        ensure!(
            schemas.check(schema, &wrong).is_err(),
            "the schema accepts {wrong}"
        );
    }
    Ok(())
}

#[test]
fn name_schema_agrees_with_parser() -> Result<()> {
    let document = Document::read("docs/asyncapi.yaml")?;
    let mut schemas = document.schemas()?;
    let [name, status] =
        ["Name", "StatusText"].map(|it| schemas.compile(&format!("/components/schemas/{it}")));
    let (name, status) = (name?, status?);
    // The planes between these have no characters that either treats specially.
    let planes = ('\0'..='\u{2ffff}').chain('\u{e0000}'..='\u{10ffff}');
    for character in planes.filter(|it| u32::from(*it) % 64 < 2 || !is_plain(*it)) {
        for text in [format!("{character}"), format!("a{character}")] {
            let accepted = schemas.check(name, &json!(text)).is_ok();
            ensure!(accepted == parse_name(&text).is_ok(), "the name {text:?}");
            let accepted = schemas.check(status, &json!(text)).is_ok();
            ensure!(accepted != has_control(&text), "the status {text:?}");
        }
    }
    Ok(())
}

/// Returns true for characters far from all special ones, of which the test takes a sample.
fn is_plain(character: char) -> bool {
    matches!(character, '\u{400}'..='\u{5ff}' | '\u{700}'..='\u{10ff}' | '\u{1200}'..='\u{15ff}' | '\u{1900}'..='\u{1fff}'
        | '\u{2900}'..='\u{2fff}' | '\u{3200}'..='\u{fcff}' | '\u{10000}'..='\u{1bbff}' | '\u{1be00}'..='\u{1cfff}'
        | '\u{1d200}'..='\u{2ffff}' | '\u{e1100}'..)
}

#[test]
fn server_messages_match_schemas() -> Result<()> {
    let document = Document::read("docs/asyncapi.yaml")?;
    let documented = messages(&document, "server-")?;
    let replies = replies(&document)?;
    let mut schemas = document.closed().schemas()?;
    let mut said = BTreeSet::new();
    for message in everything() {
        let solicited = message.encode(Some("\u{0}é"));
        let unsolicited = message.encode(None);
        let name = type_of(&unsolicited)?;
        ensure!(documented.contains_key(&name), "`{name}` is not documented");
        let schema = schemas.compile(&format!("/components/messages/server-{name}/payload"))?;
        schemas.check(schema, &serde_json::from_str(&unsolicited)?)?;
        let is_reply = schemas
            .check(schema, &serde_json::from_str(&solicited)?)
            .is_ok();
        ensure!(
            is_reply == replies.contains(&name),
            "`{name}` with `reply-to`: {is_reply}"
        );
        said.insert(name);
    }
    assert_eq!(said, documented.into_keys().collect());
    Ok(())
}

#[test]
fn examples_match_schemas() -> Result<()> {
    let document = Document::read("docs/asyncapi.yaml")?;
    let mut schemas = document.closed().schemas()?;
    for side in ["client", "server"] {
        for (name, message) in messages(&document, &format!("{side}-"))? {
            let schema = schemas.compile(&format!("/components/messages/{side}-{name}/payload"))?;
            for example in message {
                schemas.check(schema, &example)?;
                ensure!(example["type"] == *name, "{example} is no `{name}`");
            }
        }
    }
    Ok(())
}

#[test]
fn code_and_limit_lists_are_complete() -> Result<()> {
    let document = Document::read("docs/asyncapi.yaml")?;
    let schema = |name: &str, what: &str| -> Result<BTreeSet<String>> {
        let at = format!("/components/schemas/{name}/{what}");
        let listed = document.at(&at)?;
        let names = match listed {
            Value::Object(map) => map.keys().cloned().collect(),
            _ => serde_json::from_value(listed.clone())?,
        };
        Ok(names)
    };
    let codes: BTreeSet<String> = serde_json::from_value(serde_json::to_value(Code::ALL)?)?;
    assert_eq!(schema("Code", "enum")?, codes);
    let limits = serde_json::to_value(LIMITS)?;
    let limits: BTreeMap<String, u64> = serde_json::from_value(limits)?;
    assert_eq!(
        schema("Limits", "properties")?,
        limits.keys().cloned().collect()
    );
    assert_eq!(
        schema("Limits", "required")?,
        limits.keys().cloned().collect()
    );
    let welcome = &messages(&document, "server-")?["welcome"][0];
    assert_eq!(welcome["limits"], serde_json::to_value(LIMITS)?);

    // Every message belongs to the one channel, and every client message has an operation.
    let on_channel: BTreeSet<String> = document.keys("/channels/connection/messages")?;
    assert_eq!(on_channel, document.keys("/components/messages")?);
    let mut operations = document.keys("/operations")?;
    assert!(operations.remove("push"));
    assert_eq!(
        operations,
        ClientMessage::TYPES
            .iter()
            .map(|&it| it.to_owned())
            .collect()
    );
    Ok(())
}

/// Returns the examples of one side's messages by message type.
fn messages(document: &Document, side: &str) -> Result<BTreeMap<String, Vec<Value>>> {
    let mut messages = BTreeMap::new();
    for key in document.keys("/components/messages")? {
        let Some(name) = key.strip_prefix(side) else {
            continue;
        };
        let at = format!("/components/messages/{key}");
        ensure!(
            *document
                .at(&at)?
                .get("name")
                .context("the message has no name")?
                == *name,
            "{key}"
        );
        let listed = document.at(&format!("{at}/examples"))?.as_array();
        let listed = listed.context("the examples are no list")?;
        let examples: Vec<Value> = listed.iter().map(|it| it["payload"].clone()).collect();
        ensure!(!examples.is_empty(), "{key} has no example");
        messages.insert(name.to_owned(), examples);
    }
    Ok(messages)
}

/// Returns the message types that the operations list as replies.
fn replies(document: &Document) -> Result<BTreeSet<String>> {
    let mut replies = BTreeSet::new();
    for operation in document.keys("/operations")? {
        let at = format!("/operations/{operation}/reply/messages");
        let listed = document.at(&at).ok().and_then(Value::as_array);
        for reference in listed.into_iter().flatten() {
            let target = reference["$ref"]
                .as_str()
                .context("the reply is no reference")?;
            document.at(target.trim_start_matches('#'))?;
            let (_, name) = target
                .split_once("/server-")
                .context("the reply is no server message")?;
            replies.insert(name.to_owned());
        }
    }
    Ok(replies)
}

/// Returns copies of `example` with one field missing or of another JSON type. Includes the fields of objects in arrays.
fn broken_copies(example: &Value) -> Result<Vec<Value>> {
    let mut copies = Vec::new();
    for (key, value) in example.as_object().context("the example is no object")? {
        let with = |value: Option<Value>| {
            let mut copy = example.clone();
            if let Some(fields) = copy.as_object_mut() {
                match value {
                    Some(value) => fields.insert(key.clone(), value),
                    None => fields.remove(key),
                };
            }
            copy
        };
        copies.push(with(None));
        for wrong in [
            json!(null),
            json!(1),
            json!("x"),
            json!(true),
            json!([]),
            json!({}),
        ] {
            // Another test covers values of the right type that are not allowed.
            if kind(&wrong) != kind(value) {
                copies.push(with(Some(wrong)));
            }
        }
        if let Some(items) = value.as_array() {
            for item in items {
                for wrong in broken_copies(item)? {
                    copies.push(with(Some(json!([wrong]))));
                }
            }
        }
    }
    let mut both = example.clone();
    if let Some(fields) = both.as_object_mut() {
        fields.insert("channel-id".to_owned(), json!("c"));
        fields.insert("subscriber-id".to_owned(), json!("s"));
    }
    copies.push(both);
    Ok(copies)
}

const fn kind(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

fn type_of(frame: &str) -> Result<String> {
    let frame: Value = serde_json::from_str(frame)?;
    Ok(frame["type"].as_str().context("no type")?.to_owned())
}
