//! The open connections of a subscriber: one item, an attribute for each, so that the first needs nothing to be there.
//!
//! # Cost
//!
//! Units of the item are per KiB written and per 4 KiB read; it has at most 20 entries of about 150 bytes, more while
//! something is parked.
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
mod item;
mod reauthorize;
mod register;

use std::collections::BTreeMap;

use protocol::{ConnectionId, Subscriber, Timestamp};
use service::ports::{
    Connection, Connections, Fault, Gone, ParkedOutcome, Reauthorization, ReauthorizeError,
    Reference, RegisterError, Registration,
};

use crate::{DynamoStore, keys::Key, write::Write};

pub(crate) use reauthorize::reauthorize;
pub(crate) use register::register;

const WHAT: &str = "connections";

/// An update of a subscriber's item, which spells the attribute of one connection `#id`.
pub(crate) fn update(
    subscriber: &Subscriber,
    id: &ConnectionId,
    expression: impl Into<String>,
) -> Write {
    Write::update(Key::connections(subscriber), expression).name("#id", item::attribute(id))
}

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

    async fn forget(
        &self,
        subscriber: &Subscriber,
        id: &ConnectionId,
    ) -> Result<Option<Connection>, Fault> {
        forget::forget(self, subscriber, id).await
    }

    async fn raise_gate(
        &self,
        subscriber: &Subscriber,
        id: &ConnectionId,
        gate: &str,
        deadline: Timestamp,
    ) -> Result<Result<Connection, Gone>, Fault> {
        gates::raise(self, subscriber, id, gate, deadline).await
    }

    async fn park(
        &self,
        subscriber: &Subscriber,
        id: &ConnectionId,
        saw: Option<&str>,
        references: &[Reference],
    ) -> Result<ParkedOutcome, Fault> {
        gates::park(self, subscriber, id, saw, references).await
    }

    async fn unpark(
        &self,
        subscriber: &Subscriber,
        id: &ConnectionId,
        gate: &str,
        count: usize,
        deadline: Timestamp,
    ) -> Result<Result<Connection, Gone>, Fault> {
        gates::unpark(self, subscriber, id, gate, count, deadline).await
    }

    async fn lower_gate(
        &self,
        subscriber: &Subscriber,
        id: &ConnectionId,
        gate: &str,
        other: Option<&str>,
    ) -> Result<bool, Fault> {
        gates::lower(self, subscriber, id, gate, other).await
    }

    async fn lower_first_gate(
        &self,
        subscriber: &Subscriber,
        id: &ConnectionId,
    ) -> Result<Option<BTreeMap<ConnectionId, Connection>>, Fault> {
        gates::lower_first(self, subscriber, id).await
    }

    async fn take_gate(
        &self,
        subscriber: &Subscriber,
        id: &ConnectionId,
        expired: &BTreeMap<String, Timestamp>,
        gate: (&str, Timestamp),
        references: &[Reference],
    ) -> Result<Option<Connection>, Fault> {
        gates::take(self, subscriber, id, expired, gate, references).await
    }
}
