//! Channel changes are atomic.

use futures::future::join_all;
use protocol::{
    ChannelId, ChannelKey, SubscriberId,
    change::{Change, Invitation, LogEntry, Member, Profile, Replace, Roster, RowChange},
};
use service::ports::{Channels, Fault, Head, Logs};

use super::fixtures::{
    DAY, Tenant, allocation, creation, joined, left, now, person, profile, roster, rows, void, walk,
};

const PEOPLE: [&str; 7] = ["ada", "bob", "cyd", "dan", "eve", "fay", "gus"];

/// Everything that a change can touch.
#[derive(Debug, PartialEq)]
struct Snapshot {
    profile: Option<Profile>,
    roster: Option<Roster>,
    head: Option<Head>,
    entries: Vec<LogEntry>,
    members: Vec<Member>,
    seniors: Vec<SubscriberId>,
    sides: Vec<(Vec<ChannelId>, usize, Option<Invitation>)>,
}

async fn snapshot<S: Channels + Logs>(store: &S, tenant: &Tenant, key: &ChannelKey) -> Snapshot {
    let mut entries = Vec::new();
    for sequence in 1..=12 {
        entries.extend(store.entry(&key.log(), sequence).await.unwrap());
    }
    let members = walk(50, async |after: Option<Member>| {
        let after = after.map(|it| it.subscriber);
        store.members(key, after.as_ref(), 50).await
    });
    let members = members.await;
    let mut sides = Vec::new();
    for id in PEOPLE {
        let subscriber = tenant.subscriber(id);
        let channels = walk(50, async |after: Option<ChannelId>| {
            store.memberships(&subscriber, after.as_ref(), 50).await
        });
        sides.push((
            channels.await,
            store.count_memberships(&subscriber).await.unwrap(),
            store.invitation(&subscriber, &key.id).await.unwrap(),
        ));
    }
    Snapshot {
        profile: store.profile(key).await.unwrap(),
        roster: store.roster(key).await.unwrap(),
        head: store.head(&key.log()).await.unwrap(),
        entries,
        members,
        seniors: store.seniors(key, 50).await.unwrap(),
        sides,
    }
}

fn invited(id: &str) -> RowChange {
    RowChange::Invited {
        subscriber: person(id),
        from: Some(person("ada")),
    }
}

/// The row change of an administrator who leaves.
fn administrator_left(id: &str, joined: u64) -> RowChange {
    RowChange::Left {
        subscriber: person(id),
        administrator: true,
        joined,
        sequence: 6,
    }
}

fn right(id: &str, joined: u64, administrator: bool) -> RowChange {
    RowChange::Administrator {
        subscriber: person(id),
        joined,
        administrator,
    }
}

/// A channel with two members, one former member, two invitations, and ten allocated slots.
async fn furnished<S: Channels + Logs>(store: &S, tenant: &Tenant) -> ChannelKey {
    let channel = tenant.channel("c");
    store.change(&creation(&channel)).await.unwrap();
    store
        .allocate(&channel.log(), &allocation(9, "one"))
        .await
        .unwrap();
    let all = vec![
        joined("bob", 2),
        joined("dan", 3),
        invited("cyd"),
        invited("fay"),
    ];
    store.change(&rows(&channel, all)).await.unwrap();
    store
        .change(&rows(&channel, vec![left("dan", 3, 4)]))
        .await
        .unwrap();
    channel
}

/// A change of everything at once. All its conditions hold on the furnished channel.
fn everything(channel: &ChannelKey) -> Change {
    Change {
        entries: vec![void(5), void(6)],
        roster: Some(Replace {
            expect: Some(1),
            to: roster(2),
        }),
        profile: Some(Replace {
            expect: Some(1),
            to: profile(2),
        }),
        ..rows(
            channel,
            vec![
                joined("cyd", 5),
                left("bob", 2, 6),
                right("ada", 1, false),
                invited("eve"),
                RowChange::Uninvited {
                    subscriber: person("fay"),
                },
            ],
        )
    }
}

