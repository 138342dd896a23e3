//! A client that comes back.

use serde_json::{Value, json};

use super::world;

/// What does not fit the answer is said to be incomplete and not read.
#[test]
fn a_hundred_full_pages_are_not_read_for_one_answer() {
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
    for (place, it) in destinations.iter().enumerate() {
        assert_eq!(it["last-sequence"], 9);
        assert_eq!(it["complete"], place == 99, "{place}");
        assert_eq!(it["events"] != json!([]), place == 0, "{place}");
    }
    let read = world.calls("entries_after") - before;
    assert!(read <= 16, "{read} pages");
}
