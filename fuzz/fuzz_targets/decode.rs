//! Input: any text. Decoding, `needs` and `decide` never panic, and every answer is one frame that replies to the
//! input.
#![no_main]

use std::sync::LazyLock;

use fuzz::{Frame, administrator, invited};
use libfuzzer_sys::fuzz_target;
use protocol::{
    ConnectionId, Context, Decoded, Domain, Known, ServerMessage, Subscriber, SubscriberId,
    Timestamp, decision::Commit, decode, limits,
};

const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// Nothing, and what an administrator and an invited subscriber find.
static KNOWN: LazyLock<[Known; 3]> =
    LazyLock::new(|| [Known::default(), administrator(NOW), invited(NOW)]);

fuzz_target!(|text: &str| {
    let (id, message) = match decode(text) {
        Decoded::Ignored => return,
        Decoded::Rejected { id, rejection } => {
            assert_ack(id, Some(rejection));
            return;
        }
        Decoded::Message { id, message } => (id, message),
    };
    assert!(text.len() <= limits::CLIENT_MESSAGE_BYTES);
    assert_ack(id.clone(), None);
    for subscriber in ["alice", "-0"] {
        let subscriber = Subscriber {
            domain: Domain::parse("d").expect("valid id"),
            id: SubscriberId::parse(subscriber).expect("valid id"),
        };
        let needs = message.needs(&subscriber);
        let _ = message.idempotency(&subscriber);
        let context = Context {
            subscriber,
            connection: ConnectionId("c=".to_owned()),
            reply_to: id.clone(),
            now: NOW,
            since: NOW,
            token_expires_at: Some(NOW),
            fresh_id: "fresh".to_owned(),
        };
        for known in KNOWN.iter() {
            match message.decide(&context, known) {
                Err(rejection) => assert_ack(id.clone(), Some(rejection)),
                Ok(decision) => {
                    let mut response = decision.response;
                    if let Commit::Change(plan) = &decision.commit {
                        let origin = Some(&context.connection);
                        let (_, answer) = plan.settle(7, NOW, "nonce", origin);
                        response = response.or(answer);
                    }
                    if let Some(response) = response {
                        assert!(needs.response, "`needs` did not announce a response");
                        assert_reply(&response, id.as_deref());
                    }
                }
            }
        }
    }
});

fn assert_ack(id: Option<String>, error: Option<protocol::Rejection>) {
    let ack = ServerMessage::Ack {
        status: error.is_none(),
        id: id.clone(),
        error,
    };
    assert_eq!(assert_reply(&ack, id.as_deref()).message_type, "ack");
}

fn assert_reply(message: &ServerMessage, id: Option<&str>) -> Frame {
    let frame = Frame::of(&message.encode(id));
    assert_eq!(frame.reply_to.as_deref(), id);
    frame
}
