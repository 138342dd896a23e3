//! The checks after the last message: each device receives everything without asking, and what it saw equals the history.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::device::Device;
use super::log::{Log, Place, seen};
use super::tally::{Tally, Violation};

/// The limit for the delivery of everything. It exceeds the minute after which the service finds the work that a dead
/// function left undone, and several repetitions of it.
const DELIVERED_WITHIN: Duration = Duration::from_secs(180);
/// The time that a device listens before each check.
const LISTENS: Duration = Duration::from_millis(500);

/// Waits until each device received everything through pushes, `resync`s and `resume` alone.
pub(super) async fn settle(devices: &mut Vec<Device>, tally: &std::sync::Arc<Tally>) -> Result<()> {
    let deadline = Instant::now() + DELIVERED_WITHIN;
    let mut waiting = Vec::new();
    for mut device in devices.drain(..) {
        let tally = std::sync::Arc::clone(tally);
        waiting.push(tokio::spawn(async move {
            let mut ends = ends(&mut device).await?;
            loop {
                device.listen(Instant::now() + LISTENS).await;
                if has_everything(&device, &ends) {
                    // A message whose sender gave up may have been stored since.
                    let later = self::ends(&mut device).await?;
                    if later == ends {
                        break;
                    }
                    ends = later;
                }
                if deadline <= Instant::now() {
                    report_missing(&device, &ends, &tally);
                    break;
                }
            }
            anyhow::Ok(device)
        }));
    }
    for device in waiting {
        devices.push(device.await??);
    }
    Ok(())
}

/// Returns the last sequence of each of a device's logs, without reading the events.
async fn ends(device: &mut Device) -> Result<BTreeMap<Place, u64>> {
    let places: Vec<Place> = device.logs().keys().cloned().collect();
    let mut ends = BTreeMap::new();
    for place in places {
        let before = place.put_into(json!({ "type": "get-history", "before": 1, "limit": 1 }));
        let page = device.insist(&before).await?;
        let last = page.get("last-sequence").and_then(Value::as_u64);
        ends.insert(place, last.context("a page without its log's end")?);
    }
    Ok(ends)
}

fn has_everything(device: &Device, ends: &BTreeMap<Place, u64>) -> bool {
    device.logs().iter().all(|(place, log)| {
        log.unexplained().is_none() && ends.get(place).is_none_or(|it| *it <= log.position())
    })
}

fn report_missing(device: &Device, ends: &BTreeMap<Place, u64>, tally: &Tally) {
    for (place, log) in device.logs() {
        let end = ends.get(place).copied().unwrap_or(0);
        let position = log.position();
        if position < end {
            let detail = format!("{} in {place:?}: {position} of {end}", device.name());
            tally.violated(Violation::NeverDelivered, &detail);
        }
        if let Some((missing, _)) = log.unexplained() {
            let detail = format!("{} in {place:?}: {missing}", device.name());
            tally.violated(Violation::SilentGap, &detail);
        }
    }
}

/// Compares the history with the events that each device saw and with the messages that it got acknowledged.
pub(super) async fn compare(
    founder: &mut Device,
    devices: &mut [Device],
    tally: &Tally,
) -> Result<()> {
    let mut channels = BTreeMap::new();
    // Each side of a conversation has its own history.
    let mut conversations = BTreeMap::new();
    for device in devices.iter_mut() {
        let subscriber = device.subscriber().to_owned();
        let places: Vec<Place> = device.logs().keys().cloned().collect();
        for place in places {
            match &place {
                Place::Channel(_) if !channels.contains_key(&place) => {
                    let history = history(founder, &place, tally).await?;
                    channels.insert(place, history);
                }
                Place::Subscriber(_) => {
                    let key = (subscriber.clone(), place.clone());
                    if let Entry::Vacant(unread) = conversations.entry(key) {
                        unread.insert(history(device, &place, tally).await?);
                    }
                }
                Place::Channel(_) => {}
            }
        }
    }
    for device in devices.iter() {
        let history_of = |place: &Place| match place {
            Place::Channel(_) => channels.get(place),
            Place::Subscriber(_) => {
                conversations.get(&(device.subscriber().to_owned(), place.clone()))
            }
        };
        for (place, log) in device.logs() {
            let history = history_of(place).context("a log without a history")?;
            compare_log(device, place, log, history, tally);
        }
        for stored in device.stored() {
            let history = history_of(&stored.place).context("a log without a history")?;
            let index = usize::try_from(stored.sequence)?.checked_sub(1);
            if index.and_then(|it| history.get(it)) != Some(&stored.id) {
                let detail = format!("{} in {:?} at {}", stored.id, stored.place, stored.sequence);
                tally.violated(Violation::Lost, &detail);
            }
        }
    }
    Ok(())
}

fn compare_log(device: &Device, place: &Place, log: &Log, history: &[String], tally: &Tally) {
    let first = usize::try_from(log.first()).unwrap_or(usize::MAX);
    let after = history.get(first..).unwrap_or_default();
    for (number, seen) in log.events().iter().enumerate() {
        if after.get(number) != Some(seen) {
            let sequence = first + number + 1;
            let expected = after.get(number);
            let detail = format!(
                "{} in {place:?} at {sequence}: saw {seen}, the history has {expected:?}",
                device.name()
            );
            tally.violated(Violation::Different, &detail);
        }
    }
    for missed in after.iter().skip(log.events().len()) {
        let detail = format!("{} in {place:?}: {missed}", device.name());
        tally.violated(Violation::Lost, &detail);
    }
}

/// Reads a complete history. It must be contiguous from 1 and must not contain a message twice.
async fn history(device: &mut Device, place: &Place, tally: &Tally) -> Result<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    let mut ids = BTreeSet::new();
    loop {
        let page = json!({ "type": "get-history", "after": all.len(), "limit": 100 });
        let page = device.insist(&place.put_into(page)).await?;
        let events = page.get("events").and_then(Value::as_array);
        for event in events.into_iter().flatten() {
            let sequence = event.get("sequence").and_then(Value::as_u64);
            ensure!(
                sequence == u64::try_from(all.len() + 1).ok(),
                "the history of {place:?} has a gap: {event}"
            );
            let seen = seen(event);
            if event.get("message-id").is_some() && !ids.insert(seen.clone()) {
                tally.violated(Violation::Duplicated, &format!("{seen} in {place:?}"));
            }
            all.push(seen);
        }
        if page.get("more") != Some(&json!(true)) {
            return Ok(all);
        }
    }
}
