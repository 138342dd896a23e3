//! Removing or demoting a member while it writes.

use protocol::{EventBody, LogId};
use serde_json::{Value, json};

use super::world;
use crate::world::{Line, World, channel, of_type};

fn log() -> LogId {
    channel("d", "c")
}

fn remove(who: &str) -> Value {
    json!({"type": "remove-subscriber", "channel-id": "c", "subscriber-id": who})
}

fn say() -> Value {
    json!({"type": "channel-message", "channel-id": "c", "message-id": "m", "content": "late"})
}

fn two(world: &World) -> [Line; 2] {
    let lines = ["anna", "bob"].map(|id| world.connect(id));
    world.channel_of("c", &[&lines[0], &lines[1]]);
    lines
}

fn kinds(world: &World) -> Vec<&'static str> {
    world
        .entries(&log())
        .iter()
        .map(|entry| match &entry.event.body {
            EventBody::Message { .. } => "message",
            EventBody::SubscriberLeft { .. } => "left",
            EventBody::ChannelUpdated { .. } => "updated",
            EventBody::AdministratorChanged { .. } => "right",
            EventBody::Void => "void",
            _ => "joined",
        })
        .collect()
}

/// The message's slot comes after the slot of a removal that is still under way.
#[test]
fn message_behind_removal_is_refused() {
    let world = world(1);
    let [anna, bob] = two(&world);
    let end = || world.head(&log()).sequence;
    let before = end();
    let mut removing = world.hold(&anna, &remove("bob"));
    removing.until(|| end() > before);
    let mut sending = world.hold(&bob, &say());
    sending.until(|| end() > before + 1);
    removing.finish().unwrap();
    sending.finish().unwrap();
    world.settle();
    assert_eq!(kinds(&world), ["joined", "joined", "left", "void"]);
    let frames = world.take(&bob);
    let ack = of_type(&frames, "ack");
    assert_eq!(ack[0]["error"]["code"], "not-found", "{frames:?}");
}

/// The removal died after it took its slot, so it never happened.
#[test]
fn message_behind_dead_removal_is_stored() {
    let world = world(2);
    let [anna, bob] = two(&world);
    let end = || world.head(&log()).sequence;
    let before = end();
    let mut removing = world.hold(&anna, &remove("bob"));
    removing.until(|| end() > before);
    drop(removing);
    let answer = world.ask(&bob, say());
    assert_eq!(of_type(&answer, "ack")[0]["status"], true, "{answer:?}");
    world.settle();
    let kinds = kinds(&world);
    assert_eq!(kinds.iter().filter(|kind| **kind == "message").count(), 1);
    assert!(!kinds.contains(&"left"), "{kinds:?}");
}

#[test]
fn demoted_administrator_changes_nothing() {
    let world = world(3);
    let [anna, bob] = two(&world);
    let right = |administrator: bool| json!({"type": "set-administrator", "channel-id": "c", "subscriber-id": "bob", "administrator": administrator});
    world.ask(&anna, right(true));
    world.take(&bob);
    let allocations = || world.calls("allocate");
    let before = allocations();
    let update = json!({"type": "update-channel", "channel-id": "c", "name": "Mine"});
    let mut updating = world.hold(&bob, &update);
    updating.until(|| allocations() > before);
    world.ask(&anna, right(false));
    updating.finish().unwrap();
    world.settle();
    let frames = world.take(&bob);
    let ack = of_type(&frames, "ack");
    assert_eq!(ack[0]["error"]["code"], "forbidden", "{frames:?}");
    assert!(!kinds(&world).contains(&"updated"));
}
