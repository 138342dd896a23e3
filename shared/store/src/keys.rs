//! Keys of items. Only this module formats or splits them. No id contains `#`, so it separates the parts of a key.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use protocol::{
    ChannelId, ChannelKey, ConnectionId, Domain, LogId, MessageId, Subscriber, SubscriberId,
};
use service::ports::{Ending, Jti, SHARDS, SessionKey, TokenHash};

/// The attributes of an item.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// One of the five tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    Tokens,
    Subscribers,
    Channels,
    Events,
    Sessions,
}

impl Table {
    /// Returns the names of the partition and sort key attributes, as in template.yaml.
    pub(crate) const fn attributes(self) -> (&'static str, &'static str) {
        match self {
            Self::Tokens => ("token", "item"),
            Self::Subscribers => ("subscriber", "item"),
            Self::Channels => ("channel", "item"),
            Self::Events => ("channel", "sequence"),
            Self::Sessions => ("session", "item"),
        }
    }
}

/// A sort key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sort {
    Text(String),
    Number(u64),
}

/// The key of one item, with its table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) table: Table,
    partition: String,
    sort: Sort,
}

impl Key {
    pub(crate) fn token(hash: &TokenHash) -> Self {
        Self::text(Table::Tokens, hash.as_str().to_owned(), "token".to_owned())
    }

    pub(crate) fn token_connection(hash: &TokenHash, connection: &ConnectionId) -> Self {
        Collection::token_connections(hash).at(connection.as_str())
    }

    /// The one checkpoint of expiry runs. No token hash equals `expiry`.
    pub(crate) fn expiry_checkpoint() -> Self {
        Self::text(Table::Tokens, "expiry".to_owned(), "checkpoint".to_owned())
    }

    /// Returns the key of the token or token connection that ends.
    pub(crate) fn ending(ending: &Ending) -> Self {
        match &ending.connection {
            Some(connection) => Self::token_connection(&ending.token, connection),
            None => Self::token(&ending.token),
        }
    }

    /// The item that exists if a `jti` was invalidated.
    pub(crate) fn refused_jti(jti: &Jti) -> Self {
        Self::text(Table::Tokens, self::jti(jti), "refused".to_owned())
    }

    pub(crate) fn jti_token(jti: &Jti, hash: &TokenHash) -> Self {
        Collection::tokens_with_jti(jti).at(hash.as_str())
    }

    pub(crate) fn subscriber_token(subscriber: &Subscriber, hash: &TokenHash) -> Self {
        Collection::tokens_of(subscriber).at(hash.as_str())
    }

    pub(crate) fn connections(of: &Subscriber) -> Self {
        Self::text(Table::Subscribers, subscriber(of), "connections".to_owned())
    }

    pub(crate) fn presence(of: &Subscriber) -> Self {
        Self::text(Table::Subscribers, subscriber(of), "presence".to_owned())
    }

    pub(crate) fn membership(subscriber: &Subscriber, channel: &ChannelId) -> Self {
        Collection::memberships(subscriber).at(channel.as_str())
    }

    pub(crate) fn former_membership(subscriber: &Subscriber, channel: &ChannelId) -> Self {
        Collection::former_memberships(subscriber).at(channel.as_str())
    }

    pub(crate) fn conversation(subscriber: &Subscriber, peer: &SubscriberId) -> Self {
        Collection::conversations(subscriber).at(peer.as_str())
    }

    pub(crate) fn invitation(subscriber: &Subscriber, channel: &ChannelId) -> Self {
        Collection::invitations(subscriber).at(channel.as_str())
    }

    pub(crate) fn head(log: &LogId) -> Self {
        Self::text(Table::Channels, log.to_string(), "head".to_owned())
    }

    pub(crate) fn profile(channel: &ChannelKey) -> Self {
        Self::text(
            Table::Channels,
            self::channel(channel),
            "profile".to_owned(),
        )
    }

    pub(crate) fn roster(channel: &ChannelKey) -> Self {
        Self::text(Table::Channels, self::channel(channel), "roster".to_owned())
    }

    pub(crate) fn member(channel: &ChannelKey, subscriber: &SubscriberId) -> Self {
        Collection::members(channel).at(subscriber.as_str())
    }

    pub(crate) fn seniority(channel: &ChannelKey, joined: u64, subscriber: &SubscriberId) -> Self {
        Collection::seniors(channel).at(&format!("{joined:016}#{subscriber}"))
    }

    pub(crate) fn event(log: &LogId, sequence: u64) -> Self {
        Self {
            table: Table::Events,
            partition: log.to_string(),
            sort: Sort::Number(sequence),
        }
    }

    pub(crate) fn idempotency_record(
        log: &LogId,
        sender: &SubscriberId,
        message: &MessageId,
    ) -> Self {
        Self {
            table: Table::Events,
            partition: format!("{log}#message-id#{sender}#{message}"),
            sort: Sort::Number(0),
        }
    }

    pub(crate) fn session(key: &SessionKey) -> Self {
        Self::text(
            Table::Sessions,
            key.as_str().to_owned(),
            "session".to_owned(),
        )
    }

