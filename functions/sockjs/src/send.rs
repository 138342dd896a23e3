//! What a client sends.

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
    /// Hands a client's messages to the app, in their order.
    ///
    /// # Cost
    /// One read of the session, and what the app's messages cost.
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
        let now = self.environment.now();
        let read = self.sessions.session(&key).await?;
        let Some(session) = read.filter(|it| it.is_alive(now)) else {
            return Ok(match self.app.identity(asking.event).await? {
                Some(_) => asking.text(404, "There is no such session.\n"),
                None => asking.unauthorized(),
            });
        };
        match &session.closing {
            Some(Closing { code, .. }) if *code == codes::TOKEN_INVALIDATED.code => {
                return Ok(asking.unauthorized());
            }
            // Nobody is there any more to hear it.
            Some(_) => return Ok(taken(asking, endpoint)),
            None => {}
        }
        let id = SessionId {
            key,
            incarnation: session.incarnation,
        };
        for (place, text) in messages.into_iter().enumerate() {
            let request = RequestId(format!("{}.{place}", asking.request.as_str()));
            self.app
                .message(&id, &session.identity, request, text)
                .await?;
        }
        Ok(taken(asking, endpoint))
    }
}

fn taken(asking: &Asking<'_>, endpoint: Endpoint) -> Answer {
    let (status, body) = match endpoint {
        Endpoint::JsonpSend => (200, "ok"),
        _ => (204, ""),
    };
    output::whole(status, asking.typed(TEXT), body.to_owned())
}
