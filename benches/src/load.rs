//! Many subscribers talk for a long time. Measures losses, order, latency and memory growth.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::process::Process;
use crate::report::quantile;
use crate::socket::Socket;
use crate::stack::{Ours, after, number};

/// Concurrent requests during the setup.
const AT_ONCE: usize = 16;
/// Most messages of a channel in flight. Beyond this the channel skips its next message.
const UNDER_WAY: u64 = 4;
/// How long the messages in flight at the end may take.
const REST: Duration = Duration::from_secs(60);

/// Keep many connections talking and show the results
#[derive(Clone, Debug, Args)]
pub(crate) struct Load {
    /// Connections in total, one per subscriber. Those in no channel are idle
    #[arg(long, default_value_t = 10_000)]
    connections: usize,

    /// Channels. In each, the first member talks and the others listen
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    channels: u32,

    /// Members of a channel, all of them connected
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..))]
    members: u32,

    /// Messages per second, over all channels
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,

    /// Duration in minutes
    #[arg(long, default_value_t = 10)]
    minutes: u64,

    /// Seconds between two lines of output
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,

    /// Invocations that a function's process runs concurrently
    #[arg(long, value_name = "N", default_value_t = 1)]
    concurrency: usize,

    /// Folder for the tables. Without it they grow in memory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Counts over all connections.
#[derive(Debug, Default)]
struct Tally {
    sent: AtomicU64,
    left_out: AtomicU64,
    stored: AtomicU64,
    refused: AtomicU64,
    delivered: AtomicU64,
    disorder: AtomicU64,
    resyncs: AtomicU64,
    /// Milliseconds from sending to a receiver, since the last line of output.
    latencies: Mutex<Vec<f64>>,
}

/// The end of a channel's talk.
#[derive(Clone, Copy, Debug)]
struct End {
    /// Stored messages.
    messages: u64,
    /// Sequence of the last stored message.
    sequence: u64,
}

/// Settings and counts that all tasks share.
#[derive(Clone, Debug)]
struct Talk {
    begun: Instant,
    until: Instant,
    pause: Duration,
    tally: Arc<Tally>,
}

