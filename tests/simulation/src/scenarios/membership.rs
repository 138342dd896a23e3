//! Membership, when many change it at once.

use core::time::Duration;
use std::collections::BTreeMap;

use protocol::EventBody;
use serde_json::{Value, json};
use service::ports::{Channels as _, Job, Logs as _};
use testkit::memory::Failure;

use super::world;
use crate::world::{Line, World, channel, of_type, sequences, types};

fn leave() -> Value {
    json!({"type": "leave-channel", "channel-id": "c", "id": "x"})
}

fn join() -> Value {
    json!({"type": "join-channel", "channel-id": "c", "invite-token": "t", "id": "x"})
}

/// The members and whether each is an administrator, by rows. Fails if roster or log disagree.
fn members(world: &World) -> BTreeMap<String, bool> {
    let service = world.service.clone();
    let log = channel("d", "c");
    let protocol::LogId::Channel(key) = log.clone() else {
        unreachable!()
    };
    let (rows, roster, entries) = world.run(async move {
        let rows = service.store.members(&key, None, 100).await.unwrap().items;
        let roster = service.store.roster(&key).await.unwrap().unwrap();
        let slice = service.store.entries_after(&log, 0, 1_000, 100).await;
        (rows, roster, slice.unwrap().entries)
    });
    let rows: BTreeMap<String, bool> = rows
        .into_iter()
        .filter(|it| it.is_current())
        .map(|it| (it.subscriber.to_string(), it.administrator))
        .collect();
    assert_eq!(usize::try_from(roster.members).unwrap(), rows.len());
    let administrators = rows.values().filter(|it| **it).count();
    assert_eq!(
        usize::try_from(roster.administrators).unwrap(),
        administrators
    );
    assert!(
        rows.is_empty() || administrators > 0,
        "no administrator is left: {rows:?}"
    );
    assert_eq!(rows, replayed(&entries), "the log and the rows disagree");
    rows
}

/// The members according to the log.
fn replayed(entries: &[protocol::change::LogEntry]) -> BTreeMap<String, bool> {
    use protocol::EventBody::{AdministratorChanged, SubscriberJoined, SubscriberLeft};
    let mut members = BTreeMap::new();
    for entry in entries {
        match &entry.event.body {
            SubscriberJoined {
                subscriber_id,
                administrator,
            }
            | AdministratorChanged {
                subscriber_id,
                administrator,
            } => {
                members.insert(subscriber_id.to_string(), *administrator);
            }
            SubscriberLeft { subscriber_id, .. } => {
                members.remove(subscriber_id.as_str());
            }
            _ => {}
        }
    }
    members
}

fn three(world: &World) -> [Line; 3] {
    let lines = ["anna", "bob", "carl"].map(|id| world.connect(id));
    world.channel_of("c", &[&lines[0], &lines[1], &lines[2]]);
    lines
}

#[test]
fn concurrent_leaves_keep_an_administrator() {
    for seed in 0..200 {
        let world = world(seed);
        let [anna, bob, carl] = three(&world);
        let leaving = [&anna, &bob].map(|line| world.send(line, &leave()));
        world.settle();
        for handler in leaving {
            handler.take().unwrap().unwrap();
        }
        for line in [&anna, &bob] {
            let frames = world.take(line);
            assert_eq!(of_type(&frames, "ack")[0]["status"], true, "seed {seed}");
        }
        assert_eq!(
            members(&world),
            [("carl".to_owned(), true)].into(),
            "seed {seed}"
        );
        let head = world.head(&channel("d", "c"));
        assert_eq!(
            (head.sent, head.lease),
            (head.sequence, None),
            "seed {seed}"
        );
        assert!(sequences(&world.take(&carl)).is_sorted());
    }
}

#[test]
fn channel_closes_when_last_two_leave() {
    for seed in 0..100 {
        let world = world(seed);
        let (anna, bob) = (world.connect("anna"), world.connect("bob"));
        world.channel_of("c", &[&anna, &bob]);
        for line in [&anna, &bob] {
            world.send(line, &leave());
        }
        world.settle();
        assert_eq!(members(&world), BTreeMap::new(), "seed {seed}");
        world.take(&anna);
        let answer = world.ask(&anna, join());
        assert_eq!(
            of_type(&answer, "ack")[0]["error"]["code"],
            "not-found",
            "seed {seed}"
        );
    }
}