    const fn text(table: Table, partition: String, item: String) -> Self {
        Self {
            table,
            partition,
            sort: Sort::Text(item),
        }
    }

    /// Returns the key as attributes.
    pub(crate) fn attributes(&self) -> Item {
        let (partition, sort) = self.table.attributes();
        let value = match &self.sort {
            Sort::Text(text) => AttributeValue::S(text.clone()),
            Sort::Number(number) => AttributeValue::N(number.to_string()),
        };
        Item::from([
            (
                partition.to_owned(),
                AttributeValue::S(self.partition.clone()),
            ),
            (sort.to_owned(), value),
        ])
    }

    /// Returns the key of `item` in `table`.
    pub(crate) fn of(table: Table, item: &Item) -> Option<Self> {
        let (partition, sort) = table.attributes();
        let sort = match item.get(sort)? {
            AttributeValue::S(text) => Sort::Text(text.clone()),
            AttributeValue::N(number) => Sort::Number(number.parse().ok()?),
            _ => return None,
        };
        let partition = item.get(partition)?.as_s().ok()?.clone();
        Some(Self {
            table,
            partition,
            sort,
        })
    }
}

/// The items of one partition whose sort keys are `prefix` followed by a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Collection {
    pub(crate) table: Table,
    pub(crate) partition: String,
    pub(crate) prefix: &'static str,
    /// The attributes to read. `None` reads all.
    pub(crate) projection: Option<&'static str>,
}

impl Collection {
    pub(crate) fn token_connections(hash: &TokenHash) -> Self {
        Self::new(Table::Tokens, hash.as_str().to_owned(), "connection#")
    }

    pub(crate) fn tokens_with_jti(jti: &Jti) -> Self {
        Self::new(Table::Tokens, self::jti(jti), "token#")
    }

    pub(crate) fn tokens_of(subscriber: &Subscriber) -> Self {
        Self::of_subscriber(subscriber, "token#")
    }

    pub(crate) fn memberships(subscriber: &Subscriber) -> Self {
        Self::of_subscriber(subscriber, "channel#")
    }

    pub(crate) fn former_memberships(subscriber: &Subscriber) -> Self {
        Self::of_subscriber(subscriber, "left#")
    }

    pub(crate) fn conversations(subscriber: &Subscriber) -> Self {
        Self::of_subscriber(subscriber, "conversation#")
    }

    pub(crate) fn invitations(subscriber: &Subscriber) -> Self {
        Self::of_subscriber(subscriber, "invitation#")
    }

    pub(crate) fn members(channel: &ChannelKey) -> Self {
        Self::of_channel(channel, "subscriber#")
    }

    /// The members in the order of joining. Sequences in these keys are zero-padded, so that they sort as numbers.
    pub(crate) fn seniors(channel: &ChannelKey) -> Self {
        Self::of_channel(channel, "joined#")
    }

    fn of_subscriber(of: &Subscriber, prefix: &'static str) -> Self {
        Self::new(Table::Subscribers, subscriber(of), prefix)
    }

    fn of_channel(of: &ChannelKey, prefix: &'static str) -> Self {
        Self::new(Table::Channels, channel(of), prefix)
    }

    const fn new(table: Table, partition: String, prefix: &'static str) -> Self {
        Self {
            table,
            partition,
            prefix,
            projection: None,
        }
    }

    /// Reads only the attributes in `projection`, which must include the sort key and `ttl`.
    pub(crate) const fn only(mut self, projection: &'static str) -> Self {
        self.projection = Some(projection);
        self
    }

    /// Returns the key of the item called `name`.
    pub(crate) fn at(&self, name: &str) -> Key {
        let Self {
            table,
            partition,
            prefix,
            ..
        } = self;
        Key::text(*table, partition.clone(), format!("{prefix}{name}"))
    }

    /// Returns the name in the sort key of `item`.
    pub(crate) fn name<'a>(&self, item: &'a Item) -> Option<&'a str> {
        let text = item.get(self.table.attributes().1)?.as_s().ok()?;
        text.strip_prefix(self.prefix)
    }
}

/// Returns the subscriber in a name of [`Collection::seniors`].
pub(crate) fn senior(name: &str) -> Option<SubscriberId> {
    let (_, id) = name.split_once('#')?;
    SubscriberId::parse(id).ok()
}

/// Returns the token or token connection that the key of `item` names.
pub(crate) fn ending(item: &Item) -> Option<Ending> {
    let (partition, sort) = Table::Tokens.attributes();
    let token = TokenHash::from_stored(item.get(partition)?.as_s().ok()?.clone());
    let connection = match item.get(sort)?.as_s().ok()?.as_str() {
        "token" => None,
        _ => {
            let name = Collection::token_connections(&token).name(item)?;
            Some(ConnectionId(name.to_owned()))
        }
    };
    Some(Ending { token, connection })
}

