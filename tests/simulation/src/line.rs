//! A client's end of a connection, and short ways to name subscribers and channels.

use protocol::{ChannelKey, ConnectionId, Domain, LogId, Subscriber, SubscriberId};
use service::Identity;

/// A client's end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) identity: Identity,
    pub(crate) id: ConnectionId,
}

impl Line {
    pub(crate) fn subscriber(&self) -> &Subscriber {
        &self.identity.subscriber
    }
}

pub(crate) fn subscriber(domain: &str, id: &str) -> Subscriber {
    Subscriber {
        domain: Domain::parse(domain).unwrap(),
        id: SubscriberId::parse(id).unwrap(),
    }
}

pub(crate) fn channel(domain: &str, id: &str) -> LogId {
    LogId::Channel(ChannelKey {
        domain: Domain::parse(domain).unwrap(),
        id: protocol::ChannelId::parse(id).unwrap(),
    })
}
