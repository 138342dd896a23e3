//! Actions on connections and tokens, and the actions of a back end.

use core::{future::Future, time::Duration};

use protocol::{
    ChannelId, ChannelKey, Json, LogId, MessageId, Subscriber, SubscriberId, backend::Given,
    decision::Draft,
};
use serde_json::json;
use service::Refused;

use crate::{
    client::{Answer, Device},
    shared::Stored,
    world::Messaging,
};

impl Device {
    /// Ends the connection. The gateway notices at once or late, and sends `$disconnect` late, never, or twice.
    pub(crate) async fn vanish(&self) {
        let session = self.session().await;
        self.look();
        self.shared.count("connections lost");
        let id = session.line.id.clone();
        session.dead.set(true);
        if self.random.chance(300) {
            // Half-open: for a while posts seem to arrive.
            let sockets = self.world.sockets().clone();
            let (clock, open) = (self.world.sim.clock(), self.random.below(40_000));
            sockets.force(&id, Some(testkit::memory::Forced::DeliveredLost));
            self.world.sim.spawn(async move {
                clock.sleep(Duration::from_millis(open)).await;
                sockets.force(&id, None);
                sockets.close(&id);
            });
        } else {
            self.world.sockets().close(&id);
        }
        let mortality = self.shared.mortality.get();
        for _ in 0..self.random.below(3) {
            let late = 40_000 * u64::from(self.random.chance(300)) + self.random.below(20_000);
            self.world.disconnect_late(&session.line, late, mortality);
        }
    }

    /// Gives the open connection a new token. Afterwards the old token may be invalidated.
    pub(crate) async fn reauthorize(&self) {
        let session = self.session().await;
        let lasting = Duration::from_secs(24 * 60 * 60);
        let whose = if self.random.chance(200) {
            SubscriberId::parse(self.anybody()).unwrap()
        } else {
            self.subscriber.id.clone()
        };
        let whose = Subscriber {
            domain: self.subscriber.domain.clone(),
            id: whose,
        };
        let Some(fresh) = self.world.bearer(&whose, lasting).await else {
            return;
        };
        let own = whose == self.subscriber;
        let before = session.token.borrow().clone();
        if own {
            self.note_token(&fresh);
            session
                .tokens
                .borrow_mut()
                .push(fresh.identity.token.clone());
            // Until the answer arrives the client cannot know which of the two tokens the connection has.
            *session.token.borrow_mut() = None;
        }
        let message = json!({"type": "authorize", "token": fresh.token});
        match self.request_over(&session, message).await {
            Answer::Done(_) if !own => {
                let what = format!("(12) {} was given a token of {whose:?}", session.line.id);
                self.shared.broke(what);
            }
            Answer::Done(_) => {
                self.shared.count("connections reauthorized");
                let identity = &fresh.identity;
                *session.token.borrow_mut() =
                    Some((identity.token.clone(), identity.token_expires));
                let old = self.bearer.replace(Some(fresh));
                if let Some(old) = old.filter(|_| self.random.chance(500)) {
                    self.invalidate([old.identity.token]).await;
                }
            }
            Answer::Rejected(code) if code != "unavailable" => *session.token.borrow_mut() = before,
            _ => {}
        }
    }

    /// A back end invalidates the token. The client may use it again all the same.
    pub(crate) async fn be_invalidated(&self) {
        let session = self.session().await;
        let Some((token, _)) = session.token.borrow().clone() else {
            return;
        };
        self.invalidate([token]).await;
        // A message that was already in flight.
        let log = self.channel_log(self.channel());
        let message = self.message_to(&log);
        self.send(&session, message);
        if self.random.chance(500) {
            *self.bearer.borrow_mut() = None;
        }
    }

    fn message_to(&self, log: &LogId) -> serde_json::Value {
        let message_id = format!("m{}", self.world.fresh());
        let content = format!("{}/{message_id}", self.subscriber.domain);
        let mut message =
            json!({"type": "channel-message", "content": content, "message-id": message_id});
        crate::client::name(&mut message, log, &self.subscriber);
        message
    }

    async fn invalidate(&self, tokens: impl IntoIterator<Item = service::ports::TokenHash>) {
        for token in tokens {
            self.shared.count("tokens invalidated");
            self.shared.doubt([token.clone()]);
            self.certainly(|service| {
                let token = token.clone();
                async move { service.invalidate(&token).await.is_ok() }
            })
            .await;
            self.shared.condemn([token]);
        }
    }

