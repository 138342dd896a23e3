//! What is said of a response that did not arrive.

use serde_json::{Value, json};
use testkit::memory::Forced;

use super::world;
use crate::world::types;

/// What a response told of a log is fetched after a `resync`; of anything else the client knows nothing, and has to ask again.
#[test]
fn a_response_that_did_not_arrive_is_not_said_to_have() {
    let say = json!({"type": "channel-message", "channel-id": "c", "content": "one", "message-id": "one"});
    for outcome in [Forced::UnknownLost, Forced::TooLarge] {
        let world = world(8);
        let anna = world.connect("anna");
        world.channel_of("c", &[&anna]);
        world.sockets().force_next(&anna.id, outcome);
        let frames = world.ask(&anna, json!({"type": "list-channels"}));
        assert_eq!(types(&frames), ["ack"], "{outcome:?}");
        assert_eq!(frames[0]["error"]["code"], "unavailable");
        world.sockets().force_next(&anna.id, outcome);
        let frames = world.ask(&anna, say.clone());
        assert_eq!(types(&frames), ["ack", "resync"], "{outcome:?}");
        assert_eq!(frames[0]["status"], true);
    }
}

/// A message that went down with its recipient's line waits for the next one.
#[test]
fn what_did_not_arrive_was_not_received() {
    for outcome in [Forced::Gone, Forced::UnknownLost, Forced::TooLarge] {
        let world = world(8);
        let anna = world.connect("anna");
        let to = json!({"type": "direct-message", "subscriber-id": "bob", "content": 1});
        assert_eq!(types(&world.ask(&anna, to)), ["delivery", "ack"]);
        let history = json!({"type": "get-history", "subscriber-id": "anna"});
        let bob = world.connect("bob");
        world.sockets().force_next(&bob.id, outcome);
        world.ask(&bob, history.clone());
        assert_eq!(world.take(&anna), [] as [Value; 0], "{outcome:?}");
        let again = world.connect("bob");
        world.ask(&again, history);
        let told = world.take(&anna);
        assert_eq!(types(&told), ["delivery"], "{outcome:?}");
        assert_eq!(told[0]["status"], "received");
    }
}
