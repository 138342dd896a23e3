//! Channel messages: latency and throughput.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::report::{Bound, Measured, quantile};
use crate::socket::Socket;
use crate::stack::{Ours, Stack, number};

use super::Plan;

const TO_DELIVERY: &str = "ms to `delivery`";
const TO_RECEIVER: &str = "ms to the receiver";
const CHANNELS: &str = "messages/s, 64 senders in 64 channels";
const ONE: &str = "messages/s, 32 senders in one channel";
const POSTED: &str = "messages/s, 64 senders, each to itself";
/// How long a round of throughput lasts.
const ROUND: Duration = Duration::from_secs(3);

pub(super) async fn latency(plan: &Plan) -> Result<Measured> {
    let mut measured = Measured::new("message", "one client, p50");
    let stacks = [Arc::new(Stack::ours().await?), Arc::new(Stack::thin()?)];
    let mut rooms = Vec::new();
    for stack in &stacks {
        rooms.push(stack.room(1, 1).await?);
    }
    let mut said = 0;
    for round in 0..=plan.rounds {
        for (stack, room) in stacks.iter().zip(&mut rooms) {
            let (mut delivered, mut received) = (Vec::new(), Vec::new());
            for _ in 0..200 {
                said += 1;
                let text = stack.message(room, said);
                let sender = room.senders.first_mut().context("the room has no sender")?;
                let receiver = room
                    .receivers
                    .first_mut()
                    .context("the room has no receiver")?;
                let begun = Instant::now();
                sender.send(text).await?;
                let answered = async {
                    let mark = if stack.as_ours().is_some() {
                        "\"delivery\""
                    } else {
                        "@"
                    };
                    sender.next_with(mark).await?;
                    anyhow::Ok(begun.elapsed())
                };
                let heard = async {
                    while number(&receiver.next().await?) != Some(said) {}
                    anyhow::Ok(begun.elapsed())
                };
                let (answered, heard) = tokio::try_join!(answered, heard)?;
                delivered.push(answered.as_secs_f64() * 1e3);
                received.push(heard.as_secs_f64() * 1e3);
                if stack.as_ours().is_some() {
                    // The next message starts after the `ack` of this one.
                    sender.next_with("\"ack\"").await?;
                }
            }
            // The first round only warms up.
            if round > 0 {
                measured.add(stack.name, TO_DELIVERY, quantile(&delivered, 0.5));
                measured.add(stack.name, TO_RECEIVER, quantile(&received, 0.5));
            }
        }
    }
    measured.figure(("messaging", TO_DELIVERY), Bound::AtMost(3.0));
    measured.figure(("messaging", TO_RECEIVER), Bound::AtMost(5.0));
    Ok(measured)
}

pub(super) async fn throughput(plan: &Plan) -> Result<Measured> {
    let mut measured = Measured::new("throughput", "each sender waits for its `ack`");
    let stacks = [Stack::ours().await?, Stack::ours_at_once().await?];
    let thin = Stack::thin()?;
    let mut talks = Vec::new();
    for stack in &stacks {
        let ours = stack.as_ours().context("the stack is not Messaging")?;
        let apart = senders(ours, 64, |who| format!("channel-{who}")).await?;
        let together = senders(ours, 32, |_| "channel".to_owned()).await?;
        talks.push((stack.name, apart, together));
    }
    let mut posted = thin.room(64, 0).await?.senders;
    for round in 0..=plan.rounds {
        for (name, apart, together) in &mut talks {
            let in_channels = speak(apart).await?;
            let in_one = speak(together).await?;
            // Acknowledged messages may still be in flight to the receivers. They must not count in the next measurement.
            let last = together.iter().map(|it| it.own).max().unwrap_or(0);
            try_join_all(together.iter_mut().map(|it| it.catch_up(last))).await?;
            if round > 0 {
                measured.add(name, CHANNELS, in_channels);
                measured.add(name, ONE, in_one);
            }
        }
        let alone = ping_pong(&thin, &mut posted).await?;
        if round > 0 {
            measured.add("thin", POSTED, alone);
        }
    }
    for (_, _, together) in &talks {
        let in_order = together.iter().all(|it| it.disorder == 0);
        ensure!(in_order, "a receiver got messages out of order");
    }
    measured.figure(("messaging", CHANNELS), Bound::AtLeast(1500.0));
    measured.figure(("messaging", ONE), Bound::AtLeast(400.0));
    let thin = ("thin", POSTED);
    measured.ratio(("messaging", CHANNELS), thin, Bound::AtLeast(0.1));
    Ok(measured)
}

