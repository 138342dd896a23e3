//! The application that handles the messages of sessions.
#![expect(
    async_fn_in_trait,
    reason = "all implementations are in this workspace, and run on the calling thread"
)]

use lambda::HttpEvent;
use protocol::RequestId;
use service::{
    Identity,
    ports::{Fault, SessionId, TokenHash},
};

/// The outcome of opening a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The session is open.
    Yes,
    /// The token is not valid any more.
    Refused,
}

/// Handles the messages of sessions, and replies through their outboxes.
pub trait App {
    /// Returns the hash of a request's token without validating the token. Returns `None` if the request has no well-formed
    /// token. A session can only be found with the token that began it.
    async fn token(&self, event: &HttpEvent) -> Result<Option<TokenHash>, Fault>;

    /// Returns the identity of a request, or `None` if its token is not valid.
    async fn identity(&self, event: &HttpEvent) -> Result<Option<Identity>, Fault>;

    /// Opens a session. The caller calls this before the client learns of the session, so that no message comes earlier.
    async fn open(&self, id: &SessionId, identity: &Identity) -> Result<Opened, Fault>;

    /// Handles a message of a session's client. `request` is unique to the message.
    async fn message(
        &self,
        id: &SessionId,
        identity: &Identity,
        request: RequestId,
        text: String,
    ) -> Result<(), Fault>;

    /// Closes a session. Idempotent.
    async fn close(&self, id: &SessionId, identity: &Identity) -> Result<(), Fault>;
}
