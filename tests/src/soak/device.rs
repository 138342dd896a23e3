//! One device: it has one connection at a time and applies the protocol's rule for clients.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use super::log::{Log, Place, Push, seen};
use super::tally::{Count, Tally, Violation};
use crate::Site;

/// A device leaves its connection after one message in this many.
const LEAVES: u64 = 40;
/// A device repeats one stored message in this many.
const REPEATS: u64 = 16;
/// One message in this many goes to a subscriber instead of a channel.
const DIRECT: u64 = 5;
/// A client that has no answer after this time retries over another connection.
const PATIENCE: Duration = Duration::from_secs(8);
/// The number of tries of one request before the soak fails.
const TRIES: u32 = 100;
/// The pause before a retry.
const PAUSE: Duration = Duration::from_millis(50);

type Line = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The reason why there is no answer.
#[derive(Debug)]
pub(super) enum Silence {
    /// The connection ended, or nothing arrived.
    Line,
    /// A function failed, or the response was lost before its `ack`. The connection still works.
    Answer,
    /// The service answered `unavailable`.
    Busy,
    /// The request was rejected for good. The value is the `ack`.
    Refused(Value),
}

/// A message that was acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) place: Place,
    pub(super) id: String,
    pub(super) sequence: u64,
}

/// A device of a subscriber.
pub(super) struct Device {
    site: Arc<Site>,
    tally: Arc<Tally>,
    subscriber: String,
    name: String,
    random: u64,
    token: Option<String>,
    line: Option<Line>,
    asked: u64,
    /// The messages that were acknowledged over this connection.
    acked: BTreeSet<u64>,
    logs: BTreeMap<Place, Log>,
    stored: Vec<Stored>,
}

