//! A soak with faults: clients send, lose their connections and resume, while functions are killed, DynamoDB fails and
//! posts vanish. At the end nothing that was acknowledged is lost, nothing stands twice, nobody saw anything out of order.
//!
//! `cargo run --example soak -p tests -- [MESSAGES] [CLIENTS] [CHANNELS] [SEED] [FAULT=RATE …]`, after
//! `cargo build --workspace --bins`; `MESSAGING_BINARIES` names the folder of the binaries if it is another than
//! `target/debug`.

#![allow(
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a tool of the tests that prints what it measured and fails where it stands"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tests::{Gateway, Site};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

const USUAL: [&str; 8] = [
    "kill-instance=0.0005",
    "delay-dynamodb=0.01",
    "fail-dynamodb=0.002",
    "lose-dynamodb-reply=0.002",
    "conflict-dynamodb=0.002",
    "drop-disconnect=0.2",
    "throttle-post=0.005",
    "lose-post-reply=0.002",
];
/// One connection in so many ends after each message.
const CONNECTION_LASTS: u64 = 40;
/// Without an answer for so long, a client reconnects and tries again.
const PATIENCE: Duration = Duration::from_secs(8);

/// What all clients count together.
#[derive(Default)]
struct Counts {
    stored: AtomicU64,
    duplicates_told: AtomicU64,
    reconnects: AtomicU64,
    gaps: AtomicU64,
    resyncs: AtomicU64,
    repeats: AtomicU64,
    unanswered: AtomicU64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    let mut number = |default: u64| -> Result<u64> {
        match arguments.next_if(|it| !it.contains('=')) {
            Some(text) => text.parse().with_context(|| format!("{text} is no number")),
            None => Ok(default),
        }
    };
    let (messages, clients, channels, seed) =
        (number(100_000)?, number(16)?, number(4)?, number(1)?);
    let mut faults: Vec<String> = arguments.collect();
    if faults.is_empty() {
        faults = USUAL.map(str::to_owned).into();
    }
    let mut options = vec!["--seed".to_owned(), seed.to_string()];
    for fault in &faults {
        options.extend(["--fault".to_owned(), fault.clone()]);
    }
    let gateway = Gateway::start(&options)?;
    let site = Arc::new(Site::at(gateway.urls().clone()));
    println!(
        "{messages} messages, {clients} clients, {channels} channels, seed {seed}, faults: {}",
        faults.join(" ")
    );

    let counts = Arc::new(Counts::default());
    let began = Instant::now();
    let mut names = Vec::new();
    for channel in 0..channels {
        names.push(format!("channel-{channel}"));
    }
    let mut founder = Soaker::new(&site, "founder", seed, &names, &counts);
    for name in &names {
        founder
            .insist(json!({"type": "create-channel", "name": name, "channel-id": name, "invite-token": "t"}))
            .await?;
    }
    let mut tasks = Vec::new();
    for client in 0..clients {
        let mut soaker = Soaker::new(
            &site,
            &format!("client-{client}"),
            seed + client + 1,
            &names,
            &counts,
        );
        for name in &names {
            soaker.join(name).await?;
        }
        let quota = messages / clients;
        tasks.push(tokio::spawn(async move {
            soaker.run(quota).await?;
            Ok::<_, anyhow::Error>(soaker)
        }));
    }
    let reporter = tokio::spawn(report(counts.clone(), began, messages));
    let mut soakers = Vec::new();
    for task in tasks {
        soakers.push(task.await??);
    }
    reporter.abort();
    let took = began.elapsed();
    let verdict = verify(&mut founder, &mut soakers, &names).await;
    println!(
        "{} stored in {:.0} s ({:.0}/s); {} reconnects, {} gaps closed, {} resyncs, {} repeats ignored, {} unanswered and tried again, {} told as duplicate",
        counts.stored.load(Ordering::Relaxed),
        took.as_secs_f64(),
        counts.stored.load(Ordering::Relaxed) as f64 / took.as_secs_f64(),
        counts.reconnects.load(Ordering::Relaxed),
        counts.gaps.load(Ordering::Relaxed),
        counts.resyncs.load(Ordering::Relaxed),
        counts.repeats.load(Ordering::Relaxed),
        counts.unanswered.load(Ordering::Relaxed),
        counts.duplicates_told.load(Ordering::Relaxed),
    );
    verdict
}

