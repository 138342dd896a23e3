//! The storage ports over DynamoDB.
//!
//! The table lists every access pattern with its requests and its cost in capacity units, for items that fit into one
//! unit. A write unit is 1 KiB, a strongly consistent read unit is 4 KiB, and a transaction doubles its writes. The
//! modules' `# Cost` sections give the cost of larger items and of failed conditions. `tests/tests/units.rs` asserts the
//! figures.
//!
//! | pattern | requests | write | read |
//! |---|---|---|---|
//! | `put_token` | 2 PutItem | 3 | |
//! | `token`, `has_token_connection` | GetItem | | 1 |
//! | `invalidate_token` | UpdateItem | 3 | |
//! | `settle_token` | UpdateItem | 2 | |
//! | `tokens_of`, `token_connections` | Query | | 1 |
//! | `forget_token_connection` | DeleteItem | 2 | |
//! | `ending` | Query of the index | | 0.5 |
//! | `expiry_checkpoint` | GetItem | | 1 |
//! | `set_expiry_checkpoint` | PutItem | 1 | |
//! | `register` | TransactWriteItems | 7 | |
//! | `reauthorize` | TransactWriteItems | 10 | |
//! | `register_signed` | TransactWriteItems | 14 | |
//! | `reauthorize_signed` | TransactWriteItems | 17 | |
//! | `refuse_signed` | PutItem | 2, after its use 3 | |
//! | `refuse_jti` | PutItem | 1 | |
//! | `is_jti_refused` | GetItem | | 1 |
//! | `tokens_with_jti` | Query | | 1 |
//! | `connections` | GetItem | | 1 |
//! | `connections_of` | BatchGetItem | | 1 each |
//! | `raise_gate`, `park`, `unpark`, `lower_gate`, `lower_first_gate`, `take_gate` | UpdateItem | 1 | |
//! | `forget` | UpdateItem | 1 | |
//! | `forget`, announced | UpdateItem, TransactWriteItems | 5 | |
//! | `presence` | GetItem | | 1 |
//! | `presences` | BatchGetItem | | 1 each |
//! | `announce` | UpdateItem | 1 | |
//! | `announce`, a connection's first | UpdateItem, TransactWriteItems | 5 | |
//! | `unannounce` | GetItem, TransactWriteItems | 4 | 1 |
//! | `lease_presence`, `release_presence` | UpdateItem | 1 | |
//! | `profile`, `roster`, `member`, `invitation` | GetItem | | 1 |
//! | `profiles`, `rosters`, `member_of` | BatchGetItem | | 1 each |
//! | `members`, `receivers`, `seniors`, `memberships`, `conversations`, `invitations`, `count_memberships` | Query | | 1 |
//! | `change`, a new channel | TransactWriteItems | 17 | |
//! | `change`, a member joins | TransactWriteItems | 12 | |
//! | `change`, a member leaves | TransactWriteItems | 12 | |
//! | `change`, an invitation | TransactWriteItems | 6 | |
//! | `change`, a role | TransactWriteItems | 2 | |
//! | `raise_read_cursor`, `raise_direct_read_cursor` | UpdateItem | 1 | |
//! | `head` | GetItem | | 1 |
//! | `heads` | BatchGetItem | | 1 each |
//! | `allocate` | UpdateItem | 1, after a drain 2 | |
//! | `create_direct` | 3 PutItem | 3 | |
//! | `renew`, `release`, `take_lease` | UpdateItem | 1 | |
//! | `settle` | UpdateItem | 2 | |
//! | `undrained` | Query of the index | | 0.5 |
//! | `set_idempotency_record`, `replace_idempotency_record` | PutItem | 1 | |
//! | `idempotency_record` | GetItem | | 1 |
//! | `put_entry` | PutItem | 1 per KiB | |
//! | `entry` | GetItem | | 1 per 4 KiB |
//! | `entries_after`, `entries_before` | Query | | 1 per 4 KiB |
//! | `session` | GetItem | | 1 |
//! | `begin_session` | PutItem | 2 | |
//! | `attach`, `hold_session`, `release_session`, `push_to_session`, `close_session`, `set_doorbell` | UpdateItem | 1 | |
//! | `begin_sending`, `end_sending` | UpdateItem | 1 | |
//! | `due_sessions` | Query of the index | | 0.5 |
//! | `postpone_session` | UpdateItem | 3 | |
//! | `forget_session` | DeleteItem | 2 | |

