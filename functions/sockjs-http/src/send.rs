//! A request with messages from a client. A session has one at a time.

use core::time::Duration;

use protocol::RequestId;
use service::ports::{
    Attached, Closing, Environment, Fault, Lease, Session, SessionId, SessionKey, Sessions,
};
use sockjs::{
    Endpoint, codes,
    frame::{self, BatchError},
    headers::TEXT,
    transport::jsonp_payload,
};

use crate::{
    app::App,
    output::{self, Answer},
    serve::{Asking, Transports},
};

/// How long a request handles messages. The rest is refused, so that no request occupies the function for long.
const BUDGET: Duration = Duration::from_secs(10);
/// The duration of a sender's lease: the budget, and the time of the message that was begun last. A sender that died blocks
/// others for this long. If the lease ends before its request does, two requests are handled at the same time, as messages
/// are that a WebSocket client sends without waiting.
const LEASE: Duration = Duration::from_secs(30);
/// The pauses between attempts while another request sends. A SockJS client waits for the response before it sends again
/// (sockjs-client 1.6, `BufferedSender`), but a browser or a proxy may repeat a request whose connection broke.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];

/// The outcome of a request's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    All,
    /// The time was over before the last message.
    Part,
}

impl<A: App, S: Sessions, E: Environment> Transports<A, S, E> {
    /// Passes a client's messages to the app, in order.
    ///
    /// # Cost
    /// Two writes of the session, and the app's cost of each message.
    pub(crate) async fn send(
        &self,
        asking: &Asking<'_>,
        name: &str,
        endpoint: Endpoint,
    ) -> Result<Answer, Fault> {
        let Some(token) = self.app.token(asking.event).await? else {
            return Ok(asking.unauthorized());
        };
        let body = asking.event.bytes().unwrap_or_default();
        let payload = match endpoint {
            Endpoint::JsonpSend => jsonp_payload(asking.event.header("content-type"), &body),
            _ => body.as_slice().into(),
        };
        let messages = match frame::decode_batch(&payload) {
            Ok(messages) => messages,
            Err(error @ BatchError::TooMany) => return Ok(asking.text(413, error.to_string())),
            Err(error) => return Ok(asking.text(500, error.to_string())),
        };
        let key = SessionKey::of(&token, name);
        let holder = self.environment.fresh_id();
        let session = match self.begin_sending(&key, &holder).await? {
            Attached::Held(session) => session,
            Attached::Stands(session) if session.is_alive(self.environment.now()) => {
                return Ok(match &session.closing {
                    Some(Closing { code, .. }) if *code == codes::TOKEN_INVALIDATED.code => {
                        asking.unauthorized()
                    }
                    // The session is closing, so its messages are dropped.
                    Some(_) => accepted(asking, endpoint),
                    None => asking.text(503, "Another request is sending.\n"),
                });
            }
            // A session exists only if it is alive. The token decides between 404 and 401.
            Attached::Stands(_) | Attached::Absent => {
                return Ok(match self.app.identity(asking.event).await? {
                    Some(_) => asking.text(404, "No such session.\n"),
                    None => asking.unauthorized(),
                });
            }
        };
        let sent = self.handle(asking, &key, &session, messages).await;
        // Before the response, because the client then sends its next request. If the process dies before, the client gets
        // an error, which ends the session for it, and the lease ends by itself. The same holds if this write fails.
        if let Err(fault) = self.sessions.end_sending(&key, &holder).await {
            tracing::error!(%fault, "releasing sender failed");
        }
        Ok(match sent? {
            Sent::All => accepted(asking, endpoint),
            Sent::Part => asking.text(503, "The last messages were not handled.\n"),
        })
    }

    /// Takes the sender's lease. While another request has it, tries again for less than a second.
    async fn begin_sending(&self, key: &SessionKey, holder: &str) -> Result<Attached, Fault> {
        let mut pauses = PAUSES.iter();
        loop {
            let now = self.environment.now();
            let lease = Lease {
                holder: holder.to_owned(),
                until: now.plus(LEASE),
            };
            let begun = self.sessions.begin_sending(key, &lease, now).await?;
            let busy = matches!(&begun, Attached::Stands(session) if session.is_open(now));
            match pauses.next() {
                Some(pause) if busy => self.environment.sleep(*pause).await,
                _ => return Ok(begun),
            }
        }
    }

    /// Passes messages to the app until [`BUDGET`] is over.
    async fn handle(
        &self,
        asking: &Asking<'_>,
        key: &SessionKey,
        session: &Session,
        messages: Vec<String>,
    ) -> Result<Sent, Fault> {
        let id = SessionId {
            key: key.clone(),
            incarnation: session.incarnation.clone(),
        };
        let begun = self.environment.now();
        for (index, text) in messages.into_iter().enumerate() {
            if begun.until(self.environment.now()) >= BUDGET {
                tracing::warn!(handled = index, "time for messages is over");
                return Ok(Sent::Part);
            }
            let request = RequestId(format!("{}.{index}", asking.request.as_str()));
            self.app
                .message(&id, &session.identity, request, text)
                .await?;
        }
        Ok(Sent::All)
    }
}

fn accepted(asking: &Asking<'_>, endpoint: Endpoint) -> Answer {
    let (status, body) = match endpoint {
        Endpoint::JsonpSend => (200, "ok"),
        _ => (204, ""),
    };
    output::whole(status, asking.typed(TEXT), body.to_owned())
}

#[cfg(test)]
mod tests;
