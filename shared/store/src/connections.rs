//! The open connections of a subscriber. One item has an attribute for each, so that the first connection needs no
//! existing item.
//!
//! # Cost
//!
//! The item's units are per KiB written and per 4 KiB read. It has at most 20 entries of about 150 bytes, and is larger
//! while references are parked.
//!
//! | pattern | requests | units |
//! |---|---|---|
//! | `connections` | GetItem | 1 read |
//! | `connections_of` | BatchGetItem, 100 a request | 1 read each |
//! | `register` | TransactWriteItems of 3 | 2 + 2 + 2 write, and 1 for the index |
//! | `reauthorize` | TransactWriteItems of 4 | 2 + 2 + 2 + 2 write, and 2 for the index |
//! | `forget` | UpdateItem | 1 write; with an announcement 1 + 4 |
//! | `raise_gate`, `park`, `unpark`, `lower_gate`, `lower_first_gate`, `take_gate` | UpdateItem | 1 write, also if the condition fails |

mod forget;
mod gates;
pub(crate) mod item;
mod reauthorize;
mod register;

use std::collections::BTreeMap;

use protocol::{ConnectionId, ConnectionKey, Subscriber, Timestamp};
use service::ports::{
    Connection, Connections, Fault, Gone, ParkedOutcome, Reauthorization, ReauthorizeError,
    Reference, RegisterError, Registration,
};

use crate::{DynamoStore, keys::Key};

pub(crate) use reauthorize::reauthorize;
pub(crate) use register::register;

const WHAT: &str = "connections";

impl Connections for DynamoStore {
    async fn connections(
        &self,
        subscriber: &Subscriber,
    ) -> Result<BTreeMap<ConnectionId, Connection>, Fault> {
        let key = Key::connections(subscriber);
        let item = self.item("connections", &key).await?;
        item::all(item.unwrap_or_default())
    }

    async fn connections_of(
        &self,
        subscribers: &[Subscriber],
    ) -> Result<BTreeMap<Subscriber, BTreeMap<ConnectionId, Connection>>, Fault> {
        let wanted = subscribers
            .iter()
            .map(|subscriber| (subscriber.clone(), Key::connections(subscriber)));
        let items = self.batch("connections_of", wanted).await?;
        items
            .into_iter()
            .map(|(subscriber, item)| Ok((subscriber, item::all(item)?)))
            .collect()
    }

    async fn register(&self, registration: &Registration) -> Result<(), RegisterError> {
        register(self, registration, None).await
    }

    async fn reauthorize(&self, reauthorization: &Reauthorization) -> Result<(), ReauthorizeError> {
        reauthorize(self, reauthorization, None).await
    }

    async fn forget(&self, key: &ConnectionKey) -> Result<Option<Connection>, Fault> {
        forget::forget(self, key).await
    }

    async fn raise_gate(
        &self,
        key: &ConnectionKey,
        gate: &str,
        deadline: Timestamp,
    ) -> Result<Result<Connection, Gone>, Fault> {
        gates::raise(self, key, gate, deadline).await
    }

    async fn park(
        &self,
        key: &ConnectionKey,
        saw: Option<&str>,
        references: &[Reference],
    ) -> Result<ParkedOutcome, Fault> {
        gates::park(self, key, saw, references).await
    }

    async fn unpark(
        &self,
        key: &ConnectionKey,
        gate: &str,
        count: usize,
        deadline: Timestamp,
    ) -> Result<Result<Connection, Gone>, Fault> {
        gates::unpark(self, key, gate, count, deadline).await
    }

    async fn lower_gate(
        &self,
        key: &ConnectionKey,
        gate: &str,
        other: Option<&str>,
    ) -> Result<bool, Fault> {
        gates::lower(self, key, gate, other).await
    }

    async fn lower_first_gate(
        &self,
        key: &ConnectionKey,
    ) -> Result<Option<BTreeMap<ConnectionId, Connection>>, Fault> {
        gates::lower_first(self, key).await
    }

    async fn take_gate(
        &self,
        key: &ConnectionKey,
        expired: &BTreeMap<String, Timestamp>,
        gate: (&str, Timestamp),
        references: &[Reference],
    ) -> Result<Option<Connection>, Fault> {
        gates::take(self, key, expired, gate, references).await
    }
}
