//! Connections and their gates.

use std::collections::BTreeMap;

use protocol::{ConnectionId, ConnectionKey, Subscriber, Timestamp};
use service::ports::{
    Connection, Connections, FIRST_GATE, Fault, Gone, Parked, ParkedOutcome, Reauthorization,
    ReauthorizeError, Reference, RegisterError, Registration, UNPARKED,
};

use super::{Condition, Memory, state::State};

/// Registers a connection whose token is valid.
pub(super) fn enter(state: &mut State, registration: &Registration) {
    let Registration {
        subscriber,
        id,
        connection,
    } = registration;
    state.put_token_connection(&connection.token, id, connection.ends_at);
    let person = state.person_mut(subscriber);
    // A repeated registration may have been applied before, and the entry may have changed since.
    person
        .connections
        .entry(id.clone())
        .or_insert_with(|| connection.clone());
}

/// Moves a connection to another valid token.
pub(super) fn put_under(
    state: &mut State,
    reauthorization: &Reauthorization,
) -> Result<(), ReauthorizeError> {
    let Reauthorization {
        subscriber,
        id,
        old,
        new,
        at: _,
        ends_at,
    } = reauthorization;
    let Some(connection) = state
        .connection_mut(subscriber, id)
        .filter(|it| it.token == *old)
    else {
        return Err(Fault::Conflict.into());
    };
    connection.token = new.clone();
    connection.ends_at = *ends_at;
    state.forget_token_connection(old, id);
    state.put_token_connection(new, id, *ends_at);
    Ok(())
}

impl Connections for Memory {
    async fn connections(
        &self,
        subscriber: &Subscriber,
    ) -> Result<BTreeMap<ConnectionId, Connection>, Fault> {
        self.read("connections", |state, _| {
            let person = state.person(subscriber);
            person.map(|it| it.connections.clone()).unwrap_or_default()
        })
        .await
    }

    async fn connections_of(
        &self,
        subscribers: &[Subscriber],
    ) -> Result<BTreeMap<Subscriber, BTreeMap<ConnectionId, Connection>>, Fault> {
        let found = self.batch("connections_of", subscribers, |state, _, subscriber| {
            let connections = &state.person(subscriber)?.connections;
            (!connections.is_empty()).then(|| connections.clone())
        });
        Ok(found.await?.into_iter().collect())
    }

    async fn register(&self, registration: &Registration) -> Result<(), RegisterError> {
        let connection = &registration.connection;
        let careless = self.ignores(Condition::Token);
        let registered = self.write("register", |state, now| {
            let token = state.tokens.get(&connection.token);
            let good = token.filter(|it| {
                it.record(now)
                    .is_some_and(|record| record.is_good(connection.since))
            });
            if good.is_none() && !careless {
                return Err(RegisterError::Token);
            }
            enter(state, registration);
            Ok(())
        });
        registered.await?
    }

    async fn reauthorize(&self, reauthorization: &Reauthorization) -> Result<(), ReauthorizeError> {
        let Reauthorization { new, at, .. } = reauthorization;
        let reauthorized = self.write("reauthorize", |state, now| {
            let good = state
                .tokens
                .get(new)
                .and_then(|it| it.record(now))
                .is_some_and(|record| record.is_good(*at));
            if !good {
                return Err(ReauthorizeError::Token);
            }
            put_under(state, reauthorization)
        });
        reauthorized.await?
    }

    async fn forget(&self, key: &ConnectionKey) -> Result<Option<Connection>, Fault> {
        self.write("forget", |state, _| {
            state.person_mut(&key.subscriber).forget(&key.id)
        })
        .await
    }

    async fn raise_gate(
        &self,
        key: &ConnectionKey,
        gate: &str,
        deadline: Timestamp,
    ) -> Result<Result<Connection, Gone>, Fault> {
        let careless = self.ignores(Condition::Gate);
        self.write("raise_gate", |state, _| {
            let connection = state.connection_mut(&key.subscriber, &key.id).ok_or(Gone)?;
            if careless {
                return Ok(connection.clone());
            }
            connection.gates.insert(gate.to_owned(), deadline);
            Ok(connection.clone())
        })
        .await
    }

    async fn park(
        &self,
        key: &ConnectionKey,
        saw: Option<&str>,
        references: &[Reference],
    ) -> Result<ParkedOutcome, Fault> {
        let careless = self.ignores(Condition::Parked);
        self.write("park", |state, _| {
            let Some(connection) = state.connection_mut(&key.subscriber, &key.id) else {
                return ParkedOutcome::NotRegistered;
            };
            let parked = if connection.parked.is_empty() {
                if !saw.is_some_and(|gate| connection.gates.contains_key(gate)) {
                    return ParkedOutcome::Changed;
                }
                Parked::First
            } else {
                Parked::Further
            };
            if !careless {
                connection.parked.extend_from_slice(references);
            }
            ParkedOutcome::Parked(parked)
        })
        .await
    }

    async fn unpark(
        &self,
        key: &ConnectionKey,
        gate: &str,
        count: usize,
        deadline: Timestamp,
    ) -> Result<Result<Connection, Gone>, Fault> {
        if count > UNPARKED {
            return Err(Fault::Corrupt("the expression is too long".to_owned()));
        }
        self.write("unpark", |state, _| {
            let connection = state.connection_mut(&key.subscriber, &key.id).ok_or(Gone)?;
            let own = connection.gates.get_mut(gate).ok_or(Gone)?;
            *own = deadline;
            let count = count.min(connection.parked.len());
            connection.parked.drain(..count);
            Ok(connection.clone())
        })
        .await
    }

    async fn lower_gate(
        &self,
        key: &ConnectionKey,
        gate: &str,
        other: Option<&str>,
    ) -> Result<bool, Fault> {
        let careless = self.ignores(Condition::Lower);
        self.write("lower_gate", |state, _| {
            let Some(connection) = state.connection_mut(&key.subscriber, &key.id) else {
                return true;
            };
            let other_stands = other.is_some_and(|it| connection.gates.contains_key(it));
            let occupied = !connection.parked.is_empty() && !other_stands;
            if connection.gates.contains_key(gate) && occupied && !careless {
                return false;
            }
            connection.gates.remove(gate);
            if careless {
                connection.parked.clear();
            }
            true
        })
        .await
    }

    async fn lower_first_gate(
        &self,
        key: &ConnectionKey,
    ) -> Result<Option<BTreeMap<ConnectionId, Connection>>, Fault> {
        self.write("lower_first_gate", |state, _| {
            let connection = state.connection_mut(&key.subscriber, &key.id)?;
            if !connection.parked.is_empty() {
                return None;
            }
            connection.gates.remove(FIRST_GATE)?;
            state
                .person(&key.subscriber)
                .map(|it| it.connections.clone())
        })
        .await
    }

    async fn take_gate(
        &self,
        key: &ConnectionKey,
        expired: &BTreeMap<String, Timestamp>,
        (gate, deadline): (&str, Timestamp),
        references: &[Reference],
    ) -> Result<Option<Connection>, Fault> {
        self.write("take_gate", |state, _| {
            let connection = state.connection_mut(&key.subscriber, &key.id)?;
            let unchanged = expired
                .iter()
                .all(|(gate, until)| connection.gates.get(gate) == Some(until));
            if !unchanged {
                return None;
            }
            connection
                .gates
                .retain(|gate, _| !expired.contains_key(gate));
            connection.gates.insert(gate.to_owned(), deadline);
            connection.parked.extend_from_slice(references);
            Some(connection.clone())
        })
        .await
    }
}
