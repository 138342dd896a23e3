//! What a message may find in the store. It is as full as possible, so that each decision goes as far as it can.

use protocol::{
    Availability, ChannelId, ChannelSubscriber, Conversation, Destination, Event, EventBody, Json,
    Known, Membership, MessageId, SubscriberId, Timestamp,
    change::{Invitation, Member, Profile, Roster},
    decision::{History, Listed},
    digest::sha256_hex,
    limits,
    model::Presence,
    wire_event::WireEvent,
};

/// More than fits one server message at the size that the items have here, and not many more, because every text visits
/// each item.
const EVENTS: u64 = 12;
const ITEMS: usize = 24;

/// What an administrator finds in a channel with two other members and long pages of everything.
#[must_use]
pub fn administrator(now: Timestamp) -> Known {
    Known {
        own_member: Some(member("alice", true, 1)),
        other_member: Some(member("bob", false, 2)),
        seniors: vec![member("alice", true, 1), member("bob", false, 2)],
        ..common(now)
    }
}

/// What an invited subscriber finds.
#[must_use]
pub fn invited(now: Timestamp) -> Known {
    Known {
        invitation: Some(Invitation {
            channel: channel("team"),
            from: Some(subscriber("bob")),
            at: now,
        }),
        ..common(now)
    }
}

fn common(now: Timestamp) -> Known {
    let history = History {
        events: (1..=EVENTS).map(|sequence| event(sequence, now)).collect(),
        more: true,
        first_sequence: 1,
        last_sequence: EVENTS,
    };
    Known {
        profile: Some(Profile {
            name: "😀".repeat(limits::NAME_CHARACTERS),
            attributes: attributes(),
            invite_hash: Some(sha256_hex(b"s3cret")),
            creator: Some(subscriber("alice")),
            version: 3,
        }),
        roster: Some(Roster {
            open: true,
            members: 3,
            administrators: 1,
            version: 4,
        }),
        last_sequence: EVENTS,
        membership_count: 7,
        members: listed(|id| ChannelSubscriber {
            presence: presence(id),
            administrator: false,
        }),
        memberships: listed(|id| Membership {
            channel_id: channel(id),
            name: "\u{0}".repeat(limits::NAME_CHARACTERS),
            administrator: true,
            attributes: attributes(),
            last_sequence: 9,
            read_sequence: 1,
            unread: 8,
        }),
        conversations: listed(|id| Conversation {
            subscriber_id: subscriber(id),
            last_sequence: 9,
            read_sequence: 1,
            unread: 8,
            timestamp: now,
        }),
        // Some positions may not be readable, and there may be more of them than the client asked for.
        resumed: vec![Some(history.clone()), None, Some(history.clone())],
        resumed_new: (0..50)
            .map(|number| (Destination::Channel(channel(&format!("new-{number}"))), 5))
            .collect(),
        history: Some(history),
        ..Known::default()
    }
}

fn listed<T>(item: impl Fn(&str) -> T) -> Listed<T> {
    Listed {
        items: (0..ITEMS)
            .map(|number| item(&format!("{number:0width$}", width = limits::ID_CHARACTERS)))
            .collect(),
        next: Some("next".to_owned()),
    }
}

fn event(sequence: u64, now: Timestamp) -> WireEvent {
    let content = format!("\"{}\"", "é".repeat(limits::CONTENT_BYTES / 2 - 1));
    let body = match sequence {
        1 => EventBody::Void,
        2 => EventBody::SubscriberJoined {
            subscriber_id: subscriber("bob"),
            administrator: false,
        },
        _ => EventBody::Message {
            message_id: MessageId::parse("m").expect("valid id"),
            from: subscriber("bob"),
            content: Json::parse(&content).expect("valid JSON"),
            attributes: Some(attributes()),
        },
    };
    WireEvent::new(
        &Event {
            sequence,
            timestamp: now,
            body,
        },
        |_| presence("bob"),
    )
}

fn presence(id: &str) -> Presence {
    Presence {
        id: subscriber(id),
        status: "\u{1f}".repeat(limits::STATUS_CHARACTERS),
        availability: Availability::Busy,
        attributes: attributes(),
    }
}

/// Attributes of the greatest length, which grow further when they are SockJS-framed.
fn attributes() -> Json {
    let frame = r#"{"":""}"#;
    let value = "\"".repeat((limits::ATTRIBUTES_BYTES - frame.len()) / 2);
    Json::parse(&format!(r#"{{"":"{}"}}"#, value.replace('"', "\\\""))).expect("valid JSON")
}

fn member(id: &str, administrator: bool, joined: u64) -> Member {
    Member {
        subscriber: subscriber(id),
        administrator,
        joined,
        left: None,
        displayed: 0,
        read: 0,
    }
}

fn subscriber(id: &str) -> SubscriberId {
    SubscriberId::parse(id).expect("valid id")
}

fn channel(id: &str) -> ChannelId {
    ChannelId::parse(id).expect("valid id")
}