impl Load {
    pub(crate) async fn run(&self) -> Result<()> {
        let (channels, members) = (self.channels as usize, self.members as usize);
        let talking = channels * members;
        ensure!(
            talking <= self.connections,
            "{channels} channels of {members} are more than {} connections",
            self.connections
        );
        let data = self.data.as_ref().map(|it| it.to_string_lossy());
        let concurrency = self.concurrency.to_string();
        let mut arguments = vec!["--concurrency", &concurrency];
        if let Some(folder) = &data {
            arguments.extend(["--data", folder]);
        }
        let (process, ours) = Ours::start(&arguments).await?;
        let domain = ours.fresh_domain();
        println!("{channels} channels of {members} members");
        stream::iter(0..channels)
            .map(|channel| {
                let first = channel * members;
                let (ours, domain, name) = (&ours, &domain, format!("c{channel}"));
                async move { ours.found_with(domain, &name, first..first + members).await }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        println!("{} connections", self.connections);
        let mut sockets: Vec<Socket> = stream::iter(0..self.connections)
            .map(|who| {
                let (ours, domain) = (&ours, &domain);
                async move { ours.connect(domain, &format!("s{who}")).await }
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let _idle = sockets.split_off(talking);

        let begun = Instant::now();
        let talk = Talk {
            begun,
            until: begun + Duration::from_secs(self.minutes * 60),
            pause: Duration::from_secs_f64(f64::from(self.channels) / f64::from(self.rate)),
            tally: Arc::default(),
        };
        let mut tasks = JoinSet::new();
        let mut sockets = sockets.into_iter();
        for channel in 0..channels {
            let (ends, end) = watch::channel(None);
            let socket = sockets.next().context("the channel has no first member")?;
            // The channels do not start at the same moment.
            let offset = talk.pause.mul_f64(channel as f64 / channels as f64);
            let speaking = speak(socket, format!("c{channel}"), offset, talk.clone(), ends);
            tasks.spawn(async move { speaking.await.map(|()| 0) });
            for socket in sockets.by_ref().take(members - 1) {
                let listening = listen(socket, talk.clone(), end.clone());
                tasks.spawn(async move { Ok(listening.await) });
            }
        }
        self.show(&process, &talk).await;
        let mut missing = 0;
        while let Some(ended) = tasks.join_next().await {
            missing += ended??;
        }
        verdict(&talk.tally, missing)
    }

    /// Prints a line of figures at each interval until the talk ends.
    async fn show(&self, process: &Process, talk: &Talk) {
        println!(
            "{:>6} {:>9} {:>9} {:>12} {:>8} {:>8} {:>11} {:>12}",
            "s",
            "sent/s",
            "stored/s",
            "delivered/s",
            "p50 ms",
            "p99 ms",
            "gateway MB",
            "functions MB"
        );
        let every = Duration::from_secs(self.every);
        let mut before = [0; 3];
        let (mut all, mut looked) = (Vec::new(), talk.begun);
        while looked < talk.until {
            tokio::time::sleep_until((looked + every).min(talk.until).into()).await;
            let took = looked.elapsed().as_secs_f64();
            looked = Instant::now();
            let tally = &talk.tally;
            let now =
                [&tally.sent, &tally.stored, &tally.delivered].map(|it| it.load(Ordering::Relaxed));
            let rate = |at: usize| {
                let [now, before] = [now, before].map(|it| it.get(at).copied().unwrap_or(0));
                (now - before) as f64 / took
            };
            let latencies = std::mem::take(&mut *lock(&tally.latencies));
            let gateway = process.resident() / 1024.0;
            println!(
                "{:>6.0} {:>9.0} {:>9.0} {:>12.0} {:>8.1} {:>8.1} {:>11.1} {:>12.1}",
                talk.begun.elapsed().as_secs_f64(),
                rate(0),
                rate(1),
                rate(2),
                quantile(&latencies, 0.5),
                quantile(&latencies, 0.99),
                gateway,
                process.resident_with_all() / 1024.0 - gateway,
            );
            before = now;
            all.extend(latencies);
        }
        println!(
            "in all: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
            quantile(&all, 0.5),
            quantile(&all, 0.99),
            quantile(&all, 1.0)
        );
    }
}

/// Prints the totals. Fails if something arrived out of order or was lost.
fn verdict(tally: &Tally, missing: u64) -> Result<()> {
    let of = |it: &AtomicU64| it.load(Ordering::Relaxed);
    println!(
        "{} sent, {} stored, {} refused, {} skipped because earlier ones were in flight",
        of(&tally.sent),
        of(&tally.stored),
        of(&tally.refused),
        of(&tally.left_out)
    );
    println!(
        "{} delivered, {} out of order, {missing} missing, {} resyncs",
        of(&tally.delivered),
        of(&tally.disorder),
        of(&tally.resyncs)
    );
    ensure!(of(&tally.disorder) == 0, "deliveries arrived out of order");
    // A `resync` tells the client that events are missing, so the client can fetch them and nothing is lost.
    ensure!(
        missing == 0 || of(&tally.resyncs) > 0,
        "deliveries were lost"
    );
    Ok(())
}

/// Sends a channel's messages at a fixed pace that does not depend on the answers.
async fn speak(
    mut socket: Socket,
    channel: String,
    offset: Duration,
    talk: Talk,
    ends: watch::Sender<Option<End>>,
) -> Result<()> {
    let tally = &talk.tally;
    let mut ticks = tokio::time::interval_at((talk.begun + offset).into(), talk.pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut sent, mut answered) = (0_u64, 0_u64);
    let mut end = End {
        messages: 0,
        sequence: 0,
    };
    let rest = talk.until + REST;
    while Instant::now() < talk.until || answered < sent {
        tokio::select! {
            _ = ticks.tick(), if Instant::now() < talk.until => {
                if sent - answered >= UNDER_WAY {
                    tally.left_out.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                sent += 1;
                tally.sent.fetch_add(1, Ordering::Relaxed);
                let text = format!("@{}@ Good morning, everybody!", talk.begun.elapsed().as_micros());
                let message = json!({
                    "type": "channel-message", "id": sent.to_string(), "channel-id": channel, "content": text,
                });
                socket.send(message.to_string()).await?;
            }
            answer = socket.next() => {
                let answer = answer?;
                if answer.contains(r#""type":"delivery""#) {
                    tally.stored.fetch_add(1, Ordering::Relaxed);
                    end.messages += 1;
                    end.sequence = end.sequence.max(after(&answer, r#""sequence":"#).unwrap_or(0));
                } else if answer.contains(r#""type":"ack""#) {
                    answered += 1;
                    if answer.contains(r#""status":false"#) {
                        tally.refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            () = tokio::time::sleep_until(rest.into()) => break,
        }
    }
    ends.send_replace(Some(end));
    Ok(())
}

/// Listens until the channel's last message has arrived. Returns the number of missed messages.
async fn listen(mut socket: Socket, talk: Talk, mut end: watch::Receiver<Option<End>>) -> u64 {
    let tally = &talk.tally;
    let (mut heard, mut newest) = (0, 0);
    let rest = talk.until + REST;
    loop {
        let known = *end.borrow_and_update();
        if known.is_some_and(|it| it.sequence <= newest) {
            break;
        }
        tokio::select! {
            push = socket.next() => {
                let Ok(push) = push else { break };
                if push.contains(r#""type":"resync""#) {
                    tally.resyncs.fetch_add(1, Ordering::Relaxed);
                }
                let Some(at) = number(&push) else { continue };
                let sequence = after(&push, r#""sequence":"#).unwrap_or(0);
                if sequence <= newest {
                    tally.disorder.fetch_add(1, Ordering::Relaxed);
                }
                newest = newest.max(sequence);
                heard += 1;
                tally.delivered.fetch_add(1, Ordering::Relaxed);
                let late = talk.begun.elapsed().saturating_sub(Duration::from_micros(at));
                lock(&tally.latencies).push(late.as_secs_f64() * 1e3);
            }
            _ = end.changed(), if known.is_none() => {}
            () = tokio::time::sleep_until(rest.into()) => break,
        }
    }
    let said = end.borrow().map_or(0, |it| it.messages);
    said.saturating_sub(heard)
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
