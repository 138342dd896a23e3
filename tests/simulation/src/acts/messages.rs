//! Messages: sent once, repeated, and repeated with other content. Also read cursors, pages, and malformed texts.

use protocol::LogId;
use serde_json::{Value, json};

use crate::{
    client::{Answer, Device, name},
    shared::Stored,
};

impl Device {
    /// A message with a new message id.
    fn message(&self, log: &LogId) -> Value {
        let message_id = format!("m{}", self.world.fresh());
        let kind = match log {
            LogId::Channel(_) => "channel-message",
            LogId::Direct { .. } => "direct-message",
        };
        let content = format!("{}/{message_id}", self.subscriber.domain);
        let mut message = json!({"type": kind, "content": content, "message-id": message_id});
        name(&mut message, log, &self.subscriber);
        message
    }

    /// Sends a message, and repeats it with the same message id until it is acknowledged or refused for good.
    pub(crate) async fn say(&self, log: LogId) {
        let message = self.message(&log);
        self.insist_on(&log, message).await;
    }

    async fn insist_on(&self, log: &LogId, message: Value) {
        if let Answer::Done(frames) = self.insist(message.clone()).await {
            self.note(log, &message, &frames);
        }
    }

    /// Sends a message without a message id. The service could not detect a repeat, so it is sent once.
    pub(crate) async fn say_once(&self) {
        let log = self.any_log();
        let mut message = self.message(&log);
        if let Some(fields) = message.as_object_mut() {
            fields.remove("message-id");
        }
        match self.request(message.clone()).await {
            Answer::Done(frames) => self.note(&log, &message, &frames),
            Answer::Rejected(_) => {}
            // It may have been stored, and the event is not pushed to its origin.
            Answer::Lost => self.missing(&log),
        }
    }

    fn note(&self, log: &LogId, message: &Value, frames: &[Value]) {
        // The post of the delivery may have been lost while that of the ack was not.
        if let Some(delivery) = frames.iter().find(|it| it["type"] == "delivery") {
            let stored = Stored {
                log: log.clone(),
                from: self.subscriber.clone(),
                message: message.clone(),
                sequence: delivery["sequence"].as_u64().unwrap(),
            };
            self.shared.stored.borrow_mut().push(stored.clone());
            self.said.borrow_mut().push(stored);
        } else {
            self.missing(log);
        }
    }

    /// Sends several messages without waiting, one of them twice.
    pub(crate) async fn burst(&self, channel: &str) {
        let log = self.channel_log(channel);
        let session = self.session().await;
        let messages: Vec<Value> = (0..3).map(|_| self.message(&log)).collect();
        for message in &messages {
            self.send(&session, message.clone());
        }
        self.send(&session, messages[0].clone());
        for message in messages {
            self.insist_on(&log, message).await;
        }
    }

    /// An acknowledged message that can be repeated.
    fn said_before(&self) -> Option<Stored> {
        let said = self.said.borrow();
        let stored = self.random.choose(&said)?.clone();
        let again = stored.message.get("message-id").is_some();
        let erased = self.shared.erased.borrow().contains(&self.subscriber);
        (again && !erased).then_some(stored)
    }

    /// Invariant 8: repeats an acknowledged message.
    pub(crate) async fn repeat(&self) {
        let Some(stored) = self.said_before() else {
            return;
        };
        self.shared.count("repeats of acknowledged messages");
        let Answer::Done(frames) = self.request(stored.message.clone()).await else {
            return;
        };
        let told = frames.iter().find(|it| it["type"] == "delivery");
        let differs = told
            .is_some_and(|it| it["duplicate"] != true || it["sequence"] != json!(stored.sequence));
        if differs && !self.shared.erased.borrow().contains(&self.subscriber) {
            let what = format!("(8) the repeat of {stored:?} was answered {told:?}");
            self.shared.broke(what);
        }
    }

    /// Invariant 8: sends other content under the message id of an acknowledged message.
    pub(crate) async fn contradict(&self) {
        let Some(stored) = self.said_before() else {
            return;
        };
        let mut message = stored.message.clone();
        message["content"] = json!(format!(
            "{}/other{}",
            self.subscriber.domain,
            self.world.fresh()
        ));
        let answer = self.request(message).await;
        let accepted = match &answer {
            Answer::Done(_) => true,
            Answer::Rejected(code) => {
                !["conflict", "not-found", "unavailable"].contains(&code.as_str())
            }
            Answer::Lost => false,
        };
        if accepted && !self.shared.erased.borrow().contains(&self.subscriber) {
            let what = format!("(8) other content than {stored:?} was answered {answer:?}");
            self.shared.broke(what);
        }
    }

    /// Moves a read cursor. It must succeed within what this client knows, and fail beyond the end of the log.
    pub(crate) async fn read(&self) {
        let log = self.any_log();
        let at = self.positions.borrow().get(&log).map_or(0, |it| it.at);
        let beyond = at == 0 || self.random.chance(150);
        let sequence = if beyond {
            at + 10_000
        } else {
            1 + self.random.below(at)
        };
        let status = *self.random.choose(&["displayed", "read"]).unwrap();
        let mut message = json!({"type": "delivery", "sequence": sequence, "status": status});
        name(&mut message, &log, &self.subscriber);
        let answer = self.request(message.clone()).await;
        let broken = match &answer {
            Answer::Done(_) => beyond,
            Answer::Rejected(code) => code == "invalid-value" && !beyond,
            Answer::Lost => false,
        };
        if broken {
            self.shared
                .broke(format!("(7) {message} was answered {answer:?}"));
        }
        if matches!(answer, Answer::Done(_)) && status == "read" {
            let mut read = self.shared.read.borrow_mut();
            let known = read.entry((log, self.subscriber.id.clone())).or_default();
            *known = sequence.max(*known);
        }
    }

    /// Requests a page of some log at a random position.
    pub(crate) async fn page(&self) {
        let log = self.any_log();
        let at = self.positions.borrow().get(&log).map_or(0, |it| it.at);
        let mut message = json!({"type": "get-history", "limit": 1 + self.random.below(20)});
        match self.random.below(3) {
            0 => message["after"] = json!(self.random.below(at + 2)),
            1 => message["before"] = json!(1 + self.random.below(at + 2)),
            _ => {}
        }
        name(&mut message, &log, &self.subscriber);
        self.request(message).await;
    }

    /// Invariant 4: a malformed text has no answer and no effect. The `ping` after it gets its own answer.
    pub(crate) async fn mumble(&self) {
        let session = self.session().await;
        let malformed = [
            json!("{\"type\":"),
            json!("[]"),
            json!("\u{feff}{\"type\":\"ping\"}"),
            json!({"type": "shout", "id": "malformed"}),
            json!({"type": "channel-message", "channel-id": "c0", "id": "malformed"}),
            json!({"type": "leave-channel", "channel-id": null, "id": "malformed"}),
            json!({"type": "typing", "channel-id": "c0", "subscriber-id": "bob", "active": true, "id": "malformed"}),
        ];
        let chosen = self.random.choose(&malformed).unwrap().clone();
        let mortality = self.shared.mortality.get();
        self.world.send_mortal(&session.line, &chosen, 0, mortality);
        self.request_over(&session, json!({"type": "ping"})).await;
    }
}
