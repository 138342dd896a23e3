//! Equal ids of two tenants never mix, every allowed id works, and content is stored byte for byte.

use protocol::{
    ChannelId, DeliveryStatus, EventBody, LogId, SubscriberId,
    change::{LogEntry, Member, Replace, RowChange},
    limits::{ATTRIBUTES_BYTES, CONTENT_BYTES, ID_CHARACTERS, SEQUENCE},
};
use service::ports::{Channels, Connections, IdempotencyRecord, Logs, Presences, Tokens};

use super::fixtures::{
    Tenant, allocation, connected, creation, entry, joined, json, message, message_id, now, person,
    profile, rows, token, walk,
};

/// Whatever one tenant does, another tenant with the same ids sees none of it.
pub async fn domains_never_mix<S: Tokens + Connections + Presences + Logs + Channels>(store: &S) {
    let (busy, idle) = (Tenant::new(), Tenant::new());
    let (ada, channel) = (busy.subscriber("ada"), busy.channel("c"));
    let direct = busy.direct("ada", "bob");
    token(store, &ada).await;
    let id = connected(store, &ada, "c").await;
    let announcement = protocol::Announcement {
        availability: protocol::Availability::Busy,
        status: String::new(),
        attributes: json("{}"),
        at: now(),
    };
    store
        .announce(&ada.connection(id.clone()), &announcement)
        .await
        .unwrap()
        .unwrap();
    store.change(&creation(&channel)).await.unwrap();
    let invited = RowChange::Invited {
        subscriber: person("ada"),
        from: None,
    };
    store
        .change(&rows(&busy.channel("d"), vec![invited]))
        .await
        .unwrap();
    store.create_direct(&direct, now()).await.unwrap();
    store
        .allocate(&direct, &allocation(1, "one"))
        .await
        .unwrap();
    store
        .put_entry(&direct, &message(1, "1"))
        .await
        .unwrap()
        .unwrap();
    let marker = IdempotencyRecord {
        sequence: 1,
        content_hash: "00".to_owned(),
        nonce: "n".to_owned(),
        at: now(),
    };
    let (sender, mid) = (person("ada"), message_id("m-1"));
    store
        .set_idempotency_record(&direct, &sender, &mid, &marker)
        .await
        .unwrap()
        .unwrap();

    let (same, other) = (idle.subscriber("ada"), idle.channel("c"));
    let log = idle.direct("ada", "bob");
    assert!(
        store
            .tokens_of(&same, None, 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(store.connections(&same).await.unwrap().is_empty());
    let found = store
        .connections_of(&[same.clone(), ada.clone()])
        .await
        .unwrap();
    assert_eq!(found.values().filter(|it| !it.is_empty()).count(), 1);
    assert_eq!(store.presence(&same).await.unwrap().version, 0);
    assert!(
        store
            .announce(&same.connection(id.clone()), &announcement)
            .await
            .unwrap()
            .is_err()
    );
    assert_eq!(
        store.forget(&same.connection(id.clone())).await.unwrap(),
        None
    );
    assert_eq!(store.connections(&ada).await.unwrap().len(), 1);
    assert_eq!(store.profile(&other).await.unwrap(), None);
    assert_eq!(store.roster(&other).await.unwrap(), None);
    assert_eq!(
        store
            .profiles(&[other.clone(), channel.clone()])
            .await
            .unwrap()
            .len(),
        1
    );
    assert!(
        store
            .members(&other, None, 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(store.seniors(&other, 10).await.unwrap().is_empty());
    assert_eq!(store.member(&other, &same.id).await.unwrap(), None);
    assert!(
        store
            .memberships(&same, None, 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert_eq!(store.count_memberships(&same).await.unwrap(), 0);
    assert!(
        store
            .invitations(&same, None, 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(
        store
            .conversations(&same, None, 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    for log in [&log, &other.log()] {
        assert_eq!(store.head(log).await.unwrap(), None);
        assert_eq!(store.entry(log, 1).await.unwrap(), None);
        assert!(
            store
                .entries_after(log, 0, 9, 9)
                .await
                .unwrap()
                .entries
                .is_empty()
        );
        assert_eq!(
            store.idempotency_record(log, &sender, &mid).await.unwrap(),
            None
        );
    }
    let read_cursor = store.raise_read_cursor(&other, &same.id, DeliveryStatus::Read, 1);
    assert!(!read_cursor.await.unwrap());
}

/// Ids of every character and of the greatest length, ids with a common prefix, and a channel named like a subscriber.
pub async fn awkward_ids<S: Tokens + Connections + Logs + Channels>(store: &S) {
    let tenant = Tenant::new();
    let alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._~+@:-";
    let longest = format!("{}0", "~".repeat(ID_CHARACTERS - 1));
    let names = [
        alphabet,
        &longest,
        "a",
        "aa",
        "a.",
        "a:",
        "a-b",
        "A",
        "0",
        ".0",
        "..0",
        "-0",
        "~0",
        "+0",
        "@0",
        ":0",
        "channel",
        "connections",
        "presence",
        "head",
        "joined",
        "subscriber",
        "message-id",
        "a@b.c:d+e~f",
    ];
    let mut sorted: Vec<&str> = names.to_vec();
    sorted.sort_unstable();
    for name in names {
        let (channel, subscriber) = (tenant.channel(name), tenant.subscriber(name));
        let all = names.map(|id| joined(id, 5));
        for some in all.chunks(8) {
            store.change(&rows(&channel, some.to_vec())).await.unwrap();
        }
        let members = walk(10, async |after: Option<Member>| {
            let after = after.map(|it| it.subscriber);
            store.members(&channel, after.as_ref(), 10).await
        });
        let members = members.await;
        assert!(
            members
                .iter()
                .map(|it| it.subscriber.as_str())
                .eq(sorted.iter().copied())
        );
        let seniors = store.seniors(&channel, 100).await.unwrap();
        assert!(
            seniors
                .iter()
                .map(SubscriberId::as_str)
                .eq(sorted.iter().copied())
        );
        connected(store, &subscriber, name).await;
        let log = channel.log();
        store
            .put_entry(&log, &message(1, &format!("\"{name}\"")))
            .await
            .unwrap()
            .unwrap();
        if name != "a" {
            let direct = LogId::direct(&subscriber, &person("a"));
            store.create_direct(&direct, now()).await.unwrap();
            store
                .put_entry(&direct, &message(1, "0"))
                .await
                .unwrap()
                .unwrap();
        }
    }
    for name in names {
        let subscriber = tenant.subscriber(name);
        let channels = walk(10, async |after: Option<ChannelId>| {
            store.memberships(&subscriber, after.as_ref(), 10).await
        });
        assert!(
            channels
                .await
                .iter()
                .map(ChannelId::as_str)
                .eq(sorted.iter().copied())
        );
        assert_eq!(store.connections(&subscriber).await.unwrap().len(), 1);
        let stands = store
            .entry(&tenant.channel(name).log(), 1)
            .await
            .unwrap()
            .unwrap();
        let EventBody::Message { content, .. } = stands.event.body else {
            panic!("{stands:?}");
        };
        assert_eq!(content, json(&format!("\"{name}\"")));
    }
    let peers = walk(10, async |after: Option<SubscriberId>| {
        store
            .conversations(&tenant.subscriber("a"), after.as_ref(), 10)
            .await
    });
    let expected = sorted.iter().copied().filter(|it| *it != "a");
    assert!(peers.await.iter().map(SubscriberId::as_str).eq(expected));

    // The longest names everywhere at once, and the highest sequence.
    let long = tenant.direct(&longest, &"a".repeat(ID_CHARACTERS));
    let marker = IdempotencyRecord {
        sequence: SEQUENCE,
        content_hash: "00".to_owned(),
        nonce: "n".to_owned(),
        at: now(),
    };
    let (sender, mid) = (person(&longest), message_id(&longest));
    store
        .set_idempotency_record(&long, &sender, &mid, &marker)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        store
            .idempotency_record(&long, &sender, &mid)
            .await
            .unwrap(),
        Some(marker)
    );
    let last = message(SEQUENCE, "1");
    store.put_entry(&long, &last).await.unwrap().unwrap();
    let found = store
        .entries_after(&long, SEQUENCE - 1, SEQUENCE, 10)
        .await
        .unwrap();
    assert_eq!(found.entries, [last]);
}

/// Content and attributes are returned byte for byte: numbers of any size, repeated keys, spaces, escapes, 16 KiB of
/// it.
pub async fn content_byte_for_byte<S: Logs + Channels>(store: &S) {
    let tenant = Tenant::new();
    let log = tenant.channel("c").log();
    let wide = format!("\"{}\"", "ü😀".repeat((CONTENT_BYTES - 2) / 6));
    let plain = format!("\"{}\"", "x".repeat(CONTENT_BYTES - 2));
    let attributes = format!("{{\"a\":\"{}\"}}", "y".repeat(ATTRIBUTES_BYTES - 8));
    assert_eq!(
        (plain.len(), attributes.len()),
        (CONTENT_BYTES, ATTRIBUTES_BYTES)
    );
    let texts = [
        "123456789012345678901234567890.10e+5",
        "-0.0",
        "1.0",
        "1E400",
        r#"{"a":1,"a":2,"b":{"":null}}"#,
        "{ \"spaces\" :\t[ 1 ,\n2 ] }",
        r#""\u00e9\ud83d\ude00\/\b""#,
        "\"\u{7f}\u{2028}é😀\"",
        "\"\"",
        "null",
        "[[[[]]]]",
        &wide,
        &plain,
    ];
    for (sequence, text) in (1..).zip(texts) {
        let body = EventBody::Message {
            message_id: message_id("m"),
            from: person("ada"),
            content: json(text),
            attributes: Some(json(&attributes)),
        };
        let put: LogEntry = entry(sequence, body);
        store.put_entry(&log, &put).await.unwrap().unwrap();
        assert!(
            store.entry(&log, sequence).await.unwrap().as_ref() == Some(&put),
            "{text}"
        );
        let found = store
            .entries_after(&log, sequence - 1, sequence, 1)
            .await
            .unwrap();
        assert!(found.entries == [put], "{text}");

        let mut change = creation(&tenant.channel(&format!("p{sequence}")));
        let mut kept = profile(1);
        if text.len() <= ATTRIBUTES_BYTES {
            kept.attributes = json(text);
        } else {
            kept.attributes = json(&attributes);
        }
        change.profile = Some(Replace {
            expect: None,
            to: kept.clone(),
        });
        store.change(&change).await.unwrap();
        assert!(
            store.profile(&change.channel).await.unwrap() == Some(kept),
            "{text}"
        );
    }
}
