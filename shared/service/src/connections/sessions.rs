//! SockJS sessions over HTTP: their doorbells, and how dead sessions end.
//!
//! A doorbell is a WebSocket of the function that holds a session's streaming response. A push to the session rings it, so the
//! function need not poll.

use core::pin::pin;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use protocol::{ConnectionId, limits};

use crate::{
    Identity, Service, Store,
    closer::Closer,
    pages::pages,
    parts::part,
    ports::{
        Credential, Doorbell, Environment, Fault, Minute, Pushes, Session, SessionId, SessionKey,
        Sessions, TokenHash, Workers,
    },
};

/// Sessions that are ended at the same time.
const AT_ONCE: usize = 16;

/// What a doorbell belongs to: a session, and the function that receives for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorbellOf {
    pub key: SessionKey,
    /// The holder of the session's lease.
    pub holder: String,
}

impl DoorbellOf {
    /// Parses the form that stands in a URL: the key, a dot, the holder.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (key, holder) = text.split_once('.')?;
        Some(Self {
            key: SessionKey::from_stored(key.to_owned()),
            holder: holder.to_owned(),
        })
    }
}

impl<S, G, W, E: Environment> Service<S, G, W, E> {
    /// Returns the hash of a bearer token, valid or not. Returns `None` for a signed token whose signature does not verify.
    ///
    /// # Errors
    /// For a signed token if the issuer's keys cannot be fetched.
    pub async fn token_hash(&self, token: &str) -> Result<Option<TokenHash>, Fault> {
        match self.environment.credential(token).await? {
            Credential::Opaque => Ok(Some(TokenHash::of(token))),
            Credential::Signed { hash, token } => Ok(token.map(|_| hash)),
        }
    }
}

impl<S: Sessions, G, W, E: Environment> Service<S, G, W, E> {
    /// Returns the identity behind a doorbell that connects with this token, or `None` if the token is not that of an open
    /// session whose receiver `of` names. The token need not be valid any more: `authorize` may have given the session another
    /// one, and the session ends with that one.
    ///
    /// # Errors
    /// A fault of the store. For a signed token also if the issuer's keys cannot be fetched.
    ///
    /// # Cost
    /// One read of the session.
    pub async fn authenticate_doorbell(
        &self,
        token: &str,
        of: &DoorbellOf,
    ) -> Result<Option<Identity>, Fault> {
        let Some(hash) = self.token_hash(token).await? else {
            return Ok(None);
        };
        let now = self.environment.now();
        let session = self.store.session(&of.key).await?;
        let is_receiver = |it: &Session| {
            let holds = it.lease.as_ref().is_some_and(|it| it.holder == of.holder);
            it.is_open(now) && it.identity.token == hash && holds
        };
        Ok(session.filter(is_receiver).map(|it| it.identity))
    }

    /// Registers a doorbell for a session's receiver. Returns false unless the session began with the token that the doorbell
    /// connected with, and the receiver still holds its lease. The connection is registered nowhere else, so nothing is pushed
    /// to it and nothing is accepted from it.
    ///
    /// # Errors
    /// A fault of the store. The receiver then polls.
    ///
    /// # Cost
    /// One write of the session.
    pub async fn hang_doorbell(
        &self,
        identity: &Identity,
        of: &DoorbellOf,
        connection: &ConnectionId,
    ) -> Result<bool, Fault> {
        let doorbell = Doorbell {
            key: of.key.clone(),
            holder: of.holder.clone(),
            token: identity.token.clone(),
            connection: connection.clone(),
        };
        self.store.set_doorbell(&doorbell).await
    }
}

part! {
    /// Ends dead sessions.
    Reaper
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Reaper<'_, S, G, W, E> {
    /// Ends the dead sessions in a minute of their index. Sessions that live move to a later minute.
    ///
    /// The connection is forgotten before the session: if the function dies in between, the next run finds the session again.
    ///
    /// # Cost
    /// Half a read unit for each 4 KiB of keys. For each session one read. Three writes if it lives, otherwise two writes and
    /// those of a disconnect.
    pub(crate) async fn end_sessions(&self, minute: Minute) -> Result<(), Fault> {
        let store = self.ports.store;
        let mut due = pin!(pages(
            |after: Option<SessionKey>| async move {
                store
                    .due_sessions(minute, after.as_ref(), limits::PAGE)
                    .await
            },
            Clone::clone,
        ));
        let mut failed = None;
        while let Some(keys) = due.try_next().await? {
            let mut ends = stream::iter(&keys)
                .map(|key| self.end_session(key))
                .buffer_unordered(AT_ONCE);
            while let Some(ended) = ends.next().await {
                if let Err(fault) = ended {
                    tracing::error!(%fault, "expiry of a session failed");
                    failed = Some(fault);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn end_session(&self, key: &SessionKey) -> Result<(), Fault> {
        let Some(session) = self.ports.store.session(key).await? else {
            return Ok(());
        };
        let id = SessionId {
            key: key.clone(),
            incarnation: session.incarnation.clone(),
        };
        let now = self.ports.environment.now();
        if session.is_alive(now) {
            let next = Minute::of(session.alive_until).max(Minute::of(now).plus(1));
            return self.ports.store.postpone_session(&id, next).await;
        }
        let subscriber = &session.identity.subscriber;
        Closer::of(self.ports)
            .disconnected(&subscriber.connection(id.connection()))
            .await?;
        self.ports.store.forget_session(&id, now).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doorbell_parses_key_and_holder() {
        let key = SessionKey::of(&TokenHash::of("token"), "a.b");
        let text = format!("{}.one", key.as_str());
        let holder = "one".to_owned();
        assert_eq!(DoorbellOf::parse(&text), Some(DoorbellOf { key, holder }));
        assert_eq!(DoorbellOf::parse("nothing"), None);
    }
}