async fn report(counts: Arc<Counts>, began: Instant, messages: u64) {
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let stored = counts.stored.load(Ordering::Relaxed);
        println!(
            "  {stored} of {messages} after {:.0} s",
            began.elapsed().as_secs_f64()
        );
    }
}

/// Holds the clients' logs against the history.
async fn verify(founder: &mut Soaker, soakers: &mut [Soaker], names: &[String]) -> Result<()> {
    let (mut lost, mut twice, mut different, mut events) = (0, 0, 0, 0);
    for soaker in soakers.iter_mut() {
        soaker.line = None;
        soaker.catch_up_everywhere().await?;
    }
    for name in names {
        let history = founder.history(name).await?;
        events += history.len();
        let numbers: Vec<u64> = history
            .iter()
            .filter_map(|it| it["sequence"].as_u64())
            .collect();
        ensure!(
            numbers == (1..=numbers.len() as u64).collect::<Vec<_>>(),
            "{name} has a gap"
        );
        let mut seen = BTreeMap::new();
        for event in &history {
            if let Some(id) = event["message-id"].as_str() {
                *seen.entry(id.to_owned()).or_insert(0) += 1;
            }
        }
        twice += seen.values().filter(|it| **it > 1).count();
        for soaker in soakers.iter() {
            lost += soaker
                .stored
                .iter()
                .filter(|(channel, id)| channel == name && !seen.contains_key(id))
                .count();
            let mine = &soaker.logs[name];
            let theirs: Vec<(u64, Option<String>)> = history
                .iter()
                .map(|it| {
                    (
                        it["sequence"].as_u64().unwrap_or(0),
                        it["message-id"].as_str().map(str::to_owned),
                    )
                })
                .collect();
            if theirs[soaker.first[name] as usize..] != mine[..] {
                different += 1;
            }
        }
    }
    let disorder: u64 = soakers.iter().map(|it| it.disorder).sum();
    println!(
        "{events} events; lost {lost}, stored twice {twice}, logs that differ {different}, out of order {disorder}"
    );
    ensure!(
        lost == 0 && twice == 0 && different == 0 && disorder == 0,
        "the invariants do not hold"
    );
    Ok(())
}

type Line = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A client that keeps the rule: apply position + 1, ignore what it has, fetch what is missing.
struct Soaker {
    site: Arc<Site>,
    name: String,
    random: u64,
    counts: Arc<Counts>,
    line: Option<Line>,
    asked: u64,
    logs: BTreeMap<String, Vec<(u64, Option<String>)>>,
    positions: BTreeMap<String, u64>,
    first: BTreeMap<String, u64>,
    behind: BTreeSet<String>,
    pushed: BTreeMap<String, u64>,
    stored: Vec<(String, String)>,
    disorder: u64,
}

