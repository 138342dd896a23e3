//! Channels, their members, and the channels and invitations of a subscriber.

use protocol::{
    ChannelId, ChannelKey, DeliveryStatus, SubscriberId,
    change::{Invitation, Member, Profile, Replace, RowChange},
};
use service::ports::{Channels, Fault, Head, Logs, Receiver};

use super::fixtures::{
    Tenant, creation, head, ids, joined, json, left, now, person, profile, roster, rows, walk,
};

/// A created channel exists with its first event, which has not been pushed.
pub async fn created_channel<S: Channels + Logs>(store: &S) {
    let tenant = Tenant::new();
    let (channel, ada) = (tenant.channel("c.1"), tenant.subscriber("ada"));
    assert_eq!(store.profile(&channel).await.unwrap(), None);
    assert_eq!(store.roster(&channel).await.unwrap(), None);
    assert_eq!(store.head(&channel.log()).await.unwrap(), None);
    assert_eq!(store.member(&channel, &ada.id).await.unwrap(), None);

    let full = Profile {
        name: "ünïcödé 😀".to_owned(),
        attributes: json(r#"{"a":1,"a": 1.0e3}"#),
        invite_hash: Some("0a1b".to_owned()),
        creator: Some(person("ada")),
        version: 1,
    };
    let mut creation = creation(&channel);
    creation.profile = Some(Replace {
        expect: None,
        to: full.clone(),
    });
    store.change(&creation).await.unwrap();
    assert_eq!(store.profile(&channel).await.unwrap(), Some(full));
    assert_eq!(store.roster(&channel).await.unwrap(), Some(roster(1)));
    let expected = Head {
        active: true,
        sequence: 1,
        sent: 0,
        lease: None,
        allocated_at: creation.at,
        read_cursors: [].into(),
        removal_at: None,
    };
    assert_eq!(head(store, &channel.log()).await, expected);
    let first = store.entry(&channel.log(), 1).await.unwrap();
    assert_eq!(first.as_ref(), creation.entries.first());
    let member = store.member(&channel, &ada.id).await.unwrap().unwrap();
    assert!(member.administrator && member.is_current());
    assert_eq!((&member.subscriber, member.joined), (&ada.id, 1));
    assert!(member.displayed <= 1 && member.read <= 1);
    let found = store.memberships(&ada, None, 10).await.unwrap();
    assert_eq!(found.items.as_slice(), core::slice::from_ref(&channel.id));
    assert_eq!(store.count_memberships(&ada).await.unwrap(), 1);
    assert!(!store.settle(&channel.log()).await.unwrap());
}

/// The rows of a channel in pages, ordered by subscriber id, including former members.
pub async fn members_in_pages<S: Channels>(store: &S) {
    let tenant = Tenant::new();
    let channel = tenant.channel("c");
    let ids = ids(130);
    for (chunk, names) in ids.chunks(10).enumerate() {
        let first = u64::try_from(chunk).unwrap() * 10 + 1;
        let all = names.iter().zip(first..);
        let all = all.map(|(id, sequence)| joined(id, sequence)).collect();
        store.change(&rows(&channel, all)).await.unwrap();
    }
    // Another channel whose id has the same prefix, and a former member.
    let other = tenant.channel("c.c");
    store
        .change(&rows(&other, vec![joined("x", 1)]))
        .await
        .unwrap();
    store
        .change(&rows(&channel, vec![left(&ids[4], 5, 200)]))
        .await
        .unwrap();

    for limit in [9, 65, 130, 500] {
        let found = walk(limit, async |after: Option<Member>| {
            let after = after.map(|it| it.subscriber);
            store.members(&channel, after.as_ref(), limit).await
        });
        let found = found.await;
        assert!(found.iter().map(|it| it.subscriber.as_str()).eq(&ids));
        for (n, member) in found.iter().enumerate() {
            assert_eq!(member.left, (n == 4).then_some(200));
        }
        let receivers = walk(limit, async |after: Option<Receiver>| {
            let after = after.map(|it| it.subscriber);
            store.receivers(&channel, after.as_ref(), limit).await
        });
        let expected = found.into_iter().map(|it| Receiver {
            subscriber: it.subscriber,
            joined: it.joined,
            left: it.left,
        });
        assert!(receivers.await.into_iter().eq(expected));
    }
    let none = store
        .members(&tenant.channel("none"), None, 10)
        .await
        .unwrap();
    assert!(none.items.is_empty() && !none.more);
}

/// Members are ordered by how long they have been members, not by id. A member who leaves and joins again starts over.
pub async fn seniors<S: Channels>(store: &S) {
    let channel = Tenant::new().channel("c");
    // Sequences of different lengths, because ordering them as text would give another result.
    let all = [
        ("zoe", 9),
        ("ada", 10),
        ("mia", 2),
        ("bob", 100),
        ("cyd", 1_000_000),
    ];
    let all = all.map(|(id, sequence)| joined(id, sequence)).to_vec();
    store.change(&rows(&channel, all)).await.unwrap();
    let seniors = async |limit| {
        let found = store.seniors(&channel, limit).await.unwrap();
        found
            .iter()
            .map(|it| it.as_str().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(seniors(10).await, ["mia", "zoe", "ada", "bob", "cyd"]);
    assert_eq!(seniors(2).await, ["mia", "zoe"]);
    store
        .change(&rows(&channel, vec![left("zoe", 9, 1_000_001)]))
        .await
        .unwrap();
    assert_eq!(seniors(2).await, ["mia", "ada"]);
    store
        .change(&rows(&channel, vec![joined("zoe", 1_000_002)]))
        .await
        .unwrap();
    assert_eq!(seniors(10).await, ["mia", "ada", "bob", "cyd", "zoe"]);
}

/// A subscriber's channels in pages, and their number.
pub async fn memberships_in_pages<S: Channels>(store: &S) {
    let tenant = Tenant::new();
    let bob = tenant.subscriber("bob");
    let mut channels: Vec<ChannelId> = Vec::new();
    for id in ids(120).iter().rev() {
        let channel = tenant.channel(id);
        store
            .change(&rows(&channel, vec![joined("bob", 3), joined("b", 4)]))
            .await
            .unwrap();
        channels.insert(0, channel.id);
    }
    // Invitations and conversations must not appear among them.
    let invited = RowChange::Invited {
        subscriber: person("bob"),
        from: None,
    };
    store
        .change(&rows(&tenant.channel("invited"), vec![invited]))
        .await
        .unwrap();
    let gone = channels.remove(60);
    let key = ChannelKey {
        domain: tenant.0.clone(),
        id: gone,
    };
    store
        .change(&rows(&key, vec![left("bob", 3, 5)]))
        .await
        .unwrap();

    for limit in [7, 60, 119, 500] {
        let found = walk(limit, async |after: Option<ChannelId>| {
            store.memberships(&bob, after.as_ref(), limit).await
        });
        assert_eq!(found.await, channels);
    }
    assert_eq!(store.count_memberships(&bob).await.unwrap(), 119);
    assert_eq!(
        store
            .count_memberships(&tenant.subscriber("b"))
            .await
            .unwrap(),
        120
    );
    assert_eq!(
        store
            .count_memberships(&tenant.subscriber("x"))
            .await
            .unwrap(),
        0
    );
}

/// Invitations are kept until they are used or withdrawn. A later one replaces an earlier one.
pub async fn invitations<S: Channels>(store: &S) {
    let tenant = Tenant::new();
    let bob = tenant.subscriber("bob");
    let invited = |from: Option<&str>| RowChange::Invited {
        subscriber: person("bob"),
        from: from.map(person),
    };
    let mut expected = Vec::new();
    for (n, id) in ids(40).iter().enumerate() {
        let from = (n % 2 == 0).then_some("ada");
        let change = rows(&tenant.channel(id), vec![invited(from)]);
        store.change(&change).await.unwrap();
        expected.push(Invitation {
            channel: change.channel.id,
            from: from.map(person),
            at: change.at,
        });
    }
    for limit in [7, 40, 100] {
        let found = walk(limit, async |after: Option<Invitation>| {
            let after = after.map(|it| it.channel);
            store.invitations(&bob, after.as_ref(), limit).await
        });
        assert_eq!(found.await, expected);
    }
    let first = &expected[0];
    let channel = tenant.channel(first.channel.as_str());
    let stands = async || store.invitation(&bob, &channel.id).await.unwrap();
    assert_eq!(stands().await.as_ref(), Some(first));
    let later = protocol::change::Change {
        at: now().plus_seconds(5),
        ..rows(&channel, vec![invited(Some("cyd"))])
    };
    store.change(&later).await.unwrap();
    let newer = Invitation {
        channel: channel.id.clone(),
        from: Some(person("cyd")),
        at: later.at,
    };
    assert_eq!(stands().await, Some(newer));
    let uninvited = RowChange::Uninvited {
        subscriber: person("bob"),
    };
    for _ in 0..2 {
        store
            .change(&rows(&channel, vec![uninvited.clone()]))
            .await
            .unwrap();
        assert_eq!(stands().await, None);
    }
    assert_eq!(store.count_memberships(&bob).await.unwrap(), 0);

    // An invitation to a current member must fail, because the member would find it after leaving.
    let joining = rows(&channel, vec![joined("bob", 3)]);
    store.change(&joining).await.unwrap();
    let invite = rows(&channel, vec![invited(None)]);
    let late = store.change(&invite).await;
    assert!(matches!(late, Err(Fault::Conflict)), "{late:?}");
    assert_eq!(stands().await, None);
    let leaving = rows(&channel, vec![left("bob", 3, 5)]);
    store.change(&leaving).await.unwrap();
    store.change(&invite).await.unwrap();
    assert!(stands().await.is_some());
}

/// More channels than one batch takes, in any order, some twice, most of them absent.
pub async fn channels_in_batches<S: Channels>(store: &S) {
    let tenant = Tenant::new();
    let keys: Vec<ChannelKey> = ids(230).iter().map(|id| tenant.channel(id)).collect();
    for (n, key) in (1..).zip(keys.iter().step_by(10)) {
        let mut change = creation(key);
        change.profile = Some(Replace {
            expect: None,
            to: profile(n),
        });
        change.roster = Some(Replace {
            expect: None,
            to: roster(n),
        });
        store.change(&change).await.unwrap();
    }
    let asked: Vec<ChannelKey> = keys.iter().rev().chain(&keys[..30]).cloned().collect();
    let ada: SubscriberId = person("ada");
    let profiles = store.profiles(&asked).await.unwrap();
    let rosters = store.rosters(&asked).await.unwrap();
    let members = store.member_of(&asked, &ada).await.unwrap();
    for (n, key) in keys.iter().enumerate() {
        let there = n % 10 == 0;
        assert_eq!(profiles.contains_key(key), there);
        assert_eq!(
            profiles.get(key),
            store.profile(key).await.unwrap().as_ref()
        );
        assert_eq!(rosters.get(key), store.roster(key).await.unwrap().as_ref());
        assert_eq!(
            members.get(key),
            store.member(key, &ada).await.unwrap().as_ref()
        );
        assert_eq!(
            (rosters.contains_key(key), members.contains_key(key)),
            (there, there)
        );
    }
    let nobody = store.member_of(&asked, &person("bob")).await.unwrap();
    assert!(nobody.is_empty());
    assert!(store.profiles(&[]).await.unwrap().is_empty());
    assert!(store.rosters(&[]).await.unwrap().is_empty());
    assert!(store.member_of(&[], &ada).await.unwrap().is_empty());
}

/// A member's read cursors only grow, reading implies displaying, and only a member has cursors.
pub async fn read_cursors_of_members<S: Channels>(store: &S) {
    use DeliveryStatus::{Displayed, Read};
    let channel = Tenant::new().channel("c");
    let (bob, cyd) = (person("bob"), person("cyd"));
    let nobody = store.raise_read_cursor(&channel, &bob, Read, 1).await;
    assert!(!nobody.unwrap());
    assert_eq!(store.member(&channel, &bob).await.unwrap(), None);
    store
        .change(&rows(&channel, vec![joined("bob", 1), joined("cyd", 1)]))
        .await
        .unwrap();
    let begun = store.member(&channel, &cyd).await.unwrap();
    for (status, sequence, moved, displayed, read) in [
        (Displayed, 4, true, 4, None),
        (Displayed, 4, false, 4, None),
        (Displayed, 3, false, 4, None),
        (Read, 3, true, 4, Some(3)),
        (Read, 6, true, 6, Some(6)),
        (Displayed, 5, false, 6, Some(6)),
        (Read, 5, false, 6, Some(6)),
        (Displayed, 8, true, 8, Some(6)),
        (Read, 7, true, 8, Some(7)),
    ] {
        let raised = store
            .raise_read_cursor(&channel, &bob, status, sequence)
            .await;
        assert_eq!(raised.unwrap(), moved, "{status:?} {sequence}");
        let member = store.member(&channel, &bob).await.unwrap().unwrap();
        assert_eq!(member.displayed, displayed, "{status:?} {sequence}");
        assert!(read.is_none_or(|read| read == member.read), "{member:?}");
    }
    assert_eq!(store.member(&channel, &cyd).await.unwrap(), begun);
    // The read cursors survive a change of the administrator right, and do not move after the member left.
    let right = RowChange::Administrator {
        subscriber: bob.clone(),
        joined: 1,
        administrator: true,
    };
    store.change(&rows(&channel, vec![right])).await.unwrap();
    let member = store.member(&channel, &bob).await.unwrap().unwrap();
    assert_eq!(
        (member.administrator, member.displayed, member.read),
        (true, 8, 7)
    );
    let gone = RowChange::Left {
        subscriber: bob.clone(),
        administrator: true,
        joined: 1,
        sequence: 9,
    };
    store.change(&rows(&channel, vec![gone])).await.unwrap();
    let raised = store.raise_read_cursor(&channel, &bob, Read, 9).await;
    assert!(!raised.unwrap());
    let tombstone = store.member(&channel, &bob).await.unwrap().unwrap();
    assert_eq!((tombstone.displayed, tombstone.read), (8, 7));
}
