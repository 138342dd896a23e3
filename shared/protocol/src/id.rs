//! Ids as types. Their parsers accept valid ids only.

use alloc::{borrow::ToOwned, string::String, vec, vec::Vec};
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{error::Rejection, limits};

/// Returns true if `text` is 1–128 characters of `[A-Za-z0-9._~+@:-]`, at least one of them a letter or digit. No id
/// contains `#`, so `#` can separate ids in keys.
///
/// Ids are segments of URLs. URL parsers remove the segments `.` and `..`, also if they are percent-encoded, so a request
/// about such an id would reach another path. Every other segment of these characters stays as it is.
fn is_id(text: &str) -> bool {
    (1..=limits::ID_CHARACTERS).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._~+@:-".contains(&byte))
        && text.bytes().any(|byte| byte.is_ascii_alphanumeric())
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $word:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Parses the id.
            ///
            /// # Errors
            /// `invalid-value` if it is not 1–128 characters of `[A-Za-z0-9._~+@:-]`, or has no letter and no digit.
            pub fn parse(text: &str) -> Result<Self, Rejection> {
                if is_id(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(Rejection::invalid(concat!(
                        "`", $word, "` must be 1 to 128 characters of [A-Za-z0-9._~+@:-], with a letter or digit"
                    )))
                }
            }

            /// Returns the id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// The tenant of a subscriber.
    Domain, "domain";
    /// An end user of a domain. Unique only within the domain.
    SubscriberId, "subscriber-id";
    /// A channel of a domain. Unique only within the domain.
    ChannelId, "channel-id";
    /// A message of one sender to one destination. The client chooses the id, or the service generates it.
    MessageId, "message-id";
}

macro_rules! opaque_ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// Returns the id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

opaque_ids! {
    /// A connection, as API Gateway names it.
    ConnectionId;
    /// A request of API Gateway: one invocation of a function.
    RequestId;
}

/// A subscriber in its domain. The domain is part of every key, so equal ids of two domains never collide.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subscriber {
    pub domain: Domain,
    pub id: SubscriberId,
}

/// A channel in its domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChannelKey {
    pub domain: Domain,
    pub id: ChannelId,
}

impl Domain {
    /// Returns the subscriber with this id in the domain.
    #[must_use]
    pub fn subscriber(&self, id: SubscriberId) -> Subscriber {
        Subscriber {
            domain: self.clone(),
            id,
        }
    }

    /// Returns the channel with this id in the domain.
    #[must_use]
    pub fn channel(&self, id: ChannelId) -> ChannelKey {
        ChannelKey {
            domain: self.clone(),
            id,
        }
    }
}

/// One connection of a subscriber.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionKey {
    pub subscriber: Subscriber,
    pub id: ConnectionId,
}

impl Subscriber {
    /// Returns the subscriber's connection with this id.
    #[must_use]
    pub fn connection(&self, id: ConnectionId) -> ConnectionKey {
        ConnectionKey {
            subscriber: self.clone(),
            id,
        }
    }
}

impl ChannelKey {
    /// Returns the log of the channel.
    #[must_use]
    pub fn log(&self) -> LogId {
        LogId::Channel(self.clone())
    }
}

/// The log of a destination: one sequence of events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogId {
    /// The log of a channel.
    Channel(ChannelKey),
    /// The log of a direct conversation. `low` sorts before `high`, so both sides name the same log.
    Direct {
        domain: Domain,
        low: SubscriberId,
        high: SubscriberId,
    },
}

impl LogId {
    /// Returns the log of the conversation between `subscriber` and `peer`. It is the same in both directions.
    #[must_use]
    pub fn direct(subscriber: &Subscriber, peer: &SubscriberId) -> Self {
        let (low, high) = if subscriber.id <= *peer {
            (&subscriber.id, peer)
        } else {
            (peer, &subscriber.id)
        };
        Self::Direct {
            domain: subscriber.domain.clone(),
            low: low.clone(),
            high: high.clone(),
        }
    }

    /// Returns the log of `destination` as `subscriber` names it.
    #[must_use]
    pub fn of(subscriber: &Subscriber, destination: &Destination) -> Self {
        match destination {
            Destination::Channel(id) => Self::Channel(ChannelKey {
                domain: subscriber.domain.clone(),
                id: id.clone(),
            }),
            Destination::Subscriber(peer) => Self::direct(subscriber, peer),
        }
    }

    /// Returns the destination by which `subscriber`, a participant, names this log.
    #[must_use]
    pub fn destination_for(&self, subscriber: &SubscriberId) -> Destination {
        match self {
            Self::Channel(key) => Destination::Channel(key.id.clone()),
            Self::Direct { low, high, .. } => {
                Destination::Subscriber(if low == subscriber { high } else { low }.clone())
            }
        }
    }

    /// Returns the destinations by which the participants name this log.
    ///
    /// All members of a channel name it alike, so there is one destination, with `None` as subscriber. Each side of a
    /// conversation names it by its peer.
    #[must_use]
    pub fn sides(&self) -> Vec<(Option<SubscriberId>, Destination)> {
        match self {
            Self::Channel(key) => vec![(None, Destination::Channel(key.id.clone()))],
            Self::Direct { low, high, .. } => [(low, high), (high, low)]
                .map(|(side, peer)| (Some(side.clone()), Destination::Subscriber(peer.clone())))
                .into(),
        }
    }

    /// Returns the domain of the log.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        match self {
            Self::Channel(key) => &key.domain,
            Self::Direct { domain, .. } => domain,
        }
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(key) => write!(f, "{}#{}", key.domain, key.id),
            Self::Direct { domain, low, high } => write!(f, "{domain}##{low}#{high}"),
        }
    }
}

/// The destination of a client's message: exactly one of `channel-id` and `subscriber-id` on the wire.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Destination {
    #[serde(rename = "channel-id")]
    Channel(ChannelId),
    /// The direct conversation with this peer.
    #[serde(rename = "subscriber-id")]
    Subscriber(SubscriberId),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(id) => id.fmt(f),
            Self::Subscriber(id) => id.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn id_length_and_alphabet_are_checked() {
        assert!(ChannelId::parse("a.Z-0_~+@:").is_ok());
        assert!(ChannelId::parse(&"x".repeat(128)).is_ok());
        for bad in ["", "a b", "a#b", "é", "a/b", &"x".repeat(129)] {
            assert!(ChannelId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn id_without_alphanumeric_is_refused() {
        for bad in [".", "..", "...", "-", "~", "+", "@:", "._~+@:-"] {
            assert!(Domain::parse(bad).is_err(), "{bad}");
            assert!(SubscriberId::parse(bad).is_err(), "{bad}");
            assert!(ChannelId::parse(bad).is_err(), "{bad}");
            assert!(MessageId::parse(bad).is_err(), "{bad}");
            let stored = alloc::format!("\"{bad}\"");
            assert!(serde_json::from_str::<ChannelId>(&stored).is_err(), "{bad}");
        }
        for good in ["a", "0", "..a", "a..", ".0.", "-Z"] {
            assert!(ChannelId::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn both_peers_share_one_log() {
        let subscriber = |id: &str| Subscriber {
            domain: Domain::parse("d").unwrap(),
            id: SubscriberId::parse(id).unwrap(),
        };
        let (a, b) = (subscriber("a"), subscriber("b"));
        let log = LogId::direct(&a, &b.id);
        assert_eq!(log, LogId::direct(&b, &a.id));
        assert_eq!(log.to_string(), "d##a#b");
        assert_eq!(log.destination_for(&a.id), Destination::Subscriber(b.id));
    }
}
