//! A request for frames: it becomes the session's receiver, begins a session, or is told why not.

use core::time::Duration;
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
    output::{self, Answer},
    serve::{Asking, Transports},
    stream::Stream,
};

/// How long a receiver has a session before it has to say that it is still there. One that died keeps others out so long.
pub(crate) const LEASE: Duration = Duration::from_secs(20);
/// How often several requests at once may be in each other's way.
const ATTEMPTS: u32 = 5;
/// Looks at a receiver whose client may have just left.
const LEAVING: u32 = 6;
/// An incarnation: 48 random bits of an id.
const INCARNATION: usize = 12;

/// A session that the request has.
pub(crate) struct Attachment {
    pub(crate) id: SessionId,
    pub(crate) holder: String,
    pub(crate) session: Session,
    /// Whether it has just begun: its client is told so first.
    pub(crate) begins: bool,
}

impl<A: App + 'static, S: Sessions + 'static, E: Environment + 'static> Transports<A, S, E> {
    /// What a request for frames is answered.
    pub(crate) async fn receive(
        self: &Rc<Self>,
        asking: &Asking<'_>,
        key: SessionKey,
        token: TokenHash,
        receiver: Receiver,
    ) -> Result<Answer, Fault> {
        let holder = self.environment.fresh_id();
        // Where it is noticed that a client left, one that did so a moment ago is not in the way for long.
        let watch = self.site.watch.unwrap_or_default();
        let mut patience = self.site.watch.map_or(0, |_| LEAVING);
        let most = ATTEMPTS.saturating_add(patience);
        for _ in 0..most {
            let now = self.environment.now();
            let lease = Lease {
                holder: holder.clone(),
                until: now.plus(LEASE),
            };
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
            match arrival(stands.as_ref().map(|it| standing(it, now))) {
                Arrival::Begins => {}
                Arrival::Busy if patience > 0 => {
                    patience -= 1;
                    self.environment.sleep(watch).await;
                    continue;
                }
                Arrival::Busy => return Ok(told(asking, receiver, codes::ANOTHER.frame())),
                Arrival::Ended(frame) => return Ok(told(asking, receiver, frame)),
            }
            // Before its place is taken: nobody else would find out that it is over.
            if let Some(dead) = stands {
                self.app.close(&id(&key, &dead), &dead.identity).await?;
            }
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

    /// A session has begun: the app lets it in before its client knows, so that nothing of the client's comes first. If this
    /// dies before the app has it, the session is dead when its lease ends, and closing what was never opened does nothing.
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
        // Not awaited: the runtime sends the body on while this writes it.
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

/// One frame, and no more; what comes before it is a chunk of its own, as it always is.
fn told(asking: &Asking<'_>, receiver: Receiver, frame: String) -> Answer {
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