    /// Calls the back-end API until the call succeeds. The function may die.
    async fn certainly<F: Future<Output = bool> + 'static>(&self, ask: impl Fn(Messaging) -> F) {
        loop {
            let asked = ask(self.world.service.clone());
            let mortality = self.shared.mortality.get();
            let task = self.world.sim.spawn_mortal(mortality, asked);
            if task.await == Some(true) {
                return;
            }
            self.pause(300).await;
        }
    }

    /// A random action of a back end.
    pub(crate) async fn back_end(&self, channel: &str) {
        self.shared.count("back-end actions");
        let key = ChannelKey {
            domain: self.subscriber.domain.clone(),
            id: ChannelId::parse(channel).unwrap(),
        };
        let whom = SubscriberId::parse(self.anybody()).unwrap();
        match self.random.below(20) {
            0..5 => {
                let right = *self
                    .random
                    .choose(&[None, Some(true), Some(false)])
                    .unwrap();
                self.try_once(async |service| {
                    let _ = service.put_member(&key, &whom, right).await;
                })
                .await;
            }
            5..8 => {
                // Most of them remove this subscriber while it writes.
                let is_self = self.random.chance(700);
                let whom = if is_self {
                    self.subscriber.id.clone()
                } else {
                    whom
                };
                let log = key.log();
                let removing = self.try_once(async |service| {
                    let _ = service.remove_member(&key, &whom).await;
                });
                let writing = async {
                    for _ in 0..if is_self { 4 } else { 0 } {
                        self.speak_for(&log).await;
                    }
                };
                futures::join!(removing, writing);
            }
            8..10 => {
                let given = Given::new("given", None, None).unwrap();
                self.try_once(async |service| {
                    let _ = service.put_channel(&key, &given).await;
                })
                .await;
            }
            10 => {
                // A deletion that died half-way leaves rows behind, so a back end repeats it.
                self.certainly(|service| {
                    let key = key.clone();
                    async move {
                        let deleted = service.delete_channel(&key).await;
                        !matches!(deleted, Err(Refused::Fault(_)))
                    }
                })
                .await;
            }
            11..17 => self.speak_for(&key.log()).await,
            17..19 => self.end_all(false).await,
            _ => self.end_all(true).await,
        }
    }

    /// An action of a back end that ignores the outcome.
    async fn try_once(&self, act: impl AsyncFn(Messaging)) {
        act(self.world.service.clone()).await;
    }

    /// The back end sends a message in this subscriber's name.
    async fn speak_for(&self, log: &LogId) {
        let message = self.message_to(log);
        let draft = Draft {
            log: log.clone(),
            message_id: MessageId::parse(message["message-id"].as_str().unwrap()).ok(),
            content: Json::parse(&message["content"].to_string()).unwrap(),
            attributes: None,
        };
        let (service, from) = (self.world.service.clone(), self.subscriber.clone());
        let mortality = self.shared.mortality.get();
        let task = self.world.sim.spawn_mortal(mortality, async move {
            service.send_message(&from, &draft).await.ok()
        });
        if let Some(Some(stored)) = task.await {
            self.shared.stored.borrow_mut().push(Stored {
                log: log.clone(),
                from: self.subscriber.clone(),
                message,
                sequence: stored.sequence,
            });
        }
    }

    /// Invalidates all tokens of this subscriber, or erases the subscriber.
    async fn end_all(&self, erase: bool) {
        let subscriber = self.subscriber.clone();
        if erase {
            self.shared.count("subscribers erased");
            self.shared.erased.borrow_mut().insert(subscriber.clone());
        }
        let tokens = self.shared.tokens_of(&subscriber);
        // Also the tokens that are issued meanwhile.
        self.shared.doubt(tokens.iter().cloned());
        self.certainly(|service| {
            let subscriber = subscriber.clone();
            async move {
                let ended = if erase {
                    service.erase(&subscriber).await
                } else {
                    service.invalidate_all(&subscriber).await
                };
                ended.is_ok()
            }
        })
        .await;
        self.shared.doubt(self.shared.tokens_of(&subscriber));
        self.shared.condemn(tokens);
    }
}