/// Two connections of one subscriber join and leave at once. The log and the rows must agree.
#[test]
fn racing_rejoins_keep_log_consistent() {
    for seed in 0..300 {
        let world = world(seed);
        let [_, bob, _] = three(&world);
        let other = world.connect("bob");
        for (line, message) in [
            (&bob, leave()),
            (&other, join()),
            (&bob, join()),
            (&other, leave()),
            (&bob, join()),
        ] {
            world.send(line, &message);
        }
        world.settle();
        let members = members(&world);
        assert!(members.len() >= 2, "seed {seed}");
        let acks =
            of_type(&world.take(&bob), "ack").len() + of_type(&world.take(&other), "ack").len();
        assert_eq!(acks, 5, "seed {seed}");
    }
}

/// A slow join has allocated its slot. Meanwhile the same subscriber joins and leaves on another connection.
#[test]
fn overtaken_join_takes_later_slot() {
    let world = world(1);
    let [anna, _, _] = three(&world);
    let (dora, other) = (world.connect("dora"), world.connect("dora"));
    let before = world.calls("allocate");
    let mut slow = world.hold(&dora, &join());
    slow.until(|| world.calls("allocate") > before);
    world.ask(&other, join());
    world.ask(&other, leave());
    slow.finish().unwrap();
    world.settle();
    assert_eq!(members(&world).get("dora"), Some(&false));
    assert!(sequences(&world.take(&anna)).is_sorted());
}

#[test]
fn lost_transaction_answer_applies_once() {
    for failure in [
        Failure::UnknownApplied,
        Failure::UnknownNotApplied,
        Failure::Refused,
        Failure::Conflict,
    ] {
        let world = world(2);
        let [anna, ..] = three(&world);
        let dora = world.connect("dora");
        world.service.store.faults().next("change", failure);
        let answer = world.ask(&dora, join());
        assert_eq!(types(&answer), ["channel-joined", "ack"], "{failure:?}");
        let frames = world.take(&anna);
        let joined = of_type(&frames, "subscriber-joined").len();
        assert_eq!(joined, 1, "{failure:?}: {frames:?}");
        assert_eq!(members(&world).len(), 4);
        world.service.store.faults().next("change", failure);
        let created = world.ask(
            &dora,
            json!({"type": "create-channel", "channel-id": "e", "name": "E"}),
        );
        assert_eq!(types(&created)[..2], ["invitation", "ack"], "{failure:?}");
    }
}

#[test]
fn retry_repairs_dead_change() {
    for after in ["allocate", "change", "release"] {
        let world = world(3);
        let [anna, ..] = three(&world);
        let dora = world.connect("dora");
        let before = world.calls(after);
        let mut handler = world.hold(&dora, &join());
        handler.until(|| world.calls(after) > before);
        drop(handler);
        world.take(&dora);
        let repeat = world.ask(&dora, join());
        assert_eq!(
            of_type(&repeat, "ack")[0]["status"],
            true,
            "{after}: {repeat:?}"
        );
        world.sim.clock().advance(Duration::from_secs(15));
        world.sweep();
        world.settle();
        let end = world.head(&channel("d", "c")).sequence;
        let frames = world.take(&anna);
        let told = frames.iter().any(|frame| {
            frame["sequence"].as_u64() == Some(end) || frame["last-sequence"].as_u64() == Some(end)
        });
        assert!(told, "{after}: {frames:?}");
        assert_eq!(members(&world).len(), 4, "{after}");
    }
}

#[test]
fn leaving_member_gets_nothing_afterwards() {
    let world = world(4);
    let [anna, bob, _] = three(&world);
    let other = world.connect("bob");
    assert_eq!(types(&world.ask(&bob, leave())), ["channel-left", "ack"]);
    world.ask(
        &anna,
        json!({"type": "channel-message", "channel-id": "c", "content": "secret"}),
    );
    assert_eq!(types(&world.take(&other)), ["subscriber-left"]);
    assert_eq!(world.take(&bob), [] as [Value; 0]);
    let answer = world.ask(&bob, json!({"type": "get-history", "channel-id": "c"}));
    assert_eq!(answer[0]["error"]["code"], "not-found");
}

