//! A connection begins, and a connection ends.

use std::collections::BTreeMap;

use protocol::{ConnectionId, Subscriber, limits};

use crate::{
    ATTEMPTS, COMING_UP, Identity, Service, backoff,
    ports::{
        Connection, Connections, Environment, FIRST_GATE, Fault, Job, Presences, RegisterError,
        Registration, SignedTokens, SignedUse, Tokens, Workers,
    },
};

/// A connection that wants to begin.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Who the authorizer found.
    pub identity: Identity,
    /// Its id.
    pub connection: ConnectionId,
}

/// Why a connection does not begin.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The token was invalidated or ended between the authorizer and here.
    #[error("the token authorises nothing")]
    Token,
    /// Another fault; the client may try again.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl<S: Connections + Presences + Tokens + SignedTokens, G, W: Workers, E: Environment>
    Service<S, G, W, E>
{
    /// Registers a connection and has the worker see to it once it is up.
    ///
    /// If this dies before the worker was started, API Gateway refuses the connection; its entry then ends with the
    /// connection's age, and what was parked for it goes with it.
    ///
    /// # Errors
    /// [`ConnectError`].
    ///
    /// # Cost
    /// A transaction of three items: 2 units for each KiB of each. For a signed token up to six.
    pub async fn connect(&self, incoming: &Incoming) -> Result<(), ConnectError> {
        let Identity {
            subscriber,
            token,
            token_expires,
            jti,
            framing,
        } = &incoming.identity;
        let since = self.environment.now();
        let ends_at = since
            .plus_seconds(limits::CONNECTION_SECONDS)
            .min(*token_expires);
        let registration = Registration {
            subscriber: subscriber.clone(),
            id: incoming.connection.clone(),
            connection: Connection {
                token: token.clone(),
                framing: *framing,
                since,
                ends_at,
                gates: BTreeMap::from([(FIRST_GATE.to_owned(), since.plus(COMING_UP))]),
                parked: Vec::new(),
                announced: false,
            },
        };
        let mut attempt = 0;
        loop {
            let registered = if token.is_signed() {
                let used = SignedUse {
                    expires: *token_expires,
                    jti: jti.clone(),
                };
                self.store.register_signed(&registration, &used).await
            } else {
                self.store.register(&registration).await
            };
            match registered {
                Ok(()) => break,
                Err(RegisterError::Token) => return Err(ConnectError::Token),
                // Registering is idempotent: after a lost answer it is simply done again.
                Err(RegisterError::Fault(Fault::Corrupt(what))) => {
                    return Err(Fault::Corrupt(what).into());
                }
                Err(RegisterError::Fault(fault)) if attempt == ATTEMPTS => return Err(fault.into()),
                Err(RegisterError::Fault(_)) => {
                    self.environment
                        .sleep(backoff(attempt, incoming.connection.as_str()))
                        .await;
                    attempt += 1;
                }
            }
        }
        let job = Job::Connected {
            subscriber: subscriber.clone(),
            connection: incoming.connection.clone(),
            token: token.clone(),
            framing: *framing,
        };
        if let Err(fault) = self.workers.start(&job).await {
            // Refused below, so it will never come up. What its token has of it goes at its end.
            self.store.forget(subscriber, &incoming.connection).await?;
            return Err(fault.into());
        }
        Ok(())
    }

    /// Forgets a connection that ended, and has others told if that changes how its subscriber is seen.
    ///
    /// If this dies half-way, what its token has of it is left, and goes at the connection's end.
    ///
    /// # Errors
    /// A fault of the store; whoever next posts to the connection finds it gone and forgets it.
    ///
    /// # Cost
    /// One write of the connections (and a transaction of two if it had announced), and one delete under its token with
    /// one of the index by which it ends.
    pub async fn disconnect(
        &self,
        subscriber: &Subscriber,
        connection: &ConnectionId,
    ) -> Result<(), Fault> {
        match self.forget_entry(subscriber, connection).await? {
            Some(entry) => {
                self.store
                    .forget_token_connection(&entry.token, connection)
                    .await
            }
            None => self.tell_what_is_untold(subscriber).await,
        }
    }

    /// Somebody forgot the connection before, and may have died before the others were told of it.
    async fn tell_what_is_untold(&self, subscriber: &Subscriber) -> Result<(), Fault> {
        let presence = self.store.presence(subscriber).await?;
        if presence.version > presence.pushed {
            return self.tell_presence_late(subscriber).await;
        }
        Ok(())
    }

    /// Has the others told how a subscriber is seen, unless a reconnect undoes the change within the time of grace.
    async fn tell_presence_late(&self, subscriber: &Subscriber) -> Result<(), Fault> {
        let job = Job::Presence {
            subscriber: subscriber.clone(),
            grace: true,
        };
        self.workers.start(&job).await
    }

    /// The same, but that its token authorised it is not forgotten: the connection may still be open.
    pub(crate) async fn forget_entry(
        &self,
        subscriber: &Subscriber,
        connection: &ConnectionId,
    ) -> Result<Option<Connection>, Fault> {
        let forgotten = self.store.forget(subscriber, connection).await;
        // After a lost answer nobody knows whether it had announced, and a repeat would not find it any more.
        let announced = match &forgotten {
            Ok(entry) => entry.as_ref().is_some_and(|it| it.announced),
            Err(fault) => matches!(fault, Fault::Unknown(_)),
        };
        if announced {
            self.tell_presence_late(subscriber).await?;
        }
        forgotten
    }
}