impl Soaker {
    fn new(
        site: &Arc<Site>,
        name: &str,
        seed: u64,
        channels: &[String],
        counts: &Arc<Counts>,
    ) -> Self {
        let each = |value: u64| {
            channels
                .iter()
                .map(|it| (it.clone(), value))
                .collect::<BTreeMap<_, _>>()
        };
        Self {
            site: site.clone(),
            name: name.to_owned(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            counts: counts.clone(),
            line: None,
            asked: 0,
            logs: channels.iter().map(|it| (it.clone(), Vec::new())).collect(),
            positions: each(0),
            first: each(0),
            behind: BTreeSet::new(),
            pushed: BTreeMap::new(),
            stored: Vec::new(),
            disorder: 0,
        }
    }

    fn chance(&mut self, one_in: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % one_in
    }

    async fn join(&mut self, channel: &str) -> Result<()> {
        let joined = self
            .insist(json!({"type": "join-channel", "channel-id": channel, "invite-token": "t"}))
            .await?;
        // A repeat, after the first answer was lost, tells the end of the log; joining again from there loses nothing.
        let sequence = joined["sequence"]
            .as_u64()
            .context("joined without a sequence")?;
        self.first.insert(channel.to_owned(), sequence);
        self.positions.insert(channel.to_owned(), sequence);
        self.logs.insert(channel.to_owned(), Vec::new());
        self.behind.remove(channel);
        Ok(())
    }

    async fn run(&mut self, quota: u64) -> Result<()> {
        let channels: Vec<String> = self.positions.keys().cloned().collect();
        for number in 0..quota {
            let channel = channels[usize::try_from(self.chance(channels.len() as u64))?].clone();
            let id = format!("{}-{number}", self.name);
            let stored = self
                .insist(json!({
                    "type": "channel-message", "channel-id": channel, "message-id": id, "content": {"number": number},
                }))
                .await?;
            if stored["duplicate"] == true {
                self.counts.duplicates_told.fetch_add(1, Ordering::Relaxed);
            }
            let sequence = stored["sequence"]
                .as_u64()
                .context("stored without a sequence")?;
            self.take(&channel, sequence, Some(id.clone()), false);
            self.stored.push((channel, id));
            self.counts.stored.fetch_add(1, Ordering::Relaxed);
            if self.chance(CONNECTION_LASTS) == 0 {
                self.line = None;
            }
        }
        Ok(())
    }

    /// Asks until it is honoured, over new connections if need be.
    async fn insist(&mut self, message: Value) -> Result<Value> {
        for _ in 0..200 {
            match self.ask(message.clone()).await {
                Ok((response, ack)) if ack["status"] == true => {
                    let response = response.unwrap_or(Value::Null);
                    self.catch_up().await;
                    return Ok(response);
                }
                Ok((_, ack)) if ack["error"]["code"] == "unavailable" => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Ok((_, ack)) => bail!("{message} is refused: {ack}"),
                Err(_) => {
                    self.counts.unanswered.fetch_add(1, Ordering::Relaxed);
                    self.line = None;
                }
            }
        }
        bail!("{message} is not answered");
    }

    /// Asks once, and takes what is pushed meanwhile.
    async fn ask(&mut self, mut message: Value) -> Result<(Option<Value>, Value)> {
        Box::pin(self.connected()).await?;
        self.asked += 1;
        let id = self.asked.to_string();
        message["id"] = id.clone().into();
        let line = self.line.as_mut().context("not connected")?;
        line.send(Message::text(message.to_string())).await?;
        let mut response = None;
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let line = self.line.as_mut().context("not connected")?;
            let frame = tokio::time::timeout_at(until, line.next())
                .await?
                .context("closed")??;
            let Message::Text(text) = frame else { continue };
            let frame: Value = serde_json::from_str(&text)?;
            match frame.get("reply-to") {
                Some(reply_to) if *reply_to == *id && frame["type"] == "ack" => {
                    return Ok((response, frame));
                }
                Some(reply_to) if *reply_to == *id => response = Some(frame),
                Some(_) => {}
                None => self.pushed(&frame),
            }
        }
    }