#[test]
fn domains_with_equal_names_never_mix() {
    let world = world(5);
    let lines = ["d", "e"].map(|domain| {
        ["anna", "bob"].map(|id| {
            let line = world.line(&crate::world::subscriber(domain, id));
            world.settle();
            line
        })
    });
    for [anna, bob] in &lines {
        world.channel_of("c", &[anna, bob]);
    }
    let [[anna, bob], [other_anna, other_bob]] = &lines;
    world.ask(
        anna,
        json!({"type": "channel-message", "channel-id": "c", "content": 1}),
    );
    world.ask(
        anna,
        json!({"type": "direct-message", "subscriber-id": "bob", "content": 2}),
    );
    world.ask(anna, json!({"type": "announce", "availability": "busy"}));
    assert_eq!(
        types(&world.take(bob)),
        ["channel-message", "direct-message", "presence"]
    );
    assert_eq!(
        world.take(other_anna).len() + world.take(other_bob).len(),
        0
    );
}

/// The row of a former member lets it read, and counts towards its channels.
#[test]
fn worker_removes_rows_of_deleted_channel() {
    let world = world(12);
    let (anna, bob) = (world.connect("anna"), world.connect("bob"));
    world.channel_of("c", &[&anna, &bob]);
    let protocol::LogId::Channel(key) = channel("d", "c") else {
        return;
    };
    let mut handler = world.hold(&anna, &json!({"type": "delete-channel", "channel-id": "c"}));
    handler.until(|| world.service.store.rows(&key).is_none());
    drop(handler);
    world.settle();
    for line in [&anna, &bob] {
        let row = world.service.store.row(&key, &line.subscriber().id);
        assert!(row.is_some_and(|it| !it.is_current()));
    }
    let listed = world.ask(&bob, json!({"type": "list-channels"}));
    assert_eq!(of_type(&listed, "channels")[0]["channels"], json!([]));
}

/// Its log accepts nothing any more, so members could not even leave.
#[test]
fn half_deleted_channel_still_ends() {
    let world = world(12);
    let (anna, bob) = (world.connect("anna"), world.connect("bob"));
    world.channel_of("c", &[&anna, &bob]);
    let log = channel("d", "c");
    let mut handler = world.hold(&anna, &json!({"type": "delete-channel", "channel-id": "c"}));
    handler.until(|| !world.head(&log).active);
    drop(handler);
    world.settle();
    for line in [&anna, &bob] {
        let listed = world.ask(line, json!({"type": "list-channels"}));
        assert_eq!(of_type(&listed, "channels")[0]["channels"], json!([]));
    }
    let end = world.entries(&log).last().map(|it| it.event.body.clone());
    let is_end = matches!(end, Some(EventBody::ChannelDeleted | EventBody::Void));
    assert!(is_end, "{end:?}");
}

/// Two administrators: one deletes the channel, the other demotes it. The demotion's slot precedes the slot of the end.
#[test]
fn deletion_survives_demoted_administrator() {
    let world = world(13);
    let (anna, bob) = (world.connect("anna"), world.connect("bob"));
    world.channel_of("c", &[&anna, &bob]);
    let right = |who: &str, administrator: bool| json!({"type": "set-administrator", "channel-id": "c", "subscriber-id": who, "administrator": administrator});
    world.ask(&anna, right("bob", true));
    let (allocations, looks) = (|| world.calls("allocate"), || world.calls("head"));
    let before = (allocations(), looks());
    let mut deleting = world.hold(&anna, &json!({"type": "delete-channel", "channel-id": "c"}));
    deleting.until(|| looks() > before.1);
    let mut demoting = world.hold(&bob, &right("anna", false));
    demoting.until(|| allocations() > before.0);
    deleting.until(|| allocations() > before.0 + 1);
    demoting.finish().unwrap();
    deleting.finish().unwrap();
    world.settle();
    let frames = world.take(&anna);
    assert_eq!(of_type(&frames, "channel-deleted").len(), 1, "{frames:?}");
    // The slot of the end may have been voided meanwhile.
    let frames = world.take(&bob);
    let last = frames.last().unwrap();
    assert!(
        last["type"] == "channel-deleted" || last["type"] == "resync",
        "{frames:?}"
    );
    let log = channel("d", "c");
    assert!(!world.head(&log).active);
    let protocol::LogId::Channel(key) = log else {
        return;
    };
    assert!(
        world.service.store.rows(&key).is_none(),
        "the channel is still open"
    );
}

