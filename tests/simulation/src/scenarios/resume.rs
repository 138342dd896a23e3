//! A client that reconnects.

use serde_json::{Value, json};

use super::world;

/// Pages that do not fit the answer are marked as incomplete and are not read.
#[test]
fn resume_stops_reading_at_size_limit() {
    let world = world(1);
    let anna = world.connect("anna");
    world.channel_of("c", &[&anna]);
    for _ in 0..8 {
        let content = "x".repeat(16 * 1024 - 2);
        let say = json!({"type": "channel-message", "channel-id": "c", "content": content});
        world.ask(&anna, say);
    }
    let before = world.calls("entries_after");
    let position = |sequence: u64| json!({"channel-id": "c", "sequence": sequence});
    let positions: Vec<Value> = [position(0)]
        .into_iter()
        .cycle()
        .take(99)
        .chain([position(9)])
        .collect();
    let answer = world.ask(&anna, json!({"type": "resume", "positions": positions}));
    let destinations = answer[0]["destinations"].as_array().unwrap();
    assert_eq!(destinations.len(), 100);
    for (index, it) in destinations.iter().enumerate() {
        assert_eq!(it["last-sequence"], 9);
        assert_eq!(it["complete"], index == 99, "{index}");
        assert_eq!(it["events"] != json!([]), index == 0, "{index}");
    }
    let read = world.calls("entries_after") - before;
    assert!(read <= 16, "{read} pages");
}