    async fn connected(&mut self) -> Result<()> {
        if self.line.is_some() {
            return Ok(());
        }
        let token = self.site.token(&self.name).await?;
        let url = format!("{}?access_token={token}", self.site.urls.websocket);
        let (line, _) = tokio::time::timeout(PATIENCE, connect_async(url)).await??;
        self.line = Some(line);
        self.pushed.clear();
        self.counts.reconnects.fetch_add(1, Ordering::Relaxed);
        let positions: Vec<Value> = self
            .positions
            .iter()
            .filter(|(channel, _)| self.first[*channel] > 0)
            .map(|(channel, position)| json!({"channel-id": channel, "sequence": position}))
            .collect();
        if positions.is_empty() {
            return Ok(());
        }
        let (resumed, _) = self
            .ask(json!({"type": "resume", "positions": positions}))
            .await?;
        let resumed = resumed.context("resume is refused")?;
        for destination in resumed["destinations"].as_array().into_iter().flatten() {
            let channel = destination["channel-id"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            self.take_events(&channel, &destination["events"]);
            if destination["complete"] != true {
                self.behind.insert(channel);
            }
        }
        Ok(())
    }

    fn pushed(&mut self, frame: &Value) {
        let Some(channel) = frame["channel-id"].as_str().map(str::to_owned) else {
            return;
        };
        if !self.positions.contains_key(&channel) || self.first[&channel] == 0 {
            return;
        }
        if frame["type"] == "resync" {
            self.counts.resyncs.fetch_add(1, Ordering::Relaxed);
            self.behind.insert(channel);
            return;
        }
        if let Some(sequence) = frame["sequence"].as_u64() {
            let last = self.pushed.entry(channel.clone()).or_insert(0);
            if sequence < *last {
                self.disorder += 1;
            }
            *last = sequence.max(*last);
            self.take(
                &channel,
                sequence,
                frame["message-id"].as_str().map(str::to_owned),
                true,
            );
        }
    }

    fn take(&mut self, channel: &str, sequence: u64, id: Option<String>, pushed: bool) {
        let position = self.positions[channel];
        if sequence == position + 1 {
            self.positions.insert(channel.to_owned(), sequence);
            if let Some(log) = self.logs.get_mut(channel) {
                log.push((sequence, id));
            }
        } else if sequence > position {
            self.counts.gaps.fetch_add(1, Ordering::Relaxed);
            self.behind.insert(channel.to_owned());
        } else if pushed {
            self.counts.repeats.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take_events(&mut self, channel: &str, events: &Value) {
        for event in events.as_array().into_iter().flatten() {
            let id = event["message-id"].as_str().map(str::to_owned);
            self.take(channel, event["sequence"].as_u64().unwrap_or(0), id, false);
        }
    }

    /// Fetches what is missing; what cannot be fetched now is fetched later.
    async fn catch_up(&mut self) {
        while let Some(channel) = self.behind.pop_first() {
            let after = self.positions[&channel];
            let ask =
                json!({"type": "get-history", "channel-id": channel, "after": after, "limit": 100});
            match Box::pin(self.ask(ask)).await {
                Ok((Some(history), _)) => {
                    self.take_events(&channel, &history["events"]);
                    if history["more"] == true {
                        self.behind.insert(channel);
                    } else if self.positions[&channel]
                        >= history["last-sequence"].as_u64().unwrap_or(0)
                    {
                        self.behind.remove(&channel);
                    }
                }
                _ => {
                    self.behind.insert(channel);
                    self.line = None;
                    return;
                }
            }
        }
    }

    async fn catch_up_everywhere(&mut self) -> Result<()> {
        for _ in 0..100 {
            self.behind = self.positions.keys().cloned().collect();
            self.catch_up().await;
            if self.behind.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        bail!("{} does not catch up", self.name)
    }

    async fn history(&mut self, channel: &str) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        loop {
            let after = all
                .last()
                .map_or(0, |it: &Value| it["sequence"].as_u64().unwrap_or(0));
            let ask =
                json!({"type": "get-history", "channel-id": channel, "after": after, "limit": 100});
            let page = self.insist(ask).await?;
            all.extend(page["events"].as_array().cloned().unwrap_or_default());
            if page["more"] != true {
                return Ok(all);
            }
        }
    }
}
