//! One says something, all hear it: how fast, in which order, and whether all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::report::quantile;
use crate::socket::Socket;
use crate::stack::{Room, Stack, number};

/// Without any delivery for so long, what is missing is lost.
const SILENCE: Duration = Duration::from_secs(10);
/// Messages that may be under way.
const RING: usize = 4096;

/// A room in which everybody listens.
#[derive(Debug)]
pub(crate) struct Talk {
    sender: Socket,
    room: Room,
    heard: mpsc::UnboundedReceiver<u64>,
    tally: Arc<Tally>,
    next: u64,
    receivers: u64,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Tally {
    counts: Vec<AtomicU64>,
    disorder: AtomicU64,
    deliveries: AtomicU64,
}

/// What came of some messages.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Deliveries a second.
    pub(crate) rate: f64,
    /// Milliseconds from sending to the last receiver, the median.
    pub(crate) p50: f64,
    /// The same, 99th percentile.
    pub(crate) p99: f64,
    /// Deliveries that came after a later one.
    pub(crate) disorder: f64,
    /// Deliveries that never came.
    pub(crate) lost: f64,
}

impl Talk {
    /// `receivers` who listen to one who speaks.
    pub(crate) async fn begin(stack: &Arc<Stack>, receivers: usize) -> Result<Self> {
        let mut room = stack.room(1, receivers).await?;
        let sender = room.senders.pop().context("one speaks")?;
        let tally = Arc::new(Tally {
            counts: (0..RING).map(|_| AtomicU64::new(0)).collect(),
            disorder: AtomicU64::new(0),
            deliveries: AtomicU64::new(0),
        });
        let receivers = room.receivers.len() as u64;
        let (all, heard) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for socket in room.receivers.drain(..) {
            let listening = listen(
                Arc::clone(stack),
                socket,
                Arc::clone(&tally),
                receivers,
                all.clone(),
            );
            tasks.spawn(listening);
        }
        Ok(Self {
            sender,
            room,
            heard,
            tally,
            next: 1,
            receivers,
            _tasks: tasks,
        })
    }

    /// Says `messages`, of which `window` may be under way at a time.
    pub(crate) async fn say(&mut self, stack: &Stack, messages: u64, window: u64) -> Result<Heard> {
        ensure!(window <= RING as u64 / 2, "so many do not fit");
        let first = self.next;
        let end = first + messages;
        let deliveries = self.tally.deliveries.load(Ordering::Relaxed);
        let disorder = self.tally.disorder.load(Ordering::Relaxed);
        let begun = Instant::now();
        let mut sent = vec![begun; messages as usize];
        let mut latencies = Vec::new();
        let mut last = begun;
        let mut done = 0;
        while done < messages {
            while self.next < end && self.next - first < done + window {
                let text = stack.message(&self.room, self.next);
                if let Some(sent) = sent.get_mut((self.next - first) as usize) {
                    *sent = Instant::now();
                }
                self.sender.send(text).await?;
                self.next += 1;
            }
            tokio::select! {
                // What the sender is told is read, or it would fill its buffer.
                told = self.sender.next() => drop(told?),
                heard = tokio::time::timeout(SILENCE, self.heard.recv()) => {
                    let Ok(Some(number)) = heard else {
                        // What came of a message that did not reach everybody came before the silence.
                        last = last.max(Instant::now().checked_sub(SILENCE).unwrap_or(begun));
                        break;
                    };
                    if let Some(sent) = sent.get(number.wrapping_sub(first) as usize) {
                        last = Instant::now();
                        latencies.push(last.duration_since(*sent).as_secs_f64() * 1000.0);
                        done += 1;
                    }
                }
            }
        }
        let got = self.tally.deliveries.load(Ordering::Relaxed) - deliveries;
        self.next = end;
        Ok(Heard {
            rate: got as f64 / last.duration_since(begun).as_secs_f64(),
            p50: quantile(&latencies, 0.5),
            p99: quantile(&latencies, 0.99),
            disorder: (self.tally.disorder.load(Ordering::Relaxed) - disorder) as f64,
            lost: (messages * self.receivers).saturating_sub(got) as f64,
        })
    }
}

async fn listen(
    stack: Arc<Stack>,
    mut socket: Socket,
    tally: Arc<Tally>,
    receivers: u64,
    all: mpsc::UnboundedSender<u64>,
) {
    let mut newest = 0;
    while let Ok(push) = socket.next().await {
        let Some(number) = number(&push) else {
            continue;
        };
        let place = stack.place(&push, number);
        if place < newest {
            tally.disorder.fetch_add(1, Ordering::Relaxed);
        }
        newest = newest.max(place);
        tally.deliveries.fetch_add(1, Ordering::Relaxed);
        let Some(count) = tally.counts.get(number as usize % RING) else {
            continue;
        };
        if count.fetch_add(1, Ordering::Relaxed) + 1 == receivers {
            count.store(0, Ordering::Relaxed);
            let _ = all.send(number);
        }
    }
}
