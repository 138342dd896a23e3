//! A request for frames. It becomes the session's receiver, begins a new session, or gets a close frame with the reason.

use std::rc::Rc;

use protocol::Timestamp;
use service::ports::{
    Attached, Environment, Fault, Lease, Session, SessionId, SessionKey, Sessions, TokenHash,
};
use sockjs::{
    codes,
    session::{Arrival, Standing, arrival},
    transport::Receiver,
};

use crate::{
    app::{App, Opened},
    attachment::{Attachment, LEASE},
    output::{self, Answer},
    serve::{Asking, Transports},
    stream::Stream,
};

/// Attempts when concurrent requests conflict.
const ATTEMPTS: u32 = 5;
/// Additional attempts while a session is busy with a receiver whose client may just have left.
const LEAVING: u32 = 6;
/// The number of hexadecimal digits of an incarnation: 48 random bits.
const INCARNATION: usize = 12;

impl<A: App + 'static, S: Sessions + 'static, E: Environment + 'static> Transports<A, S, E> {
    /// Answers a request for frames.
    pub(crate) async fn receive(
        self: &Rc<Self>,
        asking: &Asking<'_>,
        key: SessionKey,
        token: TokenHash,
        receiver: Receiver,
    ) -> Result<Answer, Fault> {
        let holder = self.environment.fresh_id();
        // If the site watches its clients, the receiver of a client that just left soon releases the session: wait for it.
        let watch = self.site.watch.unwrap_or_default();
        let mut patience = self.site.watch.map_or(0, |_| LEAVING);
        let most = ATTEMPTS.saturating_add(patience);
        for _ in 0..most {
            let now = self.environment.now();
            let lease = Lease {
                holder: holder.clone(),
                until: now.plus(LEASE),
            };
            // Become the receiver of an existing session, if it is alive and no other request holds its lease.
            let stands = match self.sessions.attach(&key, &lease, now).await? {
                Attached::Held(session) => {
                    let attachment = Attachment {
                        id: id(&key, &session),
                        holder,
                        session,
                        begins: false,
                    };
                    return Ok(self.stream(asking, receiver, attachment));
                }
                Attached::Stands(session) => Some(session),
                Attached::Absent => None,
            };
            // The session does not exist, is dead, or has another receiver.
            match arrival(stands.as_ref().map(|it| standing(it, now))) {
                Arrival::Begins => {}
                Arrival::Busy if patience > 0 => {
                    patience -= 1;
                    self.environment.sleep(watch).await;
                    continue;
                }
                Arrival::Busy => return Ok(one_frame(asking, receiver, codes::ANOTHER.frame())),
                Arrival::Ended(frame) => return Ok(one_frame(asking, receiver, frame)),
            }
            // Close a dead session before the new one replaces it. Afterwards its item is gone and nothing would close it.
            if let Some(dead) = stands {
                self.app.close(&id(&key, &dead), &dead.identity).await?;
            }
            // Begin a new session. On a conflict with another request, try again.
            let Some(identity) = self.app.identity(asking.event).await? else {
                return Ok(asking.unauthorized());
            };
            if identity.token != token {
                return Ok(asking.unauthorized());
            }
            let incarnation = self.incarnation();
            let session = Session::new(incarnation, identity, lease);
            if self.sessions.begin_session(&key, &session, now).await? {
                return self.begin(asking, receiver, &key, holder, session).await;
            }
        }
        Err(Fault::Conflict)
    }

    /// Opens a new session in the app before the client learns of it, so that no message of the client comes earlier. If the
    /// process dies before that, the session is dead when its lease ends. Closing a session that was never opened does
    /// nothing.
    async fn begin(
        self: &Rc<Self>,
        asking: &Asking<'_>,
        receiver: Receiver,
        key: &SessionKey,
        holder: String,
        session: Session,
    ) -> Result<Answer, Fault> {
        let id = id(key, &session);
        let opened = self.app.open(&id, &session.identity).await;
        let attachment = Attachment {
            id,
            holder,
            session,
            begins: true,
        };
        match opened {
            Ok(Opened::Yes) => Ok(self.stream(asking, receiver, attachment)),
            Ok(Opened::Refused) => {
                self.abandon(&attachment).await;
                Ok(asking.unauthorized())
            }
            Err(fault) => {
                self.abandon(&attachment).await;
                Err(fault)
            }
        }
    }

    fn stream(
        self: &Rc<Self>,
        asking: &Asking<'_>,
        receiver: Receiver,
        attachment: Attachment,
    ) -> Answer {
        let headers = asking.typed(receiver.content_type());
        let (output, answer) = output::begin(200, headers);
        let stream = Stream::new(
            Rc::clone(self),
            asking.settings.response_limit,
            asking.event.bearer(),
            receiver,
            attachment,
            output,
        );
        // Not awaited: the runtime sends the body while this task writes it.
        tokio::task::spawn_local(stream.run());
        answer
    }

    fn incarnation(&self) -> String {
        let id = self.environment.fresh_id();
        let digits = id.chars().filter(char::is_ascii_hexdigit);
        digits.take(INCARNATION).collect()
    }
}

fn id(key: &SessionKey, session: &Session) -> SessionId {
    SessionId {
        key: key.clone(),
        incarnation: session.incarnation.clone(),
    }
}

fn standing(session: &Session, now: Timestamp) -> Standing<'_> {
    let closing = session.closing.as_ref();
    Standing {
        alive: session.is_alive(now),
        closing: closing.map(|it| (it.code, it.reason.as_str())),
    }
}

/// Returns a response with a single frame. The prelude is a separate chunk, as in every response.
fn one_frame(asking: &Asking<'_>, receiver: Receiver, frame: String) -> Answer {
    let (mut output, answer) = output::begin(200, asking.typed(receiver.content_type()));
    tokio::task::spawn_local(async move {
        if let Some(prelude) = receiver.prelude()
            && output.send(prelude).await.is_err()
        {
            return;
        }
        let _ = output.send(receiver.wrap(&frame)).await;
    });
    answer
}