/// The worker removes the members' rows later. Until then no client may see the channel as existing.
#[test]
fn deleted_channel_disappears_at_once() {
    let list = || json!({"type": "list-channels", "id": "x"});
    let create = || json!({"type": "create-channel", "channel-id": "c", "name": "c", "invite-token": "t", "id": "x"});
    for (anna_asks, bob_asks) in [(list(), list()), (create(), leave()), (join(), join())] {
        let world = world(8);
        let (anna, bob) = (world.connect("anna"), world.connect("bob"));
        world.channel_of("c", &[&anna, &bob]);
        let delete = json!({"type": "delete-channel", "channel-id": "c"});
        let before = world.calls("change");
        let mut deleting = world.hold(&anna, &delete);
        deleting.until(|| world.calls("change") > before);
        deleting.step();
        let asked =
            [(&anna, &anna_asks), (&bob, &bob_asks)].map(|(line, asks)| world.send(line, asks));
        while asked.iter().any(|it| it.is_running()) {
            world.sim.run_for(Duration::from_millis(1));
        }
        let dismantled = |it: &Job| matches!(it, Job::Dismantle { .. });
        assert!(
            !world.jobs_done().iter().any(dismantled),
            "the worker removed the rows too early for this test"
        );
        for (line, asks) in [(&anna, &anna_asks), (&bob, &bob_asks)] {
            let frames = world.take(line);
            let answer: Vec<&Value> = frames.iter().filter(|it| it["reply-to"] == "x").collect();
            match asks["type"].as_str().unwrap() {
                "list-channels" => assert_eq!(answer[0]["channels"], json!([])),
                "leave-channel" => assert_eq!(answer[0]["type"], "channel-left"),
                "create-channel" => assert_eq!(answer[0]["error"]["code"], "conflict"),
                _ => assert_eq!(answer[0]["error"]["code"], "not-found"),
            }
        }
    }
}

/// No client is told of it any more, so the invited subscriber could not decline it.
#[test]
fn connecting_removes_dead_invitation() {
    let world = world(8);
    let anna = world.connect("anna");
    world.channel_of("c", &[&anna]);
    let invite = json!({"type": "invite-subscriber", "channel-id": "c", "subscriber-id": "bob"});
    world.ask(&anna, invite);
    let first = world.connect("bob");
    assert_eq!(types(&world.take(&first)), ["invitation"]);
    let delete = json!({"type": "delete-channel", "channel-id": "c"});
    world.ask(&anna, delete);
    let second = world.connect("bob");
    assert_eq!(world.take(&second), [] as [Value; 0]);
    let service = world.service.clone();
    let bob = second.subscriber().clone();
    let left = world.run(async move { service.store.invitations(&bob, None, 10).await });
    assert_eq!(left.unwrap().items, []);
}

/// Adjacent voided slots cause one resync, however many there are.
#[test]
fn adjacent_voids_make_one_resync() {
    let world = world(8);
    let anna = world.connect("anna");
    world.channel_of("c", &[&anna]);
    let others: Vec<Line> = (0..12)
        .map(|n| world.connect(&format!("o{n:02}")))
        .collect();
    let joining: Vec<_> = others.iter().map(|it| world.send(it, &join())).collect();
    world.settle();
    for handler in joining {
        handler.take().unwrap().unwrap();
    }
    assert_eq!(members(&world).len(), 13);
    let frames = world.take(&anna);
    assert!(!of_type(&frames, "resync").is_empty(), "no slot was voided");
    for pair in frames.windows(2) {
        let is_same = pair[0]["type"] == "resync" && pair[0] == pair[1];
        assert!(!is_same, "{pair:?}");
    }
}

/// The log ends first. Between that and the roster's end a leave must not fail with `not-found`.
#[test]
fn leaving_during_deletion_succeeds() {
    let world = world(8);
    let (anna, bob) = (world.connect("anna"), world.connect("bob"));
    world.channel_of("c", &[&anna, &bob]);
    let delete = json!({"type": "delete-channel", "channel-id": "c"});
    let before = world.calls("change");
    let mut deleting = world.hold(&anna, &delete);
    deleting.until(|| !world.head(&channel("d", "c")).active);
    assert_eq!(
        world.calls("change"),
        before,
        "the roster must still be open"
    );
    let leaving = world.send(&bob, &leave());
    world.sim.run_for(Duration::from_millis(100));
    assert!(leaving.is_running());
    deleting.finish().unwrap();
    world.settle();
    leaving.take().unwrap().unwrap();
    let frames = world.take(&bob);
    let answer: Vec<&Value> = frames.iter().filter(|it| it["reply-to"] == "x").collect();
    assert_eq!(answer[0]["type"], "channel-left");
    assert_eq!(answer[1]["status"], true);
}