/// A change with any one condition violated leaves nothing behind. Then the same change, with all conditions met,
/// applies once.
pub async fn change_is_atomic<S: Channels + Logs>(store: &S) {
    let tenant = Tenant::new();
    let channel = furnished(store, &tenant).await;
    let before = snapshot(store, &tenant, &channel).await;
    let good = everything(&channel);

    let mut bad: Vec<(&str, Change)> = Vec::new();
    let mut violate = |what: &'static str, violate: &dyn Fn(&mut Change)| {
        let mut change = good.clone();
        violate(&mut change);
        bad.push((what, change));
    };
    violate("the first slot is taken", &|it| it.entries[0] = void(1));
    violate("the last slot is taken", &|it| it.entries[1] = void(1));
    violate("the head exists", &|it| it.head = Some(9));
    for expect in [None, Some(0), Some(2)] {
        violate("the roster has another version", &|it| {
            it.roster = it
                .roster
                .take()
                .map(|replace| Replace { expect, ..replace });
        });
        violate("the profile has another version", &|it| {
            it.profile = it
                .profile
                .take()
                .map(|replace| Replace { expect, ..replace });
        });
    }
    for (what, row) in [
        ("joins but is a member", joined("bob", 5)),
        ("leaves with a wrong join", left("bob", 3, 6)),
        ("leaves but never joined", left("gus", 2, 6)),
        ("leaves but has left", left("dan", 3, 6)),
        (
            "leaves but has lost the right",
            administrator_left("bob", 2),
        ),
        ("promoted with a wrong join", right("ada", 2, true)),
        ("promoted but is an administrator", right("ada", 1, true)),
        (
            "demoted but is not an administrator",
            right("bob", 2, false),
        ),
        ("promoted but never joined", right("gus", 2, true)),
        ("promoted but has left", right("dan", 3, true)),
    ] {
        // First and last, so that no order of writes hides it.
        violate(what, &|it| {
            it.rows = vec![row.clone(), invited("eve"), joined("cyd", 5)]
        });
        violate(what, &|it| {
            it.rows = vec![joined("cyd", 5), invited("eve"), row.clone()]
        });
    }
    for (what, change) in bad {
        let answer = store.change(&change).await;
        assert!(matches!(answer, Err(Fault::Conflict)), "{what}: {answer:?}");
        let after = snapshot(store, &tenant, &channel).await;
        assert_eq!(after, before, "{what}");
    }
    store.change(&good).await.unwrap();
    let after = snapshot(store, &tenant, &channel).await;
    let answer = store.change(&good).await;
    assert!(matches!(answer, Err(Fault::Conflict)), "{answer:?}");
    assert_eq!(
        snapshot(store, &tenant, &channel).await,
        after,
        "applied once only"
    );

    // A change that expects a version fails if the row does not exist.
    let absent = tenant.channel("absent");
    let nothing = snapshot(store, &tenant, &absent).await;
    let mut change = creation(&absent);
    change.roster = Some(Replace {
        expect: Some(1),
        to: roster(2),
    });
    assert!(matches!(store.change(&change).await, Err(Fault::Conflict)));
    assert_eq!(snapshot(store, &tenant, &absent).await, nothing);
}

/// A change takes effect on both sides of each of its rows.
pub async fn change_moves_members<S: Channels + Logs>(store: &S) {
    let tenant = Tenant::new();
    let channel = furnished(store, &tenant).await;
    let before = snapshot(store, &tenant, &channel).await;
    let change = everything(&channel);
    store.change(&change).await.unwrap();
    let after = snapshot(store, &tenant, &channel).await;

    assert_eq!(
        (after.roster, after.profile),
        (Some(roster(2)), Some(profile(2)))
    );
    assert_eq!(after.head, before.head, "only creation touches the head");
    assert_eq!(after.entries[1..], change.entries);
    let rows: Vec<_> = after
        .members
        .iter()
        .map(|it| (it.subscriber.as_str(), it.administrator, it.joined, it.left))
        .collect();
    assert_eq!(
        rows,
        [
            ("ada", false, 1, None),
            ("bob", false, 2, Some(6)),
            ("cyd", false, 5, None),
            ("dan", false, 3, Some(4)),
        ]
    );
    assert_eq!(after.seniors, [person("ada"), person("cyd")]);
    let sides: Vec<_> = after
        .sides
        .iter()
        .map(|(channels, count, invitation)| (channels.len(), *count, invitation.is_some()))
        .collect();
    let (member, invited, neither) = ((1, 1, false), (0, 0, true), (0, 0, false));
    assert_eq!(
        sides,
        [member, neither, member, neither, invited, neither, neither],
        "{PEOPLE:?}: joining uses up the invitation"
    );
}

