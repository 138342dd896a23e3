//! Responses that did not arrive.

use serde_json::{Value, json};
use testkit::memory::Forced;

use super::world;
use crate::world::types;

/// A lost response about a log is followed by a `resync`. After any other lost response the client must ask again.
#[test]
fn lost_response_yields_error_or_resync() {
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

/// A message is not received if the post to its recipient failed. It is received over the next connection.
#[test]
fn undelivered_history_is_not_received() {
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
