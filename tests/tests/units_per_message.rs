//! The cost of each client message from end to end, in the capacity units of all requests that it causes.

#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed test shows the line, and prints its table"
)]

#[path = "units/meter.rs"]
mod meter;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Client, Gateway, Site};

use meter::{Units, quiet};

/// The number of idle connections in the same domain. They must not change the costs.
const ELSEWHERE: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn message_costs_match_table() -> Result<()> {
    let gateway = Gateway::without_schedules()?;
    let site = Site::at(gateway.urls().clone());
    let alone = measured(&site).await?;
    let site = site.neighbour();
    let mut idle = Vec::new();
    for index in 0..ELSEWHERE {
        // Five connections per subscriber.
        idle.push(site.connect(&format!("idle-{}", index / 5)).await?);
    }
    let among_others = measured(&site).await?;
    println!("| message | read | write | requests |\n|---|---|---|---|");
    for (name, units) in &alone {
        println!(
            "| {name} | {} | {} | {} |",
            units.read, units.write, units.requests
        );
    }
    for ((name, alone), (_, among_others)) in alone.iter().zip(&among_others) {
        ensure!(
            alone == among_others,
            "{name}: {alone:?}, among others {among_others:?}"
        );
    }
    let table: Vec<_> = alone
        .iter()
        .map(|(name, it)| (*name, it.read, it.write, it.requests))
        .collect();
    let changed: Vec<_> = table
        .iter()
        .zip(EXPECTED)
        .filter(|(found, expected)| found != expected)
        .collect();
    ensure!(
        changed.is_empty(),
        "pairs of found and expected: {changed:#?}"
    );
    ensure!(table.len() == EXPECTED.len(), "{} rows", table.len());
    Ok(())
}

/// The name, read units, write units and requests of each message. All items are small: reads of at most 4 KiB, writes of at
/// most 1 KiB.
const EXPECTED: &[(&str, f64, f64, u64)] = &[
    ("connect", 2.0, 8.0, 4),
    ("disconnect", 0.0, 3.0, 2),
    ("hello", 0.0, 2.0, 2),
    ("ping", 1.0, 0.0, 1),
    ("create-channel", 10.0, 21.0, 15),
    ("join-channel, 1 receiver", 12.0, 16.0, 16),
    ("channel-message, 1 receiver", 5.0, 3.0, 7),
    ("channel-message with message-id, 1 receiver", 6.0, 4.0, 9),
    ("channel-message, repeated", 4.0, 0.0, 4),
    ("direct-message, the first of a conversation", 6.0, 9.0, 13),
    ("direct-message, 1 receiver", 6.0, 4.0, 9),
    ("direct-message with message-id, 1 receiver", 7.0, 5.0, 11),
    ("list-channels, 1 channel", 4.0, 2.0, 6),
    ("list-subscribers, 2 members", 4.0, 2.0, 5),
    ("list-conversations, 1 conversation", 2.0, 2.0, 4),
    ("get-history of a channel", 5.0, 2.0, 6),
    ("get-history of a conversation", 3.0, 2.0, 5),
    ("announce, 1 receiver", 6.0, 7.0, 10),
    ("announce, unchanged", 1.0, 3.0, 4),
    ("unannounce, 1 receiver", 7.0, 6.0, 10),
    ("leave-channel, 1 receiver", 11.0, 16.0, 15),
];

/// Reads the meter between messages and collects the rows.
struct Meter<'a> {
    site: &'a Site,
    before: Units,
    rows: Vec<(&'static str, Units)>,
}

impl Meter<'_> {
    /// Begins a measurement when all earlier work is done.
    async fn begin(&mut self) -> Result<()> {
        self.before = quiet(self.site).await?;
        Ok(())
    }

    /// Ends a measurement and adds its row to the table.
    async fn end(&mut self, name: &'static str) -> Result<()> {
        let after = quiet(self.site).await?;
        self.rows.push((name, after.since(self.before)));
        self.before = after;
        Ok(())
    }

    async fn of(&mut self, name: &'static str, client: &mut Client, message: Value) -> Result<()> {
        self.begin().await?;
        client.request(message).await?;
        self.end(name).await
    }
}

