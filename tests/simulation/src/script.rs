//! The actions of clients, chosen by the seed.

use std::rc::Rc;

use protocol::{ChannelId, Destination, LogId, SubscriberId};
use serde_json::{Value, json};

use crate::client::{Answer, Device};

/// The channels that all clients share. The last one can only be joined by invitation.
pub(crate) const CHANNELS: [&str; 3] = ["c0", "c1", "c2"];
/// The subscribers of each domain.
pub(crate) const PEOPLE: [&str; 3] = ["anna", "bob", "carl"];

impl Device {
    /// Does `actions` random actions, then follows the client's rule until the run is over.
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

    pub(crate) fn channel(&self) -> &'static str {
        // The first channel most of the time, so that clients meet.
        CHANNELS[self.random.index(6).saturating_sub(3)]
    }

    pub(crate) fn anybody(&self) -> &'static str {
        self.random.choose(&PEOPLE).unwrap()
    }

    pub(crate) fn channel_log(&self, id: &str) -> LogId {
        let id = ChannelId::parse(id).unwrap();
        LogId::of(&self.subscriber, &Destination::Channel(id))
    }

    /// A channel, or less often a conversation.
    pub(crate) fn any_log(&self) -> LogId {
        let peer = SubscriberId::parse(self.anybody()).unwrap();
        if peer == self.subscriber.id || self.random.chance(600) {
            return self.channel_log(self.channel());
        }
        LogId::direct(&self.subscriber, &peer)
    }

    async fn act(&self) {
        let channel = self.channel();
        match self.random.below(200) {
            0..50 => self.say(self.channel_log(channel)).await,
            50..64 => self.say(self.any_log()).await,
            64..70 => self.say_once().await,
            70..77 => self.burst(channel).await,
            77..83 => self.repeat().await,
            83..86 => self.contradict().await,
            86..98 => self.create(channel).await,
            98..116 => {
                let message =
                    json!({"type": "join-channel", "channel-id": channel, "invite-token": "t"});
                self.insist(message).await;
            }
            116..124 => {
                self.insist(json!({"type": "leave-channel", "channel-id": channel}))
                    .await;
            }
            124..146 => self.administer(channel).await,
            146..152 => self.look_around().await,
            152..157 => self.page().await,
            157..160 => {
                let session = self.session().await;
                let since = self.random.chance(500);
                self.resume(&session, since).await;
            }
            160..168 => self.read().await,
            168..171 => self.type_something().await,
            171..174 => self.mumble().await,
            174..181 => self.announce().await,
            181..184 => self.reauthorize().await,
            184..191 => self.vanish().await,
            191..194 => self.be_invalidated().await,
            194..198 => self.back_end(channel).await,
            _ => self.pause(3_000).await,
        }
    }

    async fn create(&self, channel: &str) {
        let mut message = json!({"type": "create-channel", "channel-id": channel, "name": channel});
        if channel != CHANNELS[2] {
            message["invite-token"] = json!("t");
        }
        self.insist(message).await;
    }

    /// Tries an action that only administrators may do.
    async fn administer(&self, channel: &str) {
        let whom = self.anybody();
        let message = match self.random.below(22) {
            0..8 => {
                json!({"type": "invite-subscriber", "channel-id": channel, "subscriber-id": whom})
            }
            8..14 => {
                json!({"type": "set-administrator", "channel-id": channel, "subscriber-id": whom,
                "administrator": self.random.chance(600)})
            }
            14..17 => {
                json!({"type": "remove-subscriber", "channel-id": channel, "subscriber-id": whom})
            }
            17..20 => json!({"type": "update-channel", "channel-id": channel, "name": "new"}),
            _ => json!({"type": "delete-channel", "channel-id": channel}),
        };
        if matches!(self.request(message).await, Answer::Lost) {
            // It may have been applied, and the event is not pushed to its origin.
            let domain = self.subscriber.domain.as_str();
            self.missing(&crate::world::channel(domain, channel));
        }
    }

    async fn look_around(&self) {
        let session = self.session().await;
        match self.random.below(4) {
            0 => {
                self.list(&session, "list-channels").await;
            }
            1 => {
                self.list(&session, "list-conversations").await;
            }
            2 => {
                let limit = 1 + self.random.below(3);
                self.request_over(
                    &session,
                    json!({"type": "list-subscribers", "channel-id": self.channel(), "limit": limit}),
                )
                .await;
            }
            _ => {
                self.request_over(&session, json!({"type": "hello"})).await;
            }
        }
    }

    async fn type_something(&self) {
        let mut message = json!({"type": "typing", "active": self.random.chance(500)});
        crate::client::name(&mut message, &self.any_log(), &self.subscriber);
        self.request(message).await;
    }

    async fn announce(&self) {
        if self.random.chance(300) {
            self.request(json!({"type": "unannounce"})).await;
            return;
        }
        let availability = self
            .random
            .choose(&["busy", "dnd", "available", "invisible"]);
        let availability = *availability.unwrap();
        if availability != "invisible" {
            let mut seen = self.shared.seen.borrow_mut();
            seen.insert(self.subscriber.clone());
        }
        let message = json!({"type": "announce", "availability": availability, "status": "s",
            "attributes": {"a": 1}});
        self.request(message).await;
    }

    /// Repeats a request until it is answered with its result or a final refusal.
    pub(crate) async fn insist(&self, message: Value) -> Answer {
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
}
