//! What docs/costs.md says of channels with many members, against the engine.

#![allow(
    clippy::indexing_slicing,
    reason = "a test fails where it stands, and prints its figures"
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

/// The largest of the document, too large to be made here.
const TOO_LARGE: u64 = 10_000;

/// Members that a transaction adds: each is four writes of the hundred that it takes at most.
const AT_ONCE: usize = 24;

/// Whether members are connected changes what is posted and not what is read: of each its connections are.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_many_costs_what_the_document_says() -> Result<()> {
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
        let (write, read) = document.get(members).context("it is in the document")?;
        ensure!(
            units.write == *write && (units.read - read).abs() <= slack(*members),
            "{members} members: measured {units:?}, and the document has {write} and {read}"
        );
    }
    // They are read by the thousand, and each thousand costs the same; what is left is what a message costs in any case. Ten
    // members take one unit to read, and one each.
    let any = measured[&10].read - 11.0;
    let thousand = measured[&1_000].read - any;
    let read = any + f64::from(u32::try_from(TOO_LARGE / 1_000)?) * thousand;
    let told = document.get(&TOO_LARGE).context("it is in the document")?;
    ensure!(
        (told.1 - read).abs() <= slack(TOO_LARGE),
        "{told:?}, and not {read}"
    );
    Ok(())
}

/// A thousand members are read by size, and the domain of a test, which stands in each row, is now and then a letter longer.
fn slack(members: u64) -> f64 {
    f64::from(u32::try_from(members / 1_000).unwrap_or(u32::MAX))
}

/// One message to the channel, with all that follows it.
async fn message(site: &Site, alice: &mut Client, channel: &str) -> Result<Units> {
    let before = quiet(site).await?;
    alice.say(channel, &"hello".into()).await?;
    Ok(quiet(site).await?.since(before))
}

/// The document's table: members, then write and read units.
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

/// Lets so many more join at once, which nobody could: by the store, without the events that tell it.
async fn fill(site: &Site, store: &DynamoStore, channel: &str, more: u64) -> Result<()> {
    let key = ChannelKey {
        domain: Domain::parse(&site.domain).map_err(|it| anyhow!("{it:?}"))?,
        id: ChannelId::parse(channel).map_err(|it| anyhow!("{it:?}"))?,
    };
    let mut roster = store.roster(&key).await?.context("there is a channel")?;
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
