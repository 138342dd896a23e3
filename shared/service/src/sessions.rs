//! SockJS sessions over HTTP: whose they are, how their receivers are told of what is new, and how dead ones end.

use futures::{StreamExt as _, stream};
use protocol::{ConnectionId, limits};

use crate::{
    Identity, Service, Store,
    ports::{
        Credential, Doorbell, Environment, Fault, Minute, Page, Pushes, Session, SessionId,
        SessionKey, Sessions, TokenHash, Workers,
    },
};

/// Sessions that are ended at once.
const AT_ONCE: usize = 16;

/// Where a doorbell belongs: a session's key, and who receives for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorbellOf {
    /// The session.
    pub key: SessionKey,
    /// Who has its lease.
    pub holder: String,
}

impl DoorbellOf {
    /// As it stands in a URL: the key, a dot, the holder.
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
    /// The hash of a bearer token, without a look whether it still holds; none if its issuer's signature is missing.
    ///
    /// # Errors
    /// For a signed token if its issuer's keys cannot be had.
    pub async fn token_hash(&self, token: &str) -> Result<Option<TokenHash>, Fault> {
        match self.environment.credential(token).await? {
            Credential::Opaque => Ok(Some(TokenHash::of(token))),
            Credential::Signed { hash, token } => Ok(token.map(|_| hash)),
        }
    }
}

impl<S: Sessions, G, W, E: Environment> Service<S, G, W, E> {
    /// Who asks for a doorbell with this token; none if it is not that of an open session whose receiver is named. The token
    /// itself need not hold any more: the session may have another by `authorize`, and ends with that one.
    ///
    /// # Errors
    /// A fault of the store; for a signed token also if its issuer's keys cannot be had.
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
        let is_its = |it: &Session| {
            let holds = it.lease.as_ref().is_some_and(|it| it.holder == of.holder);
            it.is_open(now) && it.identity.token == hash && holds
        };
        Ok(session.filter(is_its).map(|it| it.identity))
    }

    /// Hangs a doorbell up for a session's receiver; whether it is its own: the session began with the token that the
    /// doorbell's connection came with, and the receiver is still that one. Nothing else is known of the connection, so
    /// nobody is reached by it and nothing is taken from it.
    ///
    /// # Errors
    /// A fault of the store; the receiver does without.
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

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Ends the sessions that are dead among those that stand in a minute that is over; the others are looked at again.
    ///
    /// The connection is forgotten before the session is: who dies in between leaves the session where it is found again.
    ///
    /// # Cost
    /// Half a read for each 4 KiB of keys. For each session one read, and three writes if it lives; what a disconnect
    /// costs and two writes if it does not.
    pub(crate) async fn end_sessions(&self, minute: Minute) -> Result<(), Fault> {
        let mut after: Option<SessionKey> = None;
        let mut failed = None;
        loop {
            let Page { items, more } = self
                .store
                .due_sessions(minute, after.as_ref(), limits::PAGE)
                .await?;
            let mut ends = stream::iter(&items)
                .map(|key| self.end_session(key))
                .buffer_unordered(AT_ONCE);
            while let Some(ended) = ends.next().await {
                if let Err(fault) = ended {
                    tracing::error!(%fault, "a session is not ended");
                    failed = Some(fault);
                }
            }
            drop(ends);
            after = items.into_iter().next_back();
            if !more {
                return failed.map_or(Ok(()), Err);
            }
        }
    }

    async fn end_session(&self, key: &SessionKey) -> Result<(), Fault> {
        let Some(session) = self.store.session(key).await? else {
            return Ok(());
        };
        let id = SessionId {
            key: key.clone(),
            incarnation: session.incarnation.clone(),
        };
        let now = self.environment.now();
        if session.is_alive(now) {
            let next = Minute::of(session.alive_until).max(Minute::of(now).plus(1));
            return self.store.postpone_session(&id, next).await;
        }
        self.disconnect(&session.identity.subscriber, &id.connection())
            .await?;
        self.store.forget_session(&id, now).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doorbell_names_a_session_and_its_receiver() {
        let key = SessionKey::of(&TokenHash::of("token"), "a.b");
        let text = format!("{}.one", key.as_str());
        let holder = "one".to_owned();
        assert_eq!(DoorbellOf::parse(&text), Some(DoorbellOf { key, holder }));
        assert_eq!(DoorbellOf::parse("nothing"), None);
    }
}
