//! Whose messages these are.
#![expect(
    async_fn_in_trait,
    reason = "every implementation is ours and is awaited in place or on the same thread"
)]

use lambda::HttpEvent;
use protocol::RequestId;
use service::{
    Identity,
    ports::{Fault, SessionId, TokenHash},
};

/// Whether a session was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It was.
    Yes,
    /// Its token holds no more.
    Refused,
}

/// What answers the messages of sessions; it speaks to them through their outboxes.
pub trait App {
    /// The token that a request comes with, without a look whether it holds; none if there is none that can be one. Nobody
    /// finds a session without the token with which it began.
    async fn token(&self, event: &HttpEvent) -> Result<Option<TokenHash>, Fault>;

    /// Who comes with a request; none if its token does not hold.
    async fn identity(&self, event: &HttpEvent) -> Result<Option<Identity>, Fault>;

    /// A session begins. Before its client knows of it, so that nothing of the client's can come first.
    async fn open(&self, id: &SessionId, identity: &Identity) -> Result<Opened, Fault>;

    /// A message of a session's client; `request` is no other's.
    async fn message(
        &self,
        id: &SessionId,
        identity: &Identity,
        request: RequestId,
        text: String,
    ) -> Result<(), Fault>;

    /// A session is over. Safe twice.
    async fn close(&self, id: &SessionId, identity: &Identity) -> Result<(), Fault>;
}
