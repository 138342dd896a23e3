//! Checks the costs of large channels in docs/costs.md against the engine.

#![allow(
    clippy::indexing_slicing,
    reason = "a failed test shows the line, and prints its figures"
)]

#[path = "units/meter.rs"]
mod meter;
mod tables;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, Result, anyhow, ensure};
use protocol::{
    ChannelId, ChannelKey, Domain, SubscriberId, Timestamp,
    change::{Change, Replace, Roster, RowChange},
};
use service::ports::Channels as _;
use store::DynamoStore;
use tests::{Client, Gateway, Site};

use meter::{Units, quiet};
use tables::store;

/// The document's largest channel, which is too large to create here.
const TOO_LARGE: u64 = 10_000;

/// The number of members that one transaction adds. Each takes four of its at most 100 writes.
const AT_ONCE: usize = 24;

/// Connected members change the number of posts but not of reads, because each member's connections are read anyway.
#[tokio::test(flavor = "multi_thread")]
async fn channel_message_costs_match_document() -> Result<()> {
    let document = document()?;
    let gateway = Gateway::without_schedules()?;
    let site = Site::at(gateway.urls().clone());
    let store = store(&site)?;
    let mut alice = site.connect("alice").await?;
    let mut measured = BTreeMap::new();
    let mut connected = Vec::new();
    for members in [10_u64, 100, 1_000] {
        let channel = alice.create().await?;
        fill(&site, &store, &channel, members - 1).await?;
        if members == 10 {
            for index in 1..members {
                connected.push(site.connect(&format!("member-{index}")).await?);
            }
        }
        measured.insert(members, message(&site, &mut alice, &channel).await?);
    }
    println!("{measured:#?}");
    for (members, units) in &measured {
        let (write, read) = document
            .get(members)
            .context("the document has no such row")?;
        ensure!(
            units.write == *write && (units.read - read).abs() <= slack(*members),
            "{members} members: measured {units:?}, the document has {write} writes and {read} reads"
        );
    }
    // Members are read in pages of a thousand, and each page costs the same. The rest is the fixed cost of a message. Reading
    // ten members takes one unit, and reading the connections of each takes one more.
    let fixed = measured[&10].read - 11.0;
    let thousand = measured[&1_000].read - fixed;
    let read = fixed + f64::from(u32::try_from(TOO_LARGE / 1_000)?) * thousand;
    let listed = document
        .get(&TOO_LARGE)
        .context("the document has no such row")?;
    ensure!(
        (listed.1 - read).abs() <= slack(TOO_LARGE),
        "the document has {listed:?}, computed reads are {read}"
    );
    Ok(())
}

/// Returns the tolerance in read units. Pages are billed by size, and each row contains the test's domain, whose length varies
/// by a character.
fn slack(members: u64) -> f64 {
    f64::from(u32::try_from(members / 1_000).unwrap_or(u32::MAX))
}

/// Measures one message to the channel with everything that it causes.
async fn message(site: &Site, alice: &mut Client, channel: &str) -> Result<Units> {
    let before = quiet(site).await?;
    alice.say(channel, &"hello".into()).await?;
    Ok(quiet(site).await?.since(before))
}

/// Parses the document's table: write and read units by number of members.
fn document() -> Result<BTreeMap<u64, (f64, f64)>> {
    let text = std::fs::read_to_string(root().join("docs/costs.md"))?;
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let Some(row) = line.strip_prefix("| a channel of ") else {
            continue;
        };
        let cells: Vec<String> = row
            .split('|')
            .map(|it| it.trim().replace(',', ""))
            .collect();
        let units = (cells[4].parse()?, cells[5].parse()?);
        rows.insert(cells[0].parse()?, units);
    }
    Ok(rows)
}

/// Adds members directly in the store, without their events. Joining one by one would take too long.
async fn fill(site: &Site, store: &DynamoStore, channel: &str, more: u64) -> Result<()> {
    let key = ChannelKey {
        domain: Domain::parse(&site.domain).map_err(|it| anyhow!("{it:?}"))?,
        id: ChannelId::parse(channel).map_err(|it| anyhow!("{it:?}"))?,
    };
    let mut roster = store
        .roster(&key)
        .await?
        .context("the channel has no roster")?;
    let names: Vec<u64> = (1..=more).collect();
    for some in names.chunks(AT_ONCE) {
        let rows = some.iter().map(|index| {
            let subscriber = SubscriberId::parse(&format!("member-{index}"));
            Ok(RowChange::Joined {
                subscriber: subscriber.map_err(|it| anyhow!("{it:?}"))?,
                administrator: false,
                sequence: 1,
            })
        });
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let to = Roster {
            members: roster.members + u64::try_from(some.len())?,
            version: roster.version + 1,
            ..roster
        };
        let change = Change {
            channel: key.clone(),
            at: now()?,
            entries: Vec::new(),
            head: None,
            roster: Some(Replace {
                expect: Some(roster.version),
                to,
            }),
            profile: None,
            rows,
        };
        store.change(&change).await?;
        roster = to;
    }
    Ok(())
}

fn now() -> Result<Timestamp> {
    let since = SystemTime::UNIX_EPOCH.elapsed()?;
    Ok(Timestamp::from_millis(i64::try_from(since.as_millis())?))
}

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