struct Sender {
    socket: Socket,
    channel: String,
    said: u64,
    /// Sequence of its own last message.
    own: u64,
    newest: u64,
    disorder: u64,
}

async fn senders(
    ours: &Ours,
    count: usize,
    channel: impl Fn(usize) -> String,
) -> Result<Vec<Sender>> {
    let domain = ours.fresh_domain();
    let mut members = std::collections::BTreeMap::<String, Vec<usize>>::new();
    for who in 0..count {
        members.entry(channel(who)).or_default().push(who);
    }
    for (channel, members) in members {
        ours.found_with(&domain, &channel, members).await?;
    }
    let mut senders = Vec::new();
    for who in 0..count {
        senders.push(Sender {
            socket: ours.connect(&domain, &format!("s{who}")).await?,
            channel: channel(who),
            said: 0,
            own: 0,
            newest: 0,
            disorder: 0,
        });
    }
    Ok(senders)
}

/// Lets all senders send for one round, each after its last message was acknowledged. Returns the committed messages per second.
async fn speak(senders: &mut [Sender]) -> Result<f64> {
    let begun = Instant::now();
    let said = try_join_all(senders.iter_mut().map(|it| it.speak(begun))).await?;
    Ok(said.iter().sum::<u64>() as f64 / begun.elapsed().as_secs_f64())
}

impl Sender {
    async fn speak(&mut self, begun: Instant) -> Result<u64> {
        let before = self.said;
        while begun.elapsed() < ROUND {
            self.said += 1;
            let id = self.said.to_string();
            let text = json!({"type": "channel-message", "id": id, "channel-id": self.channel, "content": "Good morning, everybody!"});
            self.socket.send(text.to_string()).await?;
            while !self.hear().await? {}
        }
        Ok(self.said - before)
    }

    /// Receives a frame. Returns true if it acknowledges the last message.
    async fn hear(&mut self) -> Result<bool> {
        let frame: Value = serde_json::from_str(&self.socket.next().await?)?;
        let sequence = frame.get("sequence").and_then(Value::as_u64);
        let kind = frame.get("type").and_then(Value::as_str);
        if frame.get("reply-to").is_none() {
            let sequence = sequence.unwrap_or(0);
            self.disorder += u64::from(sequence <= self.newest);
            self.newest = sequence;
        } else if kind == Some("ack") {
            let accepted = frame.get("status").is_some_and(|status| status == true);
            ensure!(accepted, "refused: {frame}");
            return Ok(true);
        } else if let Some(sequence) = sequence {
            self.own = sequence;
        }
        Ok(false)
    }

    /// Receives the other senders' messages up to the sequence `last`.
    async fn catch_up(&mut self, last: u64) -> Result<()> {
        // The service does not push a sender's own message to it.
        while self.newest.max(self.own) < last {
            self.hear().await?;
        }
        Ok(())
    }
}

async fn ping_pong(stack: &Stack, sockets: &mut [Socket]) -> Result<f64> {
    let begun = Instant::now();
    let (text, mark) = stack.ping();
    let counts = try_join_all(sockets.iter_mut().map(|socket| {
        let text = &text;
        async move {
            let mut count = 0_u64;
            while begun.elapsed() < ROUND {
                socket.send(text.clone()).await?;
                socket.next_with(mark).await?;
                count += 1;
            }
            anyhow::Ok(count)
        }
    }))
    .await?;
    Ok(counts.iter().sum::<u64>() as f64 / begun.elapsed().as_secs_f64())
}
