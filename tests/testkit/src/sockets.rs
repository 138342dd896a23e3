//! The clients' ends of connections, as the gateway sees them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use protocol::ConnectionId;
use service::ports::{Framing, Outcome, Posted, Probe, Pushes};
use sockjs::{Close, frame};

use crate::{
    fault::{Failure, Faults, Kind},
    quota::Bucket,
};

/// API Gateway's frame limit
/// (docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html,
/// 2026-08).
const FRAME_BYTES: usize = 128 * 1024;

/// A forced outcome of a post, whatever the connection's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forced {
    /// [`Outcome::Gone`]. The client gets nothing.
    Gone,
    /// [`Outcome::Throttled`]. The client gets nothing.
    Throttled,
    /// [`Outcome::TooLarge`]. The client gets nothing.
    TooLarge,
    /// [`Outcome::Unknown`]. The client gets the frame if its connection is open.
    UnknownDelivered,
    /// [`Outcome::Unknown`]. The client gets nothing.
    UnknownLost,
    /// [`Outcome::Delivered`], but the client gets nothing: a half-open connection.
    DeliveredLost,
}

/// A frame that a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub framing: Framing,
    pub text: String,
}

impl Frame {
    /// The messages in the frame. Empty if the frame only opens or closes.
    #[must_use]
    pub fn into_messages(self) -> Vec<String> {
        match self.framing {
            Framing::Raw => vec![self.text],
            Framing::Sockjs | Framing::Session => self
                .text
                .strip_prefix('a')
                .and_then(|it| serde_json::from_str(it).ok())
                .unwrap_or_default(),
        }
    }
}

/// [`Pushes`] that record what each client gets, in order. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Sockets {
    faults: Faults,
    state: Arc<Mutex<BTreeMap<ConnectionId, Socket>>>,
    quota: Arc<Mutex<Option<Bucket>>>,
}

#[derive(Debug, Default)]
struct Socket {
    open: bool,
    frames: Vec<Frame>,
    planned: VecDeque<Forced>,
    forced: Option<Forced>,
    stuck: bool,
    in_flight: usize,
    overlapped: bool,
    told: bool,
    broken: Option<&'static str>,
}

impl Sockets {
    /// No connection is open.
    #[must_use]
    pub fn new(faults: Faults) -> Self {
        Self {
            faults,
            state: Arc::default(),
            quota: Arc::default(),
        }
    }

    /// The fault settings. The operations are `open_session`, `post`, `close`, `probe` and `drop_connection`. A refusal
    /// means throttled, and a conflict has no effect.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, Socket>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, id: &ConnectionId, turn: impl FnOnce(&mut Socket) -> T) -> T {
        turn(self.lock().entry(id.clone()).or_default())
    }

    /// Makes every request take from this quota from now on. Requests over the quota are throttled.
    pub fn set_quota(&self, quota: Bucket) {
        *self.quota.lock().unwrap_or_else(PoisonError::into_inner) = Some(quota);
    }

    fn is_over_quota(&self) -> bool {
        let quota = self.quota.lock().unwrap_or_else(PoisonError::into_inner);
        quota.as_ref().is_some_and(|it| !it.take())
    }

    /// Opens the connection.
    pub fn open(&self, id: &ConnectionId) {
        self.with(id, |it| it.open = true);
    }

    /// Closes the connection and keeps its frames.
    pub fn close(&self, id: &ConnectionId) {
        self.with(id, |it| it.open = false);
    }

    /// True if the connection is open.
    #[must_use]
    pub fn is_open(&self, id: &ConnectionId) -> bool {
        self.with(id, |it| it.open)
    }

    /// Forces the outcome of the next post. Each call adds one to the queue.
    pub fn force_next(&self, id: &ConnectionId, outcome: Forced) {
        self.with(id, |it| it.planned.push_back(outcome));
    }

    /// Forces the outcome of every post. `None` ends this.
    pub fn force(&self, id: &ConnectionId, outcome: Option<Forced>) {
        self.with(id, |it| it.forced = outcome);
    }

    /// If `stuck`, probing or dropping the connection gives no certain result.
    pub fn stick(&self, id: &ConnectionId, stuck: bool) {
        self.with(id, |it| it.stuck = stuck);
    }

    /// What the client got, in order.
    #[must_use]
    pub fn frames(&self, id: &ConnectionId) -> Vec<Frame> {
        self.with(id, |it| it.frames.clone())
    }

    /// Takes the messages that the client got, out of their frames.
    #[must_use]
    pub fn take_texts(&self, id: &ConnectionId) -> Vec<String> {
        self.with(id, |it| {
            it.frames.drain(..).flat_map(Frame::into_messages).collect()
        })
    }

    /// Every connection that was ever opened or posted to.
    #[must_use]
    pub fn ids(&self) -> Vec<ConnectionId> {
        self.lock().keys().cloned().collect()
    }

    /// True if a SockJS client was sent `o`, which opens its session.
    #[must_use]
    pub fn is_told(&self, id: &ConnectionId) -> bool {
        self.with(id, |it| it.told)
    }

    /// The first violation of SockJS framing on the connection, which would lose the client its session.
    #[must_use]
    pub fn broken_framing(&self, id: &ConnectionId) -> Option<&'static str> {
        self.with(id, |it| it.broken)
    }

    /// True if two posts to the connection were ever in flight at once, so that their order was undefined.
    #[must_use]
    pub fn overlapped(&self, id: &ConnectionId) -> bool {
        self.with(id, |it| it.overlapped)
    }
}

