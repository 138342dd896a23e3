//! Instances of every server message.

use protocol::{
    Availability, ChannelId, ChannelSubscriber, Conversation, DeliveryStatus, Destination, Domain,
    Event, EventBody, Json, LeaveReason, Membership, MessageId, Rejection, ServerMessage,
    SubscriberId, Timestamp,
    limits::LIMITS,
    model::Presence,
    server_message::{DisconnectCode, ResumedDestination, TypingDestination},
    wire_event::{PushedEvent, WireEvent},
};

/// Returns at least one of each server message. Each optional field is present in one message and absent in another.
pub(crate) fn everything() -> Vec<ServerMessage> {
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
        error: Some(error), ..
    } = &mut busy
    {
        error.retry_after = Some(1);
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
        // Conversations contain messages only, which come first in `events`.
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

/// Fails to compile after a new message was added. The message then also belongs in `everything` and in the document.
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

/// Returns at least one event of each kind, messages first.
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

fn subscriber(text: &str) -> SubscriberId {
    SubscriberId::parse(text).unwrap()
}

fn channel(text: &str) -> ChannelId {
    ChannelId::parse(text).unwrap()
}