/// Measures each message of Alice and Bob, who share a channel. The steps are the same in every domain.
async fn measured(site: &Site) -> Result<Vec<(&'static str, Units)>> {
    let mut meter = Meter {
        site,
        before: Units::default(),
        rows: Vec::new(),
    };
    let tokens = [
        site.token("alice").await?,
        site.token("bob").await?,
        site.token("carol").await?,
    ];
    meter.begin().await?;
    let mut alice = site.connect_with(&tokens[0]).await?;
    meter.end("connect").await?;
    let mut bob = site.connect_with(&tokens[1]).await?;
    let carol = site.connect_with(&tokens[2]).await?;
    meter.begin().await?;
    carol.close().await?;
    meter.end("disconnect").await?;

    meter
        .of("hello", &mut alice, json!({ "type": "hello" }))
        .await?;
    meter
        .of("ping", &mut alice, json!({ "type": "ping" }))
        .await?;
    let create = json!({
        "type": "create-channel", "name": "Team", "channel-id": "c", "invite-token": "s3cret",
    });
    meter.of("create-channel", &mut alice, create).await?;
    meter.begin().await?;
    bob.join("c").await?;
    meter.end("join-channel, 1 receiver").await?;
    let say = json!({ "type": "channel-message", "channel-id": "c", "content": "hello" });
    meter
        .of("channel-message, 1 receiver", &mut alice, say.clone())
        .await?;
    let mut with_id = say;
    with_id["message-id"] = "m".into();
    meter
        .of(
            "channel-message with message-id, 1 receiver",
            &mut alice,
            with_id.clone(),
        )
        .await?;
    meter
        .of("channel-message, repeated", &mut alice, with_id)
        .await?;
    let tell = json!({ "type": "direct-message", "subscriber-id": "bob", "content": "hello" });
    meter
        .of(
            "direct-message, the first of a conversation",
            &mut alice,
            tell.clone(),
        )
        .await?;
    meter
        .of("direct-message, 1 receiver", &mut alice, tell.clone())
        .await?;
    let mut with_id = tell;
    with_id["message-id"] = "m".into();
    meter
        .of(
            "direct-message with message-id, 1 receiver",
            &mut alice,
            with_id,
        )
        .await?;
    meter
        .of(
            "list-channels, 1 channel",
            &mut alice,
            json!({ "type": "list-channels" }),
        )
        .await?;
    let list = json!({ "type": "list-subscribers", "channel-id": "c" });
    meter
        .of("list-subscribers, 2 members", &mut alice, list)
        .await?;
    let list = json!({ "type": "list-conversations" });
    meter
        .of("list-conversations, 1 conversation", &mut alice, list)
        .await?;
    let history = json!({ "type": "get-history", "channel-id": "c" });
    meter
        .of("get-history of a channel", &mut alice, history)
        .await?;
    let history = json!({ "type": "get-history", "subscriber-id": "alice" });
    meter
        .of("get-history of a conversation", &mut bob, history)
        .await?;
    let announce = json!({ "type": "announce", "availability": "busy" });
    meter
        .of("announce, 1 receiver", &mut alice, announce.clone())
        .await?;
    meter
        .of("announce, unchanged", &mut alice, announce)
        .await?;
    meter
        .of(
            "unannounce, 1 receiver",
            &mut alice,
            json!({ "type": "unannounce" }),
        )
        .await?;
    meter.begin().await?;
    bob.leave("c").await?;
    meter.end("leave-channel, 1 receiver").await?;
    Ok(meter.rows)
}

/// The units file of the bill computation must equal this file's table.
#[test]
fn bill_units_match_table() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/costs/units.json");
    let units: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let of = |name: &str, kind: &str| units[name][kind].as_f64().context(name.to_owned());
    let expected = |name: &str| {
        let row = EXPECTED.iter().find(|row| row.0 == name);
        row.map(|row| (row.1, row.2)).context(name.to_owned())
    };
    for (bill, row) in [
        ("connect", "connect"),
        ("disconnect", "disconnect"),
        ("ping", "ping"),
        ("direct-message", "direct-message, 1 receiver"),
    ] {
        ensure!(
            (of(bill, "read")?, of(bill, "write")?) == expected(row)?,
            "{bill}"
        );
    }
    let each = "channel-message, each receiver";
    let sum = |kind| anyhow::Ok(of("channel-message", kind)? + of(each, kind)?);
    let one = expected("channel-message, 1 receiver")?;
    ensure!((sum("read")?, sum("write")?) == one, "channel-message");
    Ok(())
}