impl Device {
    pub(super) fn new(
        site: &Arc<Site>,
        tally: &Arc<Tally>,
        subscriber: &str,
        name: &str,
        seed: u64,
    ) -> Self {
        Self {
            site: Arc::clone(site),
            tally: Arc::clone(tally),
            subscriber: subscriber.to_owned(),
            name: name.to_owned(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            token: None,
            line: None,
            asked: 0,
            acked: BTreeSet::new(),
            logs: BTreeMap::new(),
            stored: Vec::new(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn subscriber(&self) -> &str {
        &self.subscriber
    }

    pub(super) fn stored(&self) -> &[Stored] {
        &self.stored
    }

    pub(super) const fn logs(&self) -> &BTreeMap<Place, Log> {
        &self.logs
    }

    /// Tracks a log from this position.
    pub(super) fn follow(&mut self, place: Place, position: u64) {
        self.logs.insert(place, Log::from(position));
    }

    pub(super) async fn join(&mut self, channel: &str) -> Result<()> {
        let join = json!({ "type": "join-channel", "channel-id": channel, "invite-token": "t" });
        let joined = self.insist(&join).await?;
        // A repeat after a lost answer returns the current end of the log. Continuing from there loses nothing.
        let position = joined.get("sequence").and_then(Value::as_u64);
        let position = position.context("joined without a sequence")?;
        self.follow(Place::Channel(channel.to_owned()), position);
        Ok(())
    }

    /// Sends `quota` messages. Retries each until it is acknowledged.
    pub(super) async fn send_all(&mut self, quota: u64) -> Result<()> {
        for number in 0..quota {
            if self.tally.is_over() {
                break;
            }
            let place = self.destination()?;
            let id = format!("{}-{number}", self.name);
            self.send(&place, &id).await?;
            self.settle().await;
            if self.one_in(LEAVES) && !self.logs.values().any(|it| it.unexplained().is_some()) {
                self.leave().await;
            }
        }
        Ok(())
    }

    async fn send(&mut self, place: &Place, id: &str) -> Result<()> {
        let message_type = match place {
            Place::Channel(_) => "channel-message",
            Place::Subscriber(_) => "direct-message",
        };
        let message = json!({ "type": message_type, "message-id": id, "content": id });
        let message = place.put_into(message);
        let stored = self.insist(&message).await?;
        let sequence = number(&stored, "sequence");
        self.learn(place, sequence, id.to_owned());
        self.tally.one(Count::Stored);
        if stored.get("duplicate").is_some() {
            self.tally.one(Count::AnsweredAsDuplicate);
        }
        self.stored.push(Stored {
            place: place.clone(),
            id: id.to_owned(),
            sequence,
        });
        if self.one_in(REPEATS) {
            let again = self.insist(&message).await?;
            self.tally.one(Count::Repeated);
            if number(&again, "sequence") != sequence
                || again.get("duplicate") != Some(&json!(true))
            {
                let detail = format!("{id} at {sequence}, repeated: {again}");
                self.tally.violated(Violation::Duplicated, &detail);
            }
        }
        Ok(())
    }

    fn destination(&mut self) -> Result<Place> {
        let direct = self.one_in(DIRECT);
        let of_kind = |it: &&Place| matches!(it, Place::Subscriber(_)) == direct;
        let mut places: Vec<Place> = self.logs.keys().filter(of_kind).cloned().collect();
        if places.is_empty() {
            places = self.logs.keys().cloned().collect();
        }
        let count = u64::try_from(places.len())?;
        let chosen = usize::try_from(self.random() % count.max(1))?;
        places
            .into_iter()
            .nth(chosen)
            .context("the device tracks no log")
    }

    /// Ends the connection, with or without a close frame, and stays away for up to 300 ms.
    async fn leave(&mut self) {
        if self.one_in(2) {
            self.hang_up().await;
        }
        self.line = None;
        let away = Duration::from_millis(self.random() % 300);
        tokio::time::sleep(away).await;
    }

    /// Closes the connection.
    pub(super) async fn hang_up(&mut self) {
        if let Some(mut line) = self.line.take() {
            let _ = tokio::time::timeout(PATIENCE, line.close(None)).await;
        }
    }

    /// Repeats a request until it succeeds, over new connections if necessary. Returns the response.
    pub(super) async fn insist(&mut self, message: &Value) -> Result<Value> {
        for _ in 0..TRIES {
            if !self.is_connected().await {
                continue;
            }
            match self.ask(message).await {
                Ok(response) => return Ok(response),
                Err(Silence::Refused(ack)) => bail!("{message} is rejected: {ack}"),
                Err(silence) => self.recover(&silence).await,
            }
        }
        bail!("{message} is not answered")
    }

    async fn recover(&mut self, silence: &Silence) {
        match silence {
            Silence::Line => {
                self.tally.one(Count::Unanswered);
                self.line = None;
            }
            Silence::Answer => self.tally.one(Count::Unanswered),
            Silence::Busy => self.tally.one(Count::Unavailable),
            Silence::Refused(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }

    /// Opens a connection and resumes if there is none. Returns true if there is a connection.
    pub(super) async fn is_connected(&mut self) -> bool {
        if self.line.is_some() {
            return true;
        }
        let opened = self.open().await.is_some();
        let resumed = opened && self.resume().await.is_ok();
        if !resumed {
            self.line = None;
            self.tally.one(Count::Refused);
            tokio::time::sleep(PAUSE).await;
        }
        resumed
    }

    async fn open(&mut self) -> Option<()> {
        if self.token.is_none() {
            self.token = Some(self.site.token(&self.subscriber).await.ok()?);
        }
        let url = format!(
            "{}?access_token={}",
            self.site.urls.websocket,
            self.token.as_deref()?
        );
        let handshake = tokio::time::timeout(PATIENCE, connect_async(url));
        let (line, _) = handshake.await.ok()?.ok()?;
        self.line = Some(line);
        self.acked.clear();
        self.logs.values_mut().for_each(Log::begin_connection);
        self.tally.one(Count::Connections);
        Some(())
    }

    /// Fetches the events after the positions: one `resume` for all logs, then pages for logs that did not fit.
    async fn resume(&mut self) -> Result<(), Silence> {
        let position =
            |(place, log): (&Place, &Log)| place.put_into(json!({ "sequence": log.position() }));
        let positions: Vec<Value> = self.logs.iter().map(position).collect();
        if positions.is_empty() {
            return Ok(());
        }
        let resume = json!({ "type": "resume", "positions": positions });
        let resumed = self.ask(&resume).await?;
        self.tally.one(Count::Resumes);
        let destinations = resumed.get("destinations").and_then(Value::as_array);
        for destination in destinations.into_iter().flatten() {
            let Some(place) = Place::of(destination) else {
                continue;
            };
            let taken = self.take_page(&place, destination);
            self.tally.add(Count::Resumed, taken);
            let last = number(destination, "last-sequence");
            let complete = destination.get("complete") == Some(&json!(true));
            let position = self.logs.get(&place).map_or(0, Log::position);
            if complete && position < last {
                let detail = format!("{} at {position}: {destination}", self.name);
                self.tally.violated(Violation::ResumeNotContiguous, &detail);
            }
            if let Some(log) = self.logs.get_mut(&place) {
                log.behind |= !complete;
            }
        }
        self.fetch().await
    }

    /// Fetches missing events after gaps, `resync`s and incomplete answers. A failed fetch is repeated later.
    pub(super) async fn settle(&mut self) {
        if self.line.is_none() {
            return;
        }
        for log in self.logs.values_mut() {
            if log.notice_gap() {
                self.tally.one(Count::Gaps);
            }
        }
        if let Err(silence) = self.fetch().await {
            self.recover(&silence).await;
        }
    }

    async fn fetch(&mut self) -> Result<(), Silence> {
        while let Some((place, log)) = self.logs.iter().find(|(_, log)| log.behind) {
            let place = place.clone();
            let page = json!({ "type": "get-history", "after": log.position(), "limit": 100 });
            let page = self.ask(&place.put_into(page)).await?;
            let taken = self.take_page(&place, &page);
            self.tally.add(Count::Paged, taken);
            if let Some(log) = self.logs.get_mut(&place) {
                log.behind = page.get("more") == Some(&json!(true))
                    || log.position() < number(&page, "last-sequence");
            }
        }
        Ok(())
    }

    /// Records the events of a page that was requested after the position. The page must begin there and have no gap.
    /// Returns its number of events.
    fn take_page(&mut self, place: &Place, page: &Value) -> u64 {
        let events = page.get("events").and_then(Value::as_array);
        let mut taken = 0;
        let mut last = None;
        for event in events.into_iter().flatten() {
            let sequence = number(event, "sequence");
            // Pushes may have advanced the position while the page was under way.
            let position = self.logs.get(place).map_or(0, Log::position);
            if last.is_none_or(|it| sequence != it + 1)
                && (last.is_some() || sequence > position + 1)
            {
                let detail = format!("{} at {position} in {place:?}: {sequence}", self.name);
                self.tally.violated(Violation::ResumeNotContiguous, &detail);
            }
            last = Some(sequence);
            taken += 1;
            self.learn(place, sequence, seen(event));
        }
        taken
    }

    fn learn(&mut self, place: &Place, sequence: u64, seen: String) {
        let Some(log) = self.logs.get_mut(place) else {
            return;
        };
        let detail = format!("{} in {place:?} at {sequence}: {seen}", self.name);
        if !log.learn(sequence, seen) {
            self.tally.violated(Violation::Different, &detail);
        }
    }

    /// Sends a request once and records the pushes that arrive meanwhile. Returns the response.
    pub(super) async fn ask(&mut self, message: &Value) -> Result<Value, Silence> {
        self.asked += 1;
        let asked = self.asked;
        let mut message = message.clone();
        if let Some(fields) = message.as_object_mut() {
            fields.insert("id".to_owned(), asked.to_string().into());
        }
        let line = self.line.as_mut().ok_or(Silence::Line)?;
        let sent = line.send(Message::text(message.to_string())).await;
        sent.map_err(|_| Silence::Line)?;
        let until = Instant::now() + PATIENCE;
        let mut response = None;
        loop {
            let frame = self.frame(until).await.ok_or(Silence::Line)?;
            match self.answered(&frame) {
                Some(number) if number == asked && is_ack(&frame) => {
                    return self.outcome(&frame, response);
                }
                Some(number) if number == asked => response = Some(frame),
                Some(_) => {}
                None if frame.get("type").is_none() => {
                    // API Gateway reports that a function failed. It may be an earlier function that had already answered.
                    self.tally.one(Count::FunctionErrors);
                    return Err(Silence::Answer);
                }
                None => self.pushed(&frame),
            }
        }
    }

    fn outcome(&self, ack: &Value, response: Option<Value>) -> Result<Value, Silence> {
        if ack.get("status") != Some(&json!(true)) {
            let code = ack.pointer("/error/code").and_then(Value::as_str);
            return Err(match code {
                Some("unavailable") => Silence::Busy,
                _ => Silence::Refused(ack.clone()),
            });
        }
        response.ok_or_else(|| {
            self.tally.one(Count::NoResponse);
            Silence::Answer
        })
    }

    /// Returns the number of the request that a frame answers. A request has at most one response, then one `ack`.
    fn answered(&mut self, frame: &Value) -> Option<u64> {
        let reply_to = frame.get("reply-to")?.as_str()?.parse().ok()?;
        let late = self.acked.contains(&reply_to);
        if is_ack(frame) {
            self.acked.insert(reply_to);
        }
        if late {
            self.tally
                .violated(Violation::AnsweredTwice, &frame.to_string());
        }
        Some(reply_to)
    }

    /// Returns the next frame, or `None` if the connection ends or the time is over.
    async fn frame(&mut self, until: Instant) -> Option<Value> {
        loop {
            let line = self.line.as_mut()?;
            match tokio::time::timeout_at(until, line.next()).await.ok()? {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).ok(),
                Some(Ok(Message::Close(_)) | Err(_)) | None => {
                    self.line = None;
                    return None;
                }
                Some(Ok(_)) => {}
            }
        }
    }

    /// Records pushes until `until` and fetches events only after a gap or a `resync`.
    pub(super) async fn listen(&mut self, until: Instant) {
        while self.is_connected().await {
            self.settle().await;
            match self.frame(until).await {
                Some(frame) if self.answered(&frame).is_none() => self.pushed(&frame),
                Some(_) => {}
                None if self.line.is_some() => return,
                None => {}
            }
            if until <= Instant::now() {
                return;
            }
        }
    }

    fn pushed(&mut self, frame: &Value) {
        let Some(message_type) = frame.get("type").and_then(Value::as_str) else {
            return;
        };
        if message_type == "disconnect" {
            self.tally.one(Count::Dropped);
        }
        let Some((place, log)) =
            Place::of(frame).and_then(|it| self.logs.get_mut(&it).map(|log| (it, log)))
        else {
            return;
        };
        if message_type == "resync" {
            self.tally.one(Count::Resyncs);
            log.resync(number(frame, "last-sequence"));
            return;
        }
        if ["delivery", "typing", "invitation"].contains(&message_type) {
            return;
        }
        let sequence = number(frame, "sequence");
        self.tally.one(Count::Pushed);
        match log.pushed(sequence) {
            Push::Next => {}
            Push::Repeat => self.tally.one(Count::PushedTwice),
            Push::OutOfOrder => {
                let detail = format!("{} in {place:?}: {frame}", self.name);
                self.tally.violated(Violation::OutOfOrder, &detail);
            }
        }
        self.learn(&place, sequence, seen(frame));
    }

    fn one_in(&mut self, number: u64) -> bool {
        self.random().is_multiple_of(number)
    }

    /// Xorshift, so that a seed determines all choices.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 16
    }
}

fn is_ack(frame: &Value) -> bool {
    frame.get("type") == Some(&json!("ack"))
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}