/// Of many changes that read the same roster exactly one applies.
pub async fn changes_exclude_each_other<S: Channels + Logs>(store: &S) {
    let tenant = Tenant::new();
    let channel = furnished(store, &tenant).await;
    for version in 1..=4 {
        let changes = ["cyd", "eve", "fay", "gus"].map(|id| Change {
            roster: Some(Replace {
                expect: Some(version),
                to: Roster {
                    members: version + 2,
                    ..roster(version + 1)
                },
            }),
            ..rows(&channel, vec![joined(id, 10 + version)])
        });
        let done = loop {
            let answers = join_all(changes.iter().map(|it| store.change(it))).await;
            let done = answers.iter().filter(|it| it.is_ok()).count();
            let others = answers
                .iter()
                .filter(|it| matches!(it, Err(Fault::Conflict)))
                .count();
            assert_eq!(done + others, changes.len(), "{answers:?}");
            // All may have conflicted with each other.
            if done > 0 || store.roster(&channel).await.unwrap() != Some(roster(version)) {
                break done;
            }
        };
        // From the second round on some subscribers are members already, which is a conflict too.
        assert_eq!(done, 1);
        let stands = store.roster(&channel).await.unwrap().unwrap();
        assert_eq!((stands.version, stands.members), (version + 1, version + 2));
        let joined = store.seniors(&channel, 50).await.unwrap().len();
        assert_eq!(u64::try_from(joined).unwrap(), version + 2);
    }
}

/// The tombstone of a former member is visible for a day. The subscriber can join again at any time.
pub async fn tombstones_end<S: Channels>(store: &S) {
    let channel = Tenant::new().channel("c");
    let all = vec![joined("new", 1), joined("old", 2), joined("stays", 3)];
    store.change(&rows(&channel, all)).await.unwrap();
    let leave = |id: &str, joined, ago: i64| Change {
        at: now().plus_seconds(-ago),
        ..rows(&channel, vec![left(id, joined, joined + 10)])
    };
    store.change(&leave("new", 1, DAY - 600)).await.unwrap();
    store.change(&leave("old", 2, DAY + 600)).await.unwrap();

    let (new, old) = (person("new"), person("old"));
    let tombstone = store.member(&channel, &new).await.unwrap().unwrap();
    assert_eq!((tombstone.joined, tombstone.left), (1, Some(11)));
    assert_eq!(store.member(&channel, &old).await.unwrap(), None);
    let keys = core::slice::from_ref(&channel);
    assert_eq!(store.member_of(keys, &new).await.unwrap().len(), 1);
    assert_eq!(store.member_of(keys, &old).await.unwrap().len(), 0);
    let found = walk(1, async |after: Option<Member>| {
        let after = after.map(|it| it.subscriber);
        store.members(&channel, after.as_ref(), 1).await
    });
    let found: Vec<_> = found.await.into_iter().map(|it| it.subscriber).collect();
    assert_eq!(found, [new.clone(), person("stays")]);

    for id in [&new, &old] {
        let again = vec![joined(id.as_str(), 20)];
        store.change(&rows(&channel, again)).await.unwrap();
        let member = store.member(&channel, id).await.unwrap().unwrap();
        assert_eq!((member.joined, member.left), (20, None));
    }
    let all = [person("stays"), new, old];
    assert_eq!(store.seniors(&channel, 10).await.unwrap(), all);
}
