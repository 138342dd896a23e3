//! The item of a session.

use protocol::{ConnectionId, Domain, Subscriber, SubscriberId, Timestamp, limits};
use serde::{Deserialize, Serialize};
use service::{
    Identity,
    ports::{Closing, Framing, Jti, Lease, Minute, Session, TokenHash},
};

use crate::items::millis;

/// How long the item is kept: one day longer than the longest session, so that a late reader still finds it.
const KEPT_SECONDS: i64 = limits::CONNECTION_SECONDS + 24 * 60 * 60;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct SessionItem {
    incarnation: String,
    domain: Domain,
    subscriber: SubscriberId,
    token: TokenHash,
    #[serde(with = "millis")]
    token_expires: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<Jti>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    closing: Option<ClosingItem>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<LeaseItem>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sender: Option<LeaseItem>,
    #[serde(with = "millis")]
    alive_until: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    doorbell: Option<ConnectionId>,
    outbox: Vec<String>,
    outbox_bytes: usize,
    removed: u64,
    /// The minute in which the expiry run checks if the session is dead.
    due_minute: i64,
    ttl: i64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ClosingItem {
    code: u16,
    reason: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct LeaseItem {
    holder: String,
    #[serde(with = "millis")]
    until: Timestamp,
}

impl SessionItem {
    pub(super) fn new(session: &Session, now: Timestamp) -> Self {
        let Identity {
            subscriber,
            token,
            token_expires,
            jti,
            ..
        } = &session.identity;
        Self {
            incarnation: session.incarnation.clone(),
            domain: subscriber.domain.clone(),
            subscriber: subscriber.id.clone(),
            token: token.clone(),
            token_expires: *token_expires,
            jti: jti.clone(),
            closing: session.closing.as_ref().map(ClosingItem::new),
            lease: session.lease.as_ref().map(LeaseItem::new),
            sender: session.sender.as_ref().map(LeaseItem::new),
            alive_until: session.alive_until,
            doorbell: session.doorbell.clone(),
            outbox: session.outbox.clone(),
            outbox_bytes: session.outbox.iter().map(String::len).sum(),
            removed: session.removed,
            due_minute: Minute::of(session.alive_until).number(),
            ttl: now.plus_seconds(KEPT_SECONDS).seconds_up(),
        }
    }
}

impl ClosingItem {
    pub(super) fn new(closing: &Closing) -> Self {
        Self {
            code: closing.code,
            reason: closing.reason.clone(),
        }
    }
}

impl LeaseItem {
    pub(super) fn new(lease: &Lease) -> Self {
        Self {
            holder: lease.holder.clone(),
            until: lease.until,
        }
    }
}

impl From<LeaseItem> for Lease {
    fn from(item: LeaseItem) -> Self {
        Self {
            holder: item.holder,
            until: item.until,
        }
    }
}

impl From<SessionItem> for Session {
    fn from(item: SessionItem) -> Self {
        Self {
            incarnation: item.incarnation,
            identity: Identity {
                subscriber: Subscriber {
                    domain: item.domain,
                    id: item.subscriber,
                },
                token: item.token,
                token_expires: item.token_expires,
                jti: item.jti,
                framing: Framing::Session,
            },
            closing: item.closing.map(|it| Closing {
                code: it.code,
                reason: it.reason,
            }),
            lease: item.lease.map(Lease::from),
            sender: item.sender.map(Lease::from),
            alive_until: item.alive_until,
            doorbell: item.doorbell,
            outbox: item.outbox,
            removed: item.removed,
        }
    }
}
