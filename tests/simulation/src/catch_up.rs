//! What a client does with frames, and how it fetches what is missing.

use std::rc::Rc;

use protocol::{LogId, Timestamp};
use serde_json::{Value, json};

use crate::{
    client::{Answer, Device, name},
    shared::Session,
};

impl Device {
    /// Applies one frame.
    pub(crate) fn apply(&self, session: &Session, at: usize, frame: &Value) {
        self.note_time(frame);
        match frame["type"].as_str().unwrap() {
            kind @ ("channels" | "conversations") => {
                for item in frame[kind].as_array().unwrap() {
                    self.missing(&self.log_of(item).unwrap());
                }
            }
            "resumed" => {
                for item in frame["destinations"].as_array().unwrap() {
                    self.apply_resumed(session, at, item);
                }
            }
            "channel-joined" => {
                if let Some(log) = self.log_of(&frame["membership"]) {
                    self.missing(&log);
                }
            }
            kind => {
                if let Some(log) = self.log_of(frame) {
                    self.apply_to(session, at, &log, kind, frame);
                }
            }
        }
    }

    pub(crate) fn missing(&self, log: &LogId) {
        let mut positions = self.positions.borrow_mut();
        positions.entry(log.clone()).or_default().fetch = true;
    }

    fn note_time(&self, frame: &Value) {
        let times = [&frame["timestamp"], &frame["server-time"]];
        let latest = times
            .into_iter()
            .filter_map(|it| Timestamp::parse(it.as_str()?))
            .max();
        self.since.set(self.since.get().max(latest));
    }

    fn apply_resumed(&self, session: &Session, at: usize, item: &Value) {
        let log = self.log_of(item).unwrap();
        if item.get("error").is_some() {
            // The subscriber may have become a member meanwhile, so the client fetches again.
            if let Some(position) = self.positions.borrow_mut().get_mut(&log) {
                position.fetch = true;
            }
            return;
        }
        let Some(events) = item.get("events") else {
            // A destination that is new to this client, so it fetches it.
            self.missing(&log);
            return;
        };
        let end = item["last-sequence"].as_u64().unwrap();
        let mut positions = self.positions.borrow_mut();
        let position = positions.entry(log.clone()).or_default();
        position.told_page(events);
        // An earlier resync may have announced a later end.
        position.fetch |= !position.knows(end);
        let mut baseline = session.baseline.borrow_mut();
        baseline.entry(log).or_insert((at, end));
    }

    fn apply_to(&self, session: &Session, at: usize, log: &LogId, kind: &str, frame: &Value) {
        let sequence = frame["sequence"].as_u64();
        let mut positions = self.positions.borrow_mut();
        match kind {
            "history" => {
                let position = positions.entry(log.clone()).or_default();
                position.told_page(&frame["events"]);
                let end = frame["last-sequence"].as_u64().unwrap();
                let mut baseline = session.baseline.borrow_mut();
                baseline.entry(log.clone()).or_insert((at, end));
            }
            "delivery" if frame["status"] == "stored" => {
                let position = positions.entry(log.clone()).or_default();
                position.told(sequence.unwrap());
            }
            "delivery" | "typing" | "presence" => {}
            "resync" | "invitation" | "channel-left" => {
                if kind == "resync" || frame.get("reply-to").is_some() {
                    positions.entry(log.clone()).or_default().fetch = true;
                }
            }
            _ => {
                let Some(sequence) = sequence else {
                    return;
                };
                let position = positions.entry(log.clone()).or_default();
                position.told(sequence);
                // A gap, or the end of this subscriber's membership.
                position.fetch |= position.at < sequence && frame.get("reply-to").is_none();
                position.fetch |= kind == "subscriber-left" || kind == "channel-deleted";
            }
        }
    }

    /// Fetches what is known to be missing.
    pub(crate) async fn fetch(&self, session: &Rc<Session>) {
        loop {
            self.look();
            let next = {
                let mut positions = self.positions.borrow_mut();
                let missing = positions.iter_mut().find(|(_, it)| it.fetch);
                missing.map(|(log, it)| {
                    it.fetch = false;
                    (log.clone(), it.clone())
                })
            };
            let Some((log, before)) = next else {
                return;
            };
            let mut message = json!({"type": "get-history", "after": before.at, "limit": 20});
            name(&mut message, &log, &self.subscriber);
            let again = match self.request_over(session, message).await {
                // The post of the response may have been lost while that of the ack was not.
                Answer::Done(frames) => {
                    let history = frames.iter().find(|it| it["type"] == "history");
                    history.is_none_or(|it| it["more"] == true)
                }
                Answer::Rejected(code) if code == "not-found" => {
                    let mut positions = self.positions.borrow_mut();
                    // The subscriber may have become a member meanwhile, and may have received events.
                    let news = positions.get(&log).is_some_and(|it| *it != before);
                    if !news {
                        positions.remove(&log);
                    }
                    news
                }
                _ => true,
            };
            if again && let Some(position) = self.positions.borrow_mut().get_mut(&log) {
                position.fetch = true;
            }
            if !self.is_up(session) {
                return;
            }
        }
    }

    /// Requests what follows the client's positions, and new destinations if `since`. Returns true if it was answered.
    pub(crate) async fn resume(&self, session: &Rc<Session>, since: bool) -> bool {
        let mut positions: Vec<Value> = Vec::new();
        for (log, position) in self.positions.borrow().iter() {
            let behind = if self.random.chance(200) {
                self.random.below(position.at + 1)
            } else {
                position.at
            };
            let mut item = json!({"sequence": behind});
            name(&mut item, log, &self.subscriber);
            positions.push(item);
        }
        if self.random.chance(200) {
            positions.push(json!({"channel-id": "nowhere", "sequence": 0}));
        }
        let mut message = json!({"type": "resume", "positions": positions});
        if let Some(at) = self.since.get().filter(|_| since) {
            message["since"] = json!(at);
        }
        match self.request_over(session, message).await {
            Answer::Done(frames) => frames.len() > 1,
            _ => false,
        }
    }
}
