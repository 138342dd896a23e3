//! One sender publishes to all receivers. Measures the rate, the order and the losses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::report::quantile;
use crate::socket::Socket;
use crate::stack::{Room, Stack, number};

/// If no delivery arrives for this long, the missing ones count as lost.
const SILENCE: Duration = Duration::from_secs(10);
/// Most messages that may be in flight.
const RING: usize = 4096;

/// A room in which one sender publishes and all others listen.
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

/// The result of some messages.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Deliveries per second.
    pub(crate) rate: f64,
    /// Median of the milliseconds from sending to the last receiver.
    pub(crate) p50: f64,
    /// 99th percentile of the same.
    pub(crate) p99: f64,
    /// Deliveries that arrived after a later one.
    pub(crate) disorder: f64,
    /// Deliveries that never arrived.
    pub(crate) lost: f64,
}

impl Talk {
    /// Opens a room with one sender and `receivers` listeners.
    pub(crate) async fn begin(stack: &Arc<Stack>, receivers: usize) -> Result<Self> {
        let mut room = stack.room(1, receivers).await?;
        let sender = room.senders.pop().context("the room has no sender")?;
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

    /// Sends `messages` messages, of which at most `window` are in flight at a time.
    pub(crate) async fn say(&mut self, stack: &Stack, messages: u64, window: u64) -> Result<Heard> {
        ensure!(window <= RING as u64 / 2, "the window exceeds {}", RING / 2);
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
                // The sender reads its answers. Otherwise they would fill its buffer.
                answer = self.sender.next() => drop(answer?),
                heard = tokio::time::timeout(SILENCE, self.heard.recv()) => {
                    let Ok(Some(number)) = heard else {
                        // The last deliveries arrived before the silence began.
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
        let order = stack.order(&push, number);
        if order < newest {
            tally.disorder.fetch_add(1, Ordering::Relaxed);
        }
        newest = newest.max(order);
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
