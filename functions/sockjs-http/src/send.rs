//! A request with messages from a client.

use protocol::RequestId;
use service::ports::{Closing, Environment, Fault, SessionId, SessionKey, Sessions};
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

impl<A: App, S: Sessions, E: Environment> Transports<A, S, E> {
    /// Passes a client's messages to the app, in order.
    ///
    /// # Cost
    /// One read of the session, and the app's cost of each message.
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
        // A session exists only if it is alive. The token decides between 404 and 401.
        let key = SessionKey::of(&token, name);
        let now = self.environment.now();
        let read = self.sessions.session(&key).await?;
        let Some(session) = read.filter(|it| it.is_alive(now)) else {
            return Ok(match self.app.identity(asking.event).await? {
                Some(_) => asking.text(404, "No such session.\n"),
                None => asking.unauthorized(),
            });
        };
        match &session.closing {
            Some(Closing { code, .. }) if *code == codes::TOKEN_INVALIDATED.code => {
                return Ok(asking.unauthorized());
            }
            // The session is closing, so its messages are dropped.
            Some(_) => return Ok(accepted(asking, endpoint)),
            None => {}
        }
        let id = SessionId {
            key,
            incarnation: session.incarnation,
        };
        for (index, text) in messages.into_iter().enumerate() {
            let request = RequestId(format!("{}.{index}", asking.request.as_str()));
            self.app
                .message(&id, &session.identity, request, text)
                .await?;
        }
        Ok(accepted(asking, endpoint))
    }
}

fn accepted(asking: &Asking<'_>, endpoint: Endpoint) -> Answer {
    let (status, body) = match endpoint {
        Endpoint::JsonpSend => (200, "ok"),
        _ => (204, ""),
    };
    output::whole(status, asking.typed(TEXT), body.to_owned())
}
