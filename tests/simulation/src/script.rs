//! What clients want, by the seed.

use std::rc::Rc;

use protocol::{Destination, LogId};
use serde_json::{Value, json};

use crate::client::{Answer, Device, Stored, name};

/// The channels that everybody meets in.
pub(crate) const CHANNELS: [&str; 2] = ["c0", "c1"];
/// The subscribers of each domain.
pub(crate) const PEOPLE: [&str; 3] = ["anna", "bob", "carl"];

impl Device {
    /// Does `actions` things, then keeps the client's rule until the run is over.
    pub(crate) async fn live(self: Rc<Self>, actions: u64) {
        self.pause(500).await;
        for _ in 0..actions {
            self.act().await;
            let session = self.session().await;
            self.fetch(&session).await;
            if self.random.chance(300) {
                self.pause(1_500).await;
            }
        }
        self.shared.done.set(self.shared.done.get() + 1);
        self.follow().await;
    }

    fn channel(&self) -> &'static str {
        self.random.choose(&CHANNELS).unwrap()
    }

    fn anybody(&self) -> &'static str {
        self.random.choose(&PEOPLE).unwrap()
    }

    async fn act(&self) {
        let channel = self.channel();
        match self.random.below(100) {
            0..35 => self.say(channel_log(self, channel)).await,
            35..45 => {
                let peer = self.anybody();
                if peer != self.subscriber.id.as_str() {
                    self.say(direct_log(self, peer)).await;
                }
            }
            45..50 => self.burst(channel).await,
            50..60 => {
                self.insist(json!({"type": "create-channel", "channel-id": channel, "name": channel, "invite-token": "t"}))
                    .await;
            }
            60..72 => {
                self.insist(
                    json!({"type": "join-channel", "channel-id": channel, "invite-token": "t"}),
                )
                .await;
            }
            72..77 => {
                self.insist(json!({"type": "leave-channel", "channel-id": channel}))
                    .await;
            }
            77..84 => {
                let kind = if self.random.chance(500) {
                    "list-channels"
                } else {
                    "hello"
                };
                self.request(json!({"type": kind})).await;
            }
            84..87 => {
                let availability = self.random.choose(&["busy", "dnd", "invisible"]).unwrap();
                self.request(json!({"type": "announce", "availability": availability}))
                    .await;
            }
            87..90 => {
                let administrator = self.random.chance(600);
                self.request(json!({"type": "set-administrator", "channel-id": channel, "subscriber-id": self.anybody(), "administrator": administrator}))
                    .await;
            }
            90..92 => {
                self.request(json!({"type": "remove-subscriber", "channel-id": channel, "subscriber-id": self.anybody()}))
                    .await;
            }
            92..94 => {
                self.request(
                    json!({"type": "update-channel", "channel-id": channel, "name": "new"}),
                )
                .await;
            }
            94..98 => self.vanish().await,
            98 => self.be_invalidated().await,
            _ => self.pause(3_000).await,
        }
    }

    /// A message with an id of its own.
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

    /// Says something, again under the same message id until it is acknowledged or refused for good.
    async fn say(&self, log: LogId) {
        let message = self.message(&log);
        self.insist_on(&log, message).await;
    }

    async fn insist_on(&self, log: &LogId, message: Value) {
        if let Answer::Done(frames) = self.insist(message.clone()).await {
            self.note(log, &message, &frames);
        }
    }

    fn note(&self, log: &LogId, message: &Value, frames: &[Value]) {
        // The post of the delivery may have been lost, that of the ack not.
        if let Some(delivery) = frames.iter().find(|it| it["type"] == "delivery") {
            self.shared.stored.borrow_mut().push(Stored {
                log: log.clone(),
                message_id: message["message-id"].as_str().unwrap().to_owned(),
                content: message["content"].clone(),
                sequence: delivery["sequence"].as_u64().unwrap(),
            });
        }
    }

    /// Sends again until it is answered, by what it asked for or by a refusal.
    async fn insist(&self, message: Value) -> Answer {
        loop {
            match self.request(message.clone()).await {
                Answer::Lost => {}
                Answer::Rejected(code) if code == "unavailable" => {}
                Answer::Done(frames) if frames.len() < 2 => {}
                answered => return answered,
            }
            self.pause(300).await;
        }
    }

    /// Several messages without waiting, one of them twice.
    async fn burst(&self, channel: &str) {
        let log = channel_log(self, channel);
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

    /// The connection ends; API Gateway says so late, or never.
    async fn vanish(&self) {
        let session = self.session().await;
        self.look();
        self.world.sockets().close(&session.line.id);
        if self.random.chance(700) {
            let late = self.random.below(20_000);
            let mortality = self.shared.mortality.get();
            self.world.disconnect_late(&session.line, late, mortality);
        }
    }

    /// A back end invalidates the token.
    async fn be_invalidated(&self) {
        let session = self.session().await;
        let token = session.line.identity.token.clone();
        while !matches!(self.world.invalidate(&token).await, Some(Ok(_))) {
            self.pause(300).await;
        }
        for other in self.shared.connections.borrow().iter() {
            if other.line.identity.token == token {
                other.invalidated.set(true);
            }
        }
        // What was on the wire.
        let log = channel_log(self, self.channel());
        let message = self.message(&log);
        self.send(&session, message);
        *self.identity.borrow_mut() = None;
    }
}

fn channel_log(device: &Device, id: &str) -> LogId {
    let id = protocol::ChannelId::parse(id).unwrap();
    LogId::of(&device.subscriber, &Destination::Channel(id))
}

fn direct_log(device: &Device, peer: &str) -> LogId {
    LogId::direct(
        &device.subscriber,
        &protocol::SubscriberId::parse(peer).unwrap(),
    )
}