/// A post in flight. It also ends if its task is killed.
struct Flight<'a>(&'a Sockets, &'a ConnectionId);

impl<'a> Flight<'a> {
    fn begin(sockets: &'a Sockets, id: &'a ConnectionId) -> Self {
        sockets.with(id, |socket| {
            socket.in_flight += 1;
            socket.overlapped |= socket.in_flight > 1;
        });
        Self(sockets, id)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.with(self.1, |it| it.in_flight -= 1);
    }
}

impl Socket {
    fn take(&mut self, framing: Framing, frame: &str) {
        if self.open {
            if framing == Framing::Sockjs {
                match frame {
                    frame::OPEN if self.told => self.broken = Some("a second `o`"),
                    frame::OPEN => self.told = true,
                    // A `disconnect` may reach a client that was never sent `o`.
                    _ if frame.starts_with('a')
                        && !self.told
                        && !frame.starts_with(r#"a["{\"type\":\"disconnect\""#) =>
                    {
                        self.broken = Some("messages before `o`");
                    }
                    _ => {}
                }
            }
            self.frames.push(Frame {
                framing,
                text: frame.to_owned(),
            });
        }
    }

    fn post(&mut self, framing: Framing, frame: &str, forced: Option<Forced>) -> Outcome {
        match self.planned.pop_front().or(self.forced).or(forced) {
            Some(Forced::Gone) => Outcome::Gone,
            Some(Forced::Throttled) => Outcome::Throttled,
            Some(Forced::TooLarge) => Outcome::TooLarge,
            Some(Forced::UnknownLost) => Outcome::Unknown,
            Some(Forced::DeliveredLost) => Outcome::Delivered,
            Some(Forced::UnknownDelivered) => {
                self.take(framing, frame);
                Outcome::Unknown
            }
            None if !self.open => Outcome::Gone,
            None if frame.len() > FRAME_BYTES => Outcome::TooLarge,
            None => {
                self.take(framing, frame);
                Outcome::Delivered
            }
        }
    }
}

impl Sockets {
    async fn send(
        &self,
        operation: &'static str,
        connection: &ConnectionId,
        framing: Framing,
        text: &str,
    ) -> Outcome {
        let _flight = Flight::begin(self, connection);
        self.faults.travel().await;
        let forced = match self.faults.draw(operation, Kind::Read) {
            _ if self.is_over_quota() => Some(Forced::Throttled),
            None | Some(Failure::Conflict) => None,
            Some(Failure::Refused) => Some(Forced::Throttled),
            Some(Failure::UnknownApplied) => Some(Forced::UnknownDelivered),
            Some(Failure::UnknownNotApplied) => Some(Forced::UnknownLost),
        };
        let outcome = self.with(connection, |it| it.post(framing, text, forced));
        self.faults.travel().await;
        outcome
    }
}

impl Pushes for Sockets {
    async fn open_session(&self, connection: &ConnectionId) -> Outcome {
        self.send("open_session", connection, Framing::Sockjs, frame::OPEN)
            .await
    }

    async fn post(&self, connection: &ConnectionId, framing: Framing, messages: &[&str]) -> Posted {
        let (text, count) = framing.frame(messages);
        let outcome = match count {
            0 => Outcome::Delivered,
            _ => self.send("post", connection, framing, &text).await,
        };
        Posted { count, outcome }
    }

    async fn probe(&self, connection: &ConnectionId) -> Probe {
        self.faults.travel().await;
        let failure = self.faults.draw("probe", Kind::Read);
        let unheard = failure.is_some() || self.is_over_quota();
        let probe = self.with(connection, |socket| {
            match (socket.stuck || unheard, socket.open) {
                (true, _) => Probe::Unknown,
                (false, true) => Probe::Up,
                (false, false) => Probe::Gone,
            }
        });
        self.faults.travel().await;
        probe
    }

    async fn drop_connection(
        &self,
        connection: &ConnectionId,
        framing: Framing,
        close: Close,
    ) -> bool {
        if framing == Framing::Sockjs {
            let _ = self
                .send("close", connection, framing, &close.frame())
                .await;
        }
        self.faults.travel().await;
        let failure = self.faults.draw("drop_connection", Kind::Read);
        let certain = self.with(connection, |socket| {
            if !socket.stuck && matches!(failure, None | Some(Failure::UnknownApplied)) {
                socket.open = false;
            }
            !socket.stuck && failure.is_none()
        });
        self.faults.travel().await;
        certain
    }
}
