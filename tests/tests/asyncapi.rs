//! docs/asyncapi.yaml against the protocol: its examples decode, its schemas say no more and no less than the decoder and
//! the encoder do.

mod documents;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use documents::{Document, Examples};
use protocol::{
    Availability, ChannelId, ChannelSubscriber, ClientMessage, Code, Conversation, Decoded,
    DeliveryStatus, Destination, Domain, Event, EventBody, Json, LeaveReason, Membership,
    MessageId, Rejection, ServerMessage, SubscriberId, Timestamp, decode,
    frame::{DisconnectCode, PushedEvent, ResumedDestination, TypingDestination, WireEvent},
    limits::LIMITS,
    model::Presence,
};
use serde_json::{Value, json};

#[test]
fn every_client_message_is_there_with_examples_that_decode() -> Result<()> {
    let document = Document::read("docs/asyncapi.yaml")?;
    let client = messages(&document, "client-")?;
    let types: BTreeSet<&str> = client.keys().map(String::as_str).collect();
    assert_eq!(types, ClientMessage::TYPES.iter().copied().collect());
    for (name, message) in &client {
        for example in &message.examples {
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
fn the_schemas_and_the_decoder_call_the_same_things_malformed() -> Result<()> {
    let document = Document::read("docs/asyncapi.yaml")?;
    let client = messages(&document, "client-")?;
    let mut schemas = document.schemas()?;
    let mut broken = 0;
    for (name, message) in &client {
        let schema = schemas.compile(&format!("/components/messages/client-{name}/payload"))?;
        for example in &message.examples {
            for wrong in broken_copies(example)? {
                let ignored = decode(&wrong.to_string()) == Decoded::Ignored;
                let refused = schemas.check(schema, &wrong).is_err();
                ensure!(
                    ignored == refused,
                    "{wrong}: ignored is {ignored}, the schema refuses it is {refused}"
                );
                broken += usize::from(ignored);
            }
        }
    }
    ensure!(broken > 200, "only {broken} malformed messages were tried");
    Ok(())
}

#[test]
fn the_schemas_refuse_the_values_that_the_decoder_rejects() -> Result<()> {
    let document = Document::read("docs/asyncapi.yaml")?;
    let mut schemas = document.schemas()?;
    let long = "x".repeat(129);
    for wrong in [
        json!({"type": "announce", "availability": "away"}),
        json!({"type": "announce", "availability": "busy", "status": "x".repeat(257)}),
        json!({"type": "create-channel", "name": ""}),
        json!({"type": "create-channel", "name": long}),
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
        let name = wrong["type"].as_str().context("it has a type")?;
        let schema = schemas.compile(&format!("/components/messages/client-{name}/payload"))?;
        let decoded = decode(&wrong.to_string());
        ensure!(
            matches!(decoded, Decoded::Rejected { .. }),
            "{wrong}: {decoded:?}"
        );
        ensure!(
            schemas.check(schema, &wrong).is_err(),
            "the schema takes {wrong}"
        );
    }
    Ok(())
}

#[test]
fn what_the_service_can_say_is_what_the_schemas_say() -> Result<()> {
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
fn every_example_keeps_to_its_schema() -> Result<()> {
    let document = Document::read("docs/asyncapi.yaml")?;
    let mut schemas = document.closed().schemas()?;
    for side in ["client", "server"] {
        for (name, message) in messages(&document, &format!("{side}-"))? {
            let schema = schemas.compile(&format!("/components/messages/{side}-{name}/payload"))?;
            for example in &message.examples {
                schemas.check(schema, example)?;
                ensure!(example["type"] == *name, "{example} is no `{name}`");
            }
        }
    }
    Ok(())
}

#[test]
fn the_lists_are_complete() -> Result<()> {
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
    let welcome = &messages(&document, "server-")?["welcome"].examples[0];
    assert_eq!(welcome["limits"], serde_json::to_value(LIMITS)?);

    // Every message is on the one channel; every client message has its operation.
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

/// The messages of one side, by their type.
fn messages(document: &Document, side: &str) -> Result<BTreeMap<String, Examples>> {
    let mut messages = BTreeMap::new();
    for key in document.keys("/components/messages")? {
        let Some(name) = key.strip_prefix(side) else {
            continue;
        };
        let at = format!("/components/messages/{key}");
        ensure!(
            *document.at(&at)?.get("name").context("a name")? == *name,
            "{key}"
        );
        let examples = document.examples(&at)?;
        ensure!(!examples.examples.is_empty(), "{key} has no example");
        messages.insert(name.to_owned(), examples);
    }
    Ok(messages)
}

/// The types that the operations list as replies.
fn replies(document: &Document) -> Result<BTreeSet<String>> {
    let mut replies = BTreeSet::new();
    for operation in document.keys("/operations")? {
        let at = format!("/operations/{operation}/reply/messages");
        let listed = document.at(&at).ok().and_then(Value::as_array);
        for reference in listed.into_iter().flatten() {
            let target = reference["$ref"].as_str().context("a reference")?;
            document.at(target.trim_start_matches('#'))?;
            let (_, name) = target.split_once("/server-").context("of the service")?;
            replies.insert(name.to_owned());
        }
    }
    Ok(replies)
}

/// `example` with each of its fields left out, and with each of another JSON type, down into arrays of objects.
fn broken_copies(example: &Value) -> Result<Vec<Value>> {
    let mut copies = Vec::new();
    for (key, value) in example.as_object().context("an example is an object")? {
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
            // Of the right type but maybe no value that it may have: that is for another test.
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

fn subscriber(text: &str) -> SubscriberId {
    SubscriberId::parse(text).unwrap()
}

fn channel(text: &str) -> ChannelId {
    ChannelId::parse(text).unwrap()
}

/// One of each server message at least, with every optional field once there and once not.
fn everything() -> Vec<ServerMessage> {
    let now = Timestamp::from_millis(1_767_225_600_123);
    let team = || Destination::Channel(channel("team"));
    let peer = || Destination::Subscriber(subscriber("bob"));
    let presence = || Presence {
        id: subscriber("alice"),
        status: "in".to_owned(),
        availability: Availability::Dnd,
        attributes: Json::parse(r#"{ "a":1.50 }"#).unwrap(),
    };
    let member = || ChannelSubscriber {
        presence: presence(),
        administrator: true,
    };
    let membership = || Membership {
        channel_id: channel("team"),
        name: "Team".to_owned(),
        administrator: false,
        attributes: Json::empty_object(),
        last_sequence: 3,
        read_sequence: 0,
        unread: 3,
    };
    let mut busy = ServerMessage::Ack {
        id: Some(String::new()),
        status: false,
        error: Some(Rejection::busy()),
    };
    if let ServerMessage::Ack {
        error: Some(it), ..
    } = &mut busy
    {
        it.retry_after = Some(1);
    }
    let mut all = vec![
        busy,
        ServerMessage::Ack {
            id: None,
            status: true,
            error: None,
        },
        ServerMessage::ChannelLeft {
            channel_id: channel("team"),
        },
        ServerMessage::Presence {
            subscriber: presence(),
            version: 1,
        },
        ServerMessage::TokenExpiring {
            token_expires_at: now,
        },
        ServerMessage::Resumed {
            destinations: vec![
                ResumedDestination {
                    destination: team(),
                    events: Some(events(now)),
                    last_sequence: Some(9),
                    complete: Some(true),
                    error: None,
                },
                ResumedDestination {
                    destination: peer(),
                    events: None,
                    last_sequence: None,
                    complete: None,
                    error: Some(Rejection::no_channel()),
                },
                ResumedDestination {
                    destination: peer(),
                    events: None,
                    last_sequence: Some(1),
                    complete: None,
                    error: None,
                },
            ],
        },
    ];
    for present in [true, false] {
        all.extend([
            ServerMessage::Welcome {
                subscriber_id: subscriber("alice"),
                domain: Domain::parse("example").unwrap(),
                server_time: now,
                token_expires_at: present.then_some(now),
                connection_expires_at: now,
                limits: LIMITS,
            },
            ServerMessage::Invitation {
                channel_id: channel("team"),
                name: "Team".to_owned(),
                invite_token: present.then(|| "t".to_owned()),
                administrator: present,
                attributes: Json::empty_object(),
                from: (!present).then(|| subscriber("alice")),
            },
            ServerMessage::ChannelJoined {
                membership: membership(),
                subscribers: vec![member()],
                next: present.then(|| "alice".to_owned()),
                sequence: 1,
            },
            ServerMessage::Channels {
                channels: vec![membership()],
                next: present.then(|| "team".to_owned()),
            },
            ServerMessage::Subscribers {
                subscribers: vec![member()],
                next: present.then(|| "alice".to_owned()),
            },
            ServerMessage::Conversations {
                conversations: vec![Conversation {
                    subscriber_id: subscriber("bob"),
                    last_sequence: 2,
                    read_sequence: 1,
                    unread: 1,
                    timestamp: now,
                }],
                next: present.then(|| "bob".to_owned()),
            },
            ServerMessage::History {
                destination: if present { team() } else { peer() },
                events: events(now),
                first_sequence: 1,
                last_sequence: 0,
                more: present,
            },
            ServerMessage::Typing {
                destination: TypingDestination {
                    channel_id: present.then(|| channel("team")),
                    subscriber_id: subscriber("bob"),
                },
                active: present,
            },
            ServerMessage::Authorized {
                token_expires_at: present.then_some(now),
            },
            ServerMessage::Resync {
                destination: if present { team() } else { peer() },
                last_sequence: 1,
            },
        ]);
    }
    for status in [
        DeliveryStatus::Stored,
        DeliveryStatus::Received,
        DeliveryStatus::Displayed,
        DeliveryStatus::Read,
    ] {
        all.push(ServerMessage::Delivery {
            message_id: MessageId::parse("m").unwrap(),
            status,
            destination: peer(),
            sequence: 1,
            timestamp: now,
            duplicate: status == DeliveryStatus::Stored,
        });
    }
    all.extend(
        [
            DisconnectCode::TokenInvalidated,
            DisconnectCode::TokenExpired,
            DisconnectCode::ConnectionLimit,
            DisconnectCode::ConnectionExpired,
            DisconnectCode::Shutdown,
        ]
        .map(ServerMessage::disconnect),
    );
    for destination in [team(), peer()] {
        // A conversation has only messages.
        let count = if destination == team() { usize::MAX } else { 2 };
        let pushed = events(now).into_iter().take(count);
        all.extend(
            pushed
                .filter_map(|event| PushedEvent::new(destination.clone(), event))
                .map(ServerMessage::Event),
        );
    }
    all.iter().for_each(is_listed);
    all
}

/// Whoever adds a message finds here that it belongs into `everything` and into the document.
const fn is_listed(message: &ServerMessage) {
    match message {
        ServerMessage::Welcome { .. }
        | ServerMessage::Ack { .. }
        | ServerMessage::Invitation { .. }
        | ServerMessage::ChannelJoined { .. }
        | ServerMessage::ChannelLeft { .. }
        | ServerMessage::Channels { .. }
        | ServerMessage::Subscribers { .. }
        | ServerMessage::Conversations { .. }
        | ServerMessage::Delivery { .. }
        | ServerMessage::History { .. }
        | ServerMessage::Resumed { .. }
        | ServerMessage::Presence { .. }
        | ServerMessage::Typing { .. }
        | ServerMessage::Authorized { .. }
        | ServerMessage::TokenExpiring { .. }
        | ServerMessage::Resync { .. }
        | ServerMessage::Disconnect { .. }
        | ServerMessage::Event(_) => {}
    }
}

/// One event of each kind, messages first.
fn events(now: Timestamp) -> Vec<WireEvent> {
    let message = |attributes| EventBody::Message {
        message_id: MessageId::parse("m").unwrap(),
        from: subscriber("alice"),
        content: Json::parse("null").unwrap(),
        attributes,
    };
    let bodies = [
        message(None),
        message(Some(Json::empty_object())),
        EventBody::SubscriberJoined {
            subscriber_id: subscriber("bob"),
            administrator: false,
        },
        EventBody::SubscriberLeft {
            subscriber_id: subscriber("bob"),
            reason: LeaveReason::Left,
        },
        EventBody::SubscriberLeft {
            subscriber_id: subscriber("bob"),
            reason: LeaveReason::Removed,
        },
        EventBody::AdministratorChanged {
            subscriber_id: subscriber("bob"),
            administrator: true,
        },
        EventBody::ChannelUpdated {
            name: "Team".to_owned(),
            attributes: Json::empty_object(),
        },
        EventBody::ChannelDeleted,
        EventBody::Void,
    ];
    (1..)
        .zip(bodies)
        .map(|(sequence, body)| {
            let event = Event {
                sequence,
                timestamp: now,
                body,
            };
            WireEvent::new(&event, |id| Presence::of(id, None))
        })
        .collect()
}