mod signed;
mod tokens;

mod connections;
mod presence;

mod channels;
mod logs;

mod sessions;

mod client;
mod collections;
mod fault;
mod items;
mod keys;
mod read_cursor;
mod requests;
mod write;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use signing::SigningClient;

use client::Client;
use keys::{Item, Table};

/// The names of the tables. A name is empty if the function does not use the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Tokens and the connections that they authorize.
    pub tokens: String,
    /// Connections, presence, memberships, conversations and invitations of each subscriber.
    pub subscribers: String,
    /// Profile, roster and members of each channel, and the heads of all logs.
    pub channels: String,
    /// The events of all logs, and the idempotency records of messages.
    pub events: String,
    /// SockJS sessions over HTTP.
    pub sessions: String,
}

impl Tables {
    /// Reads the names of all tables from `variable`.
    ///
    /// # Errors
    /// Returns the error of `variable` if a name is missing.
    pub fn all<E>(variable: impl Fn(&'static str) -> Result<String, E>) -> Result<Self, E> {
        Ok(Self {
            tokens: variable("TOKENS_TABLE")?,
            subscribers: variable("SUBSCRIBERS_TABLE")?,
            channels: variable("CHANNELS_TABLE")?,
            events: variable("EVENTS_TABLE")?,
            sessions: variable("SESSIONS_TABLE")?,
        })
    }
}

/// Called after each request with its access pattern and the capacity units it consumed.
pub type Meter = Arc<dyn Fn(&'static str, f64) + Send + Sync>;

/// The DynamoDB adapter of all storage ports. Cheap to clone.
#[derive(Clone)]
pub struct DynamoStore {
    client: Client,
    tables: Arc<Tables>,
    meter: Option<Meter>,
}

impl DynamoStore {
    /// Creates a store over the DynamoDB tables `tables` at `endpoint`.
    #[must_use]
    pub fn new(client: SigningClient, endpoint: String, tables: Tables) -> Self {
        Self {
            client: Client::new(client, endpoint),
            tables: Arc::new(tables),
            meter: None,
        }
    }

    /// Reports the consumed capacity of each request to `meter`. A request whose condition failed is billed but not
    /// reported, because DynamoDB does not return its consumption.
    #[must_use]
    pub fn with_meter(self, meter: Meter) -> Self {
        Self {
            meter: Some(meter),
            ..self
        }
    }

    fn table(&self, table: Table) -> &str {
        match table {
            Table::Tokens => &self.tables.tokens,
            Table::Subscribers => &self.tables.subscribers,
            Table::Channels => &self.tables.channels,
            Table::Events => &self.tables.events,
            Table::Sessions => &self.tables.sessions,
        }
    }

    /// Requests ask for their consumed capacity only if a meter is set.
    fn measured(&self) -> Option<ReturnConsumedCapacity> {
        self.meter.as_ref().map(|_| ReturnConsumedCapacity::Total)
    }

    /// Returns true if the item's time to live is not past. DynamoDB deletes expired items only within days, so readers
    /// treat them as absent.
    fn is_live(&self, item: &Item) -> bool {
        item.get("ttl")
            .and_then(|ttl| ttl.as_n().ok())
            .and_then(|ttl| ttl.parse::<i64>().ok())
            .is_none_or(|ttl| seconds_now() < ttl)
    }
}

/// Returns the seconds since the epoch, the unit of `ttl` attributes.
fn seconds_now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|it| i64::try_from(it.as_secs()).ok())
        .unwrap_or(0)
}
