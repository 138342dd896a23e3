//! A soak test: devices write, lose their connections and resume while faults are injected. These invariants must hold: no
//! acknowledged message is lost or stored twice, no device sees events out of order, and each gap is announced by a
//! `resync`.
//!
//! A device applies only the protocol's rule for clients. It keeps the position after the last event, sends `get-history`
//! after a gap or a `resync`, and sends `resume` on a new connection. At the end it waits, without asking, until it received
//! everything.

mod audit;
mod device;
mod log;
mod tally;

pub use tally::Summary;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use crate::{Gateway, Site, get};
use device::Device;
use log::Place;
use tally::Tally;

/// The default faults: all kinds at once.
pub const USUAL_FAULTS: [&str; 10] = [
    "kill-instance=0.0005",
    "delay-dynamodb=0.01",
    "fail-dynamodb=0.002",
    "lose-dynamodb-reply=0.002",
    "conflict-dynamodb=0.002",
    "drop-disconnect=0.2",
    "throttle-post=0.005",
    "hang-post=0.0005",
    "lose-post-reply=0.002",
    "delay-upgrade=0.2",
];
/// The number of channels that each subscriber joins.
const CHANNELS_EACH: usize = 2;

/// The options of a soak.
#[derive(Clone, Debug)]
pub struct Options {
    /// The total number of messages to send.
    pub messages: u64,
    /// The number of subscribers. Every second one has two devices.
    pub subscribers: usize,
    /// The number of channels, at least two.
    pub channels: usize,
    /// The seed of the faults and of the devices' actions.
    pub seed: u64,
    /// Faults such as `hang-post=0.01`.
    pub faults: Vec<String>,
    /// The time after which devices stop sending.
    pub limit: Duration,
    /// The period of progress reports, or `None` for no reports.
    pub progress: Option<Duration>,
}

/// Runs a soak on a separate local gateway. The summary contains the violations.
///
/// # Errors
/// Fails if the soak cannot be run to its end.
pub async fn run(options: &Options) -> Result<Summary> {
    let mut arguments = vec!["--seed".to_owned(), options.seed.to_string()];
    for fault in &options.faults {
        arguments.extend(["--fault".to_owned(), fault.clone()]);
    }
    let gateway = Gateway::start(&arguments)?;
    let lambda = gateway.urls().lambda.clone();
    let lambda = lambda.context("a local gateway has a Lambda")?;
    let site = Arc::new(Site::at(gateway.urls().clone()));
    let begun = Instant::now();
    let tally = Arc::new(Tally::new(begun + options.limit));
    let progress = options
        .progress
        .map(|period| tokio::spawn(report(Arc::clone(&tally), period, options.messages)));
    let outcome = soak(options, &site, &tally).await;
    if let Some(progress) = progress {
        progress.abort();
    }
    let took = outcome?;
    let struck = get(&format!("{lambda}/_local/faults")).await?;
    Ok(tally.summary(took, &struck))
}

/// Runs all steps of a soak. Returns how long sending took.
async fn soak(options: &Options, site: &Arc<Site>, tally: &Arc<Tally>) -> Result<Duration> {
    let channels: Vec<String> = (0..options.channels).map(|it| format!("c-{it}")).collect();
    let mut founder = Device::new(site, tally, "founder", "founder", options.seed);
    for channel in &channels {
        let create = json!({
            "type": "create-channel", "name": channel, "channel-id": channel, "invite-token": "t",
        });
        founder.insist(&create).await?;
        founder.join(channel).await?;
    }
    founder.hang_up().await;
    // Create the devices, then let all of them send at once.
    let mut devices = Vec::new();
    for number in 0..options.subscribers {
        for device in 0..=number % 2 {
            devices.push(device_of(options, site, tally, number, device, &channels).await?);
        }
    }
    let begun = Instant::now();
    let count = u64::try_from(devices.len())?;
    let mut sending = Vec::new();
    for (mut device, number) in devices.into_iter().zip(0..) {
        let quota = options.messages / count + u64::from(number < options.messages % count);
        sending.push(tokio::spawn(async move {
            device.send_all(quota).await.map(|()| device)
        }));
    }
    let mut devices = Vec::new();
    for device in sending {
        devices.push(device.await??);
    }
    let took = begun.elapsed();
    // After the last message, check the invariants.
    audit::settle(&mut devices, tally).await?;
    audit::compare(&mut founder, &mut devices, tally).await?;
    Ok(took)
}

async fn device_of(
    options: &Options,
    site: &Arc<Site>,
    tally: &Arc<Tally>,
    number: usize,
    device: usize,
    channels: &[String],
) -> Result<Device> {
    let named = |number: usize| format!("s-{}", number % options.subscribers);
    let seed = options.seed.wrapping_mul(1_000_003) + u64::try_from(number * 2 + device)?;
    let name = format!("{}.{device}", named(number));
    let mut made = Device::new(site, tally, &named(number), &name, seed);
    // Follow the conversations with both neighbours from their first event.
    for peer in [number + 1, number + options.subscribers - 1] {
        if named(peer) != named(number) {
            made.follow(Place::Subscriber(named(peer)), 0);
        }
    }
    let mine = (0..CHANNELS_EACH).filter_map(|it| {
        channels.get((number + it * (1 + number / channels.len())) % channels.len())
    });
    for channel in mine {
        made.join(channel).await?;
    }
    Ok(made)
}

async fn report(tally: Arc<Tally>, period: Duration, messages: u64) {
    loop {
        tokio::time::sleep(period).await;
        tally.print_progress(messages);
    }
}
