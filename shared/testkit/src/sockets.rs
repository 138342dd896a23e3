//! The clients' ends of connections, as the gateway would see them.

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

/// API Gateway's limit of a frame
/// (docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html, 2026-08).
const FRAME_BYTES: usize = 128 * 1024;

/// What becomes of a post whatever the connection's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forced {
    /// [`Outcome::Gone`]; the client gets nothing.
    Gone,
    /// [`Outcome::Throttled`]; the client gets nothing.
    Throttled,
    /// [`Outcome::TooLarge`]; the client gets nothing.
    TooLarge,
    /// [`Outcome::Unknown`], and the client gets it if its connection is open.
    UnknownDelivered,
    /// [`Outcome::Unknown`]; the client gets nothing.
    UnknownLost,
    /// [`Outcome::Delivered`], and yet the client gets nothing: a half-open connection.
    DeliveredLost,
}

/// A frame that a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// How it is written.
    pub framing: Framing,
    /// The frame, as it is on the wire.
    pub text: String,
}

impl Frame {
    /// The messages that it holds: none if it only opens or closes.
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

/// [`Pushes`] that take down what each client gets, in order. Clones share the connections.
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

    /// The knobs; the operations are `open_session`, `post`, `close`, `probe` and `drop_connection`. Refused is throttled, a conflict means nothing.
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

    /// From now on every request takes from this quota; what it has nothing left for is throttled.
    pub fn set_quota(&self, quota: Bucket) {
        *self.quota.lock().unwrap_or_else(PoisonError::into_inner) = Some(quota);
    }

    fn is_over_quota(&self) -> bool {
        let quota = self.quota.lock().unwrap_or_else(PoisonError::into_inner);
        quota.as_ref().is_some_and(|it| !it.take())
    }

    /// The connection comes up.
    pub fn open(&self, id: &ConnectionId) {
        self.with(id, |it| it.open = true);
    }

    /// The connection ends; the frames stay.
    pub fn close(&self, id: &ConnectionId) {
        self.with(id, |it| it.open = false);
    }

    /// Whether the connection is up.
    #[must_use]
    pub fn is_open(&self, id: &ConnectionId) -> bool {
        self.with(id, |it| it.open)
    }

    /// The next post comes out like this; each call adds one to the queue.
    pub fn force_next(&self, id: &ConnectionId, outcome: Forced) {
        self.with(id, |it| it.planned.push_back(outcome));
    }

    /// Every post comes out like this, until it is taken back with none.
    pub fn force(&self, id: &ConnectionId, outcome: Option<Forced>) {
        self.with(id, |it| it.forced = outcome);
    }

    /// Whether nobody can tell if the connection was dropped or is up.
    pub fn stick(&self, id: &ConnectionId, stuck: bool) {
        self.with(id, |it| it.stuck = stuck);
    }

    /// What the client got, in order.
    #[must_use]
    pub fn frames(&self, id: &ConnectionId) -> Vec<Frame> {
        self.with(id, |it| it.frames.clone())
    }

    /// The messages that the client got, out of their frames, and forgets them.
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

    /// Whether a framed client was told that its session is open.
    #[must_use]
    pub fn is_told(&self, id: &ConnectionId) -> bool {
        self.with(id, |it| it.told)
    }

    /// What a framed client would take for the loss of its session, if anything.
    #[must_use]
    pub fn broken_framing(&self, id: &ConnectionId) -> Option<&'static str> {
        self.with(id, |it| it.broken)
    }

    /// Whether two posts to the connection were ever under way at once, so that their order was left to chance.
    #[must_use]
    pub fn overlapped(&self, id: &ConnectionId) -> bool {
        self.with(id, |it| it.overlapped)
    }
}

/// A post under way; it ends also if its task is killed.
struct Flight<'a>(&'a Sockets, &'a ConnectionId);

impl<'a> Flight<'a> {
    fn begin(sockets: &'a Sockets, id: &'a ConnectionId) -> Self {
        sockets.with(id, |it| {
            it.in_flight += 1;
            it.overlapped |= it.in_flight > 1;
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
                    // Last words may reach one who was never told.
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
        let probe = self.with(connection, |it| match (it.stuck || unheard, it.open) {
            (true, _) => Probe::Unknown,
            (false, true) => Probe::Up,
            (false, false) => Probe::Gone,
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
        let certain = self.with(connection, |it| {
            if !it.stuck && matches!(failure, None | Some(Failure::UnknownApplied)) {
                it.open = false;
            }
            !it.stuck && failure.is_none()
        });
        self.faults.travel().await;
        certain
    }
}
