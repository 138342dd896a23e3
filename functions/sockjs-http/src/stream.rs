//! The body of a receiver's response. It writes the waiting messages, waits for more, and releases the session before the
//! response ends.

use core::time::Duration;
use std::rc::Rc;

use lambda::Bearer;
use service::ports::{Environment, Fault, Hold, LINGER, Session, Sessions};
use sockjs::{
    frame,
    session::{Allowance, Next, next, pause},
    transport::Receiver,
};
use tokio::time::{Instant, sleep_until};

use crate::{
    app::App,
    attachment::{Attachment, LEASE},
    bell::{Bell, Ring},
    output::{Left, Output},
    serve::Transports,
};

/// The interval at which a receiver renews its lease. The renewal also reads the session, and so finds messages whose ring
/// was lost.
const RENEWAL: Duration = Duration::from_secs(12);
/// The longest time without a frame. Old clients abort a poll after 35 seconds (sockjs-client 1.6).
const HEARTBEAT: Duration = Duration::from_secs(25);
/// The maximum duration of a response. Lambda bills its duration even if the client has left unnoticed. A client that is
/// still there sends the next request by itself.
const SLICE: Duration = Duration::from_secs(60);
/// How long after a doorbell's handshake the receiver reads the session again. API Gateway may not accept posts to a
/// connection immediately after the handshake, so rings may be lost.
const YOUNG: Duration = Duration::from_secs(1);
/// The number of reads after which a poll opens a doorbell. Before that a doorbell would cost more than it saves.
const LOOKS: u32 = 4;
/// The approximate maximum of message bytes in one frame. Old clients parse a frame as a whole.
const FRAME: usize = 128 * 1024;
/// Attempts to release a session. The client's next request waits for the release.
const ATTEMPTS: u32 = 4;

/// Why the receiver stopped waiting.
enum Woken {
    Look,
    Renew,
    Heartbeat,
    Enough,
    Left,
}

/// A receiver and the state of its response.
pub(crate) struct Stream<A, S, E> {
    transports: Rc<Transports<A, S, E>>,
    token: Option<Bearer>,
    receiver: Receiver,
    attachment: Attachment,
    output: Output,
    allowance: Allowance,
    /// The number of messages that were written and are still in the outbox, and their bytes.
    written: usize,
    bytes: usize,
    bell: Bell,
    looks: u32,
    look_at: Option<Instant>,
    renew_at: Instant,
    heartbeat_at: Instant,
    ends_at: Instant,
}

/// The reason why a receiver ends.
enum End {
    /// The response is full, has reached its maximum duration, or the session has ended.
    Done,
    /// The client has disconnected.
    Left,
    /// Another receiver holds the session.
    Lost,
    /// A request to the store failed.
    Fault(Fault),
}

impl From<Left> for End {
    fn from(_: Left) -> Self {
        Self::Left
    }
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl<A: App + 'static, S: Sessions + 'static, E: Environment + 'static> Stream<A, S, E> {
    pub(crate) fn new(
        transports: Rc<Transports<A, S, E>>,
        limit: usize,
        token: Option<Bearer>,
        receiver: Receiver,
        attachment: Attachment,
        output: Output,
    ) -> Self {
        let now = Instant::now();
        Self {
            transports,
            token,
            allowance: Allowance::new(&receiver, limit),
            receiver,
            attachment,
            output,
            written: 0,
            bytes: 0,
            bell: Bell::None,
            looks: 0,
            look_at: None,
            renew_at: now + RENEWAL,
            heartbeat_at: now + HEARTBEAT,
            ends_at: now + SLICE,
        }
    }

    /// Writes the whole response.
    pub(crate) async fn run(mut self) {
        let end = match self.work().await {
            Ok(()) => End::Done,
            Err(end) => end,
        };
        match end {
            End::Done => self.give_up(LINGER).await,
            End::Left => {
                // It is unknown which of the last messages reached the client, so the session ends.
                self.give_up(Duration::ZERO).await;
                let Attachment { id, session, .. } = &self.attachment;
                if let Err(fault) = self.transports.app.close(id, &session.identity).await {
                    tracing::error!(%fault, "closing session failed");
                }
            }
            End::Lost => tracing::warn!("session taken over by another receiver"),
            End::Fault(fault) => {
                tracing::error!(%fault, "response ended early");
                self.give_up(LINGER).await;
            }
        }
        // The body ends here, when `self` is dropped. The session is released before, because the client's next request
        // would otherwise find it busy.
    }

    async fn work(&mut self) -> Result<(), End> {
        if let Some(prelude) = self.receiver.prelude() {
            self.output.send(prelude).await?;
        }
        if self.attachment.begins {
            if !self.write(frame::OPEN).await? {
                return Ok(());
            }
            // The app may have pushed messages or closed the session while it opened it.
            self.look().await?;
        }
        if self.receiver.is_streaming() {
            self.hang_bell();
        }
        self.schedule();
        loop {
            if !self.write_waiting().await? {
                return Ok(());
            }
            // Remove what was written, and check for more before waiting.
            if self.written > 0 {
                self.renew().await?;
                self.looks = 0;
                self.schedule();
                continue;
            }
            match self.wait().await {
                Woken::Look => self.look().await?,
                Woken::Renew => self.renew().await?,
                Woken::Heartbeat => {
                    if !self.write(frame::HEARTBEAT).await? {
                        return Ok(());
                    }
                }
                Woken::Enough => return Ok(()),
                Woken::Left => return Err(End::Left),
            }
        }
    }

