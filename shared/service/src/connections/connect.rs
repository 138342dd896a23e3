//! Connecting and disconnecting.

use std::collections::BTreeMap;

use protocol::{ConnectionId, ConnectionKey, limits};

use crate::{
    Identity, Service,
    closer::Closer,
    ports::{
        Connection, Connections, Environment, FIRST_GATE, Fault, Job, Presences, RegisterError,
        Registration, SignedTokens, SignedUse, Tokens, Workers,
    },
    timing::ACTIVATION,
};

/// A connection that is about to begin.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// As the authorizer found it.
    pub identity: Identity,
    pub connection: ConnectionId,
}

/// Why a connection does not begin.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The token was invalidated or ended between the authorizer and here.
    #[error("the token authorises nothing")]
    Token,
    /// Another fault. The client may try again.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl<S: Connections + Presences + Tokens + SignedTokens, G, W: Workers, E: Environment>
    Service<S, G, W, E>
{
    /// Registers a connection and has the worker activate it.
    ///
    /// If the function dies before it started the worker, API Gateway refuses the connection. Its entry then ends at the
    /// connection's maximum age, together with what was parked for it.
    ///
    /// # Errors
    /// [`ConnectError`].
    ///
    /// # Cost
    /// A transaction of three items, up to six for a signed token: 2 write units for each KiB of each item.
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
                gates: BTreeMap::from([(FIRST_GATE.to_owned(), since.plus(ACTIVATION))]),
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
                // Registering is idempotent, so after a lost answer it is done again.
                Err(RegisterError::Fault(fault)) => {
                    let salt = incoming.connection.as_str();
                    self.ports().retry_store(&mut attempt, salt, fault).await?;
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
            // API Gateway refuses the connection, so it never becomes active. Its row under the token goes at its end.
            let key = subscriber.connection(incoming.connection.clone());
            self.store.forget(&key).await?;
            return Err(fault.into());
        }
        Ok(())
    }

    /// Forgets a connection that was closed, and publishes the presence of its subscriber if that changed.
    ///
    /// If the function dies half-way, the connection's row under its token is left until the connection's end.
    ///
    /// # Errors
    /// A fault of the store. The next post to the connection finds it gone and forgets it.
    ///
    /// # Cost
    /// One write of the connections (a transaction of two if it had announced its presence). One delete under its token, and
    /// one of the index by which it ends.
    pub async fn disconnect(&self, key: &ConnectionKey) -> Result<(), Fault> {
        Closer::of(self.ports()).disconnected(key).await
    }
}