/// Returns the log that the partition key of a head names.
pub(crate) fn log(partition: &str) -> Option<LogId> {
    let parts: Vec<&str> = partition.split('#').collect();
    match parts.as_slice() {
        [domain, channel] => Some(LogId::Channel(ChannelKey {
            domain: Domain::parse(domain).ok()?,
            id: ChannelId::parse(channel).ok()?,
        })),
        [domain, "", low, high] => Some(LogId::Direct {
            domain: Domain::parse(domain).ok()?,
            low: SubscriberId::parse(low).ok()?,
            high: SubscriberId::parse(high).ok()?,
        }),
        _ => None,
    }
}

/// Returns the log's shard in the index of undrained logs: FNV-1a of the log's key, modulo the number of shards.
pub(crate) fn shard(log: &LogId) -> u32 {
    let hash = log.to_string().bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash % SHARDS
}

/// The partition of a `jti`. No token hash contains a `#`, so it differs from every token's partition.
fn jti(jti: &Jti) -> String {
    format!("jti#{}", jti.as_str())
}

fn subscriber(of: &Subscriber) -> String {
    format!("{}#{}", of.domain, of.id)
}

fn channel(of: &ChannelKey) -> String {
    format!("{}#{}", of.domain, of.id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id() -> impl Strategy<Value = String> {
        "[._~+@:-]{0,9}[A-Za-z0-9][A-Za-z0-9._~+@:-]{0,118}"
    }

    fn any_log() -> impl Strategy<Value = LogId> {
        (id(), id(), id(), any::<bool>()).prop_map(|(domain, one, other, direct)| {
            let domain = Domain::parse(&domain).unwrap();
            if direct {
                let id = SubscriberId::parse(&one).unwrap();
                LogId::direct(
                    &Subscriber { domain, id },
                    &SubscriberId::parse(&other).unwrap(),
                )
            } else {
                let id = ChannelId::parse(&one).unwrap();
                LogId::Channel(ChannelKey { domain, id })
            }
        })
    }

    proptest! {
        #[test]
        fn log_key_round_trips(log in any_log()) {
            prop_assert_eq!(super::log(&log.to_string()), Some(log.clone()));
            prop_assert!(shard(&log) < SHARDS);
        }

        #[test]
        fn distinct_logs_have_distinct_keys(one in any_log(), other in any_log()) {
            prop_assume!(one != other);
            prop_assert_ne!(Key::head(&one), Key::head(&other));
        }

        #[test]
        fn key_attributes_round_trip(log in any_log(), sequence in 0..1_u64 << 53, sender in id(), message in id()) {
            let sender = SubscriberId::parse(&sender).unwrap();
            let message = MessageId::parse(&message).unwrap();
            let event = Key::event(&log, sequence);
            let record = Key::idempotency_record(&log, &sender, &message);
            for key in [Key::head(&log), event.clone(), record.clone()] {
                prop_assert_eq!(Key::of(key.table, &key.attributes()), Some(key));
            }
            prop_assert_ne!(event.partition, record.partition.clone());
            prop_assert_eq!(super::log(&record.partition), None);
        }

        #[test]
        fn ending_key_round_trips(token in "[0-9a-f]{64}", connection in proptest::option::of("[A-Za-z0-9_=#-]{1,20}")) {
            let connection = connection.map(ConnectionId);
            let expected = Ending { token: TokenHash::from_stored(token), connection };
            let key = Key::ending(&expected);
            prop_assert_eq!(ending(&key.attributes()), Some(expected));
            prop_assert_ne!(key, Key::expiry_checkpoint());
        }

        #[test]
        fn collection_name_round_trips(domain in id(), subscriber in id(), name in id()) {
            let subscriber = Subscriber {
                domain: Domain::parse(&domain).unwrap(),
                id: SubscriberId::parse(&subscriber).unwrap(),
            };
            let channel = ChannelId::parse(&name).unwrap();
            let peer = SubscriberId::parse(&name).unwrap();
            for (collection, key) in [
                (Collection::memberships(&subscriber), Key::membership(&subscriber, &channel)),
                (Collection::invitations(&subscriber), Key::invitation(&subscriber, &channel)),
                (Collection::conversations(&subscriber), Key::conversation(&subscriber, &peer)),
            ] {
                let attributes = key.attributes();
                prop_assert_eq!(collection.name(&attributes), Some(name.as_str()));
            }
        }

        #[test]
        fn seniority_keys_sort_by_join_order(one in 0..1_u64 << 53, other in 0..1_u64 << 53, a in id(), b in id()) {
            let channel = ChannelKey { domain: Domain::parse("d").unwrap(), id: ChannelId::parse("c").unwrap() };
            let (a, b) = (SubscriberId::parse(&a).unwrap(), SubscriberId::parse(&b).unwrap());
            let (first, second) = (Key::seniority(&channel, one, &a), Key::seniority(&channel, other, &b));
            prop_assert_eq!(first.cmp(&second), (one, a.as_str()).cmp(&(other, b.as_str())));
            let attributes = first.attributes();
            let name = Collection::seniors(&channel).name(&attributes).unwrap();
            prop_assert_eq!(senior(name), Some(a));
        }
    }
}