    /// Writes the waiting messages. Returns true if the response continues.
    async fn write_waiting(&mut self) -> Result<bool, End> {
        loop {
            let session = &self.attachment.session;
            let closing = session.closing.as_ref();
            let closing = closing.map(|it| (it.code, it.reason.as_str()));
            let waiting = session.outbox.get(self.written..).unwrap_or_default();
            match next(waiting, closing, FRAME) {
                Next::Wait => return Ok(true),
                Next::Close(frame) => {
                    self.write(&frame).await?;
                    return Ok(false);
                }
                Next::Messages { frame, count } => {
                    let bytes: usize = waiting.iter().take(count).map(String::len).sum();
                    let goes_on = self.write(&frame).await?;
                    self.written += count;
                    self.bytes += bytes;
                    if !goes_on {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Writes a frame as a separate chunk. Returns true if the response continues.
    async fn write(&mut self, frame: &str) -> Result<bool, Left> {
        let piece = self.receiver.wrap(frame);
        let bytes = piece.len();
        self.output.send(piece).await?;
        self.heartbeat_at = Instant::now() + HEARTBEAT;
        Ok(self.allowance.spend(bytes))
    }

    /// Reads the session again. Fails if another receiver holds it.
    async fn look(&mut self) -> Result<(), End> {
        let key = &self.attachment.id.key;
        let read = self.transports.sessions.session(key).await?;
        let held = read.filter(|it| {
            let lease = it.lease.as_ref();
            lease.is_some_and(|it| it.holder == self.attachment.holder)
        });
        self.attachment.session = held.ok_or(End::Lost)?;
        Ok(())
    }

    /// Removes the written messages from the outbox, renews the lease and reads the session, in one step.
    async fn renew(&mut self) -> Result<(), End> {
        let hold = self.hold(LEASE);
        let key = &self.attachment.id.key;
        let held = self.transports.sessions.hold_session(key, &hold).await?;
        self.took(held.ok_or(End::Lost)?);
        Ok(())
    }

    fn took(&mut self, session: Session) {
        self.attachment.session = session;
        self.written = 0;
        self.bytes = 0;
        self.renew_at = Instant::now() + RENEWAL;
    }

    fn hold(&self, lasting: Duration) -> Hold {
        let now = self.transports.environment.now();
        Hold {
            holder: self.attachment.holder.clone(),
            seen: self.attachment.session.removed,
            written: self.written,
            bytes: self.bytes,
            until: now.plus(lasting),
            now,
        }
    }

    /// Removes the written messages from the outbox and releases the session, in one step. The session lives on for
    /// `lingers`.
    async fn give_up(&self, lingers: Duration) {
        let hold = self.hold(lingers);
        self.transports.release(&self.attachment, &hold).await;
    }

    /// Waits for the next thing to do.
    async fn wait(&mut self) -> Woken {
        let never = self.ends_at + SLICE;
        let look_at = self.look_at.unwrap_or(never);
        let watch = self.transports.site.watch;
        loop {
            let watch_at = watch.map_or(never, |it| Instant::now() + it);
            tokio::select! {
                biased;
                () = sleep_until(self.ends_at) => return Woken::Enough,
                ring = self.bell.ring() => {
                    self.rang(ring);
                    return Woken::Look;
                }
                () = sleep_until(look_at) => {
                    self.looked();
                    return Woken::Look;
                }
                () = sleep_until(self.renew_at) => return Woken::Renew,
                () = sleep_until(self.heartbeat_at) => return Woken::Heartbeat,
                () = sleep_until(watch_at) => {
                    if self.output.check().await.is_err() {
                        return Woken::Left;
                    }
                }
            }
        }
    }

    fn rang(&mut self, ring: Ring) {
        match ring {
            Ring::Hangs => self.look_at = Some(Instant::now() + YOUNG),
            Ring::New => {}
            Ring::Broke => {
                self.looks = 0;
                self.schedule();
            }
        }
    }

    /// Counts a scheduled read, and schedules the next. A poll opens its doorbell after [`LOOKS`] reads.
    fn looked(&mut self) {
        self.looks += 1;
        if self.looks == LOOKS && !self.receiver.is_streaming() {
            self.hang_bell();
        }
        self.schedule();
    }

    /// Schedules the next read of the session. There is none while a doorbell is open, and a later one while it opens.
    fn schedule(&mut self) {
        let looks = match self.bell {
            Bell::Open(_) => {
                self.look_at = None;
                return;
            }
            Bell::Opening(_) => self.looks.saturating_add(2),
            Bell::None => self.looks,
        };
        self.look_at = Some(Instant::now() + pause(looks));
    }

    fn hang_bell(&mut self) {
        let Attachment { id, holder, .. } = &self.attachment;
        if let (Some(url), Some(token)) = (&self.transports.site.doorbell, &self.token) {
            self.bell = Bell::open(url, token, &id.key, holder);
        }
    }
}

impl<A, S: Sessions, E: Environment> Transports<A, S, E> {
    /// Ends a session of which the client never learned.
    pub(crate) async fn abandon(&self, attachment: &Attachment) {
        let now = self.environment.now();
        let hold = Hold {
            holder: attachment.holder.clone(),
            seen: attachment.session.removed,
            written: 0,
            bytes: 0,
            until: now,
            now,
        };
        self.release(attachment, &hold).await;
    }

    /// Releases a session. If that fails, the session is dead when its lease ends.
    async fn release(&self, attachment: &Attachment, hold: &Hold) {
        for attempt in 0..ATTEMPTS {
            let key = &attachment.id.key;
            match self.sessions.release_session(key, hold).await {
                Ok(true) => return,
                Ok(false) => return tracing::warn!("session taken over by another receiver"),
                Err(fault) => tracing::error!(%fault, "releasing session failed"),
            }
            self.environment.sleep(pause(attempt)).await;
        }
    }
}
