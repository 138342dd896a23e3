//! SockJS sessions over HTTP. Each session is one item that contains its outbox as a list. A push is therefore one
//! conditional update, which is atomic and keeps the order.
//!
//! # Cost
//!
//! Units are per KiB of the item before or after the write, whichever is larger. An item has about 500 bytes and the
//! messages in the outbox.
//!
//! | pattern | requests | units |
//! |---|---|---|
//! | `session` | GetItem | 1 read per 4 KiB |
//! | `begin_session` | PutItem | 1 write, and 1 for the index; 2 if the index's key moves |
//! | `attach`, `hold_session`, `release_session` | UpdateItem | 1 write per KiB, also if the condition fails |
//! | `begin_sending`, `end_sending` | UpdateItem | the same |
//! | `push_to_session`, `close_session`, `set_doorbell` | UpdateItem | the same |
//! | `due_sessions` | Query of the index, eventually consistent | half a read per 4 KiB, about 30 sessions |
//! | `postpone_session` | UpdateItem | 1 write, and 2 for the index, whose key moves |
//! | `forget_session` | DeleteItem | 1 write, and 1 for the index |

mod due;
mod item;
mod outbox;
mod receiver;
mod sender;

use aws_sdk_dynamodb::types::ReturnValue;
use protocol::{ConnectionId, Timestamp};
use service::ports::{
    Attached, Closing, Doorbell, Fault, Hold, Lease, Minute, Page, Pushed, Session, SessionId,
    SessionKey, Sessions,
};

use self::item::SessionItem;
use crate::{
    DynamoStore,
    client::Repeat,
    keys::{Item, Key},
    requests::{Written, decode},
    write::{Write, number},
};

const WHAT: &str = "a session";

impl Sessions for DynamoStore {
    async fn session(&self, key: &SessionKey) -> Result<Option<Session>, Fault> {
        let item: Option<SessionItem> = self.get("session", &Key::session(key), WHAT).await?;
        Ok(item.map(Session::from))
    }

    async fn begin_session(
        &self,
        key: &SessionKey,
        session: &Session,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        let item = SessionItem::new(session, now);
        let write = Write::put(Key::session(key), &item)?
            .when("attribute_not_exists(#session) OR #alive_until <= :now")
            .value(":now", number(now.millis()));
        let written = self
            .write("begin_session", &write, ReturnValue::None, Repeat::Safe)
            .await?;
        match written {
            Written::Done(_) => Ok(true),
            Written::Stood(stood) => {
                let stood = stood.map(session_of).transpose()?;
                Ok(stood.is_some_and(|it| it.incarnation == session.incarnation))
            }
        }
    }

    async fn attach(
        &self,
        key: &SessionKey,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<Attached, Fault> {
        receiver::attach(self, key, lease, now).await
    }

    async fn hold_session(&self, key: &SessionKey, hold: &Hold) -> Result<Option<Session>, Fault> {
        receiver::hold(self, key, hold).await
    }

    async fn release_session(&self, key: &SessionKey, hold: &Hold) -> Result<bool, Fault> {
        receiver::release(self, key, hold).await
    }

    async fn begin_sending(
        &self,
        key: &SessionKey,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<Attached, Fault> {
        sender::begin(self, key, lease, now).await
    }

    async fn end_sending(&self, key: &SessionKey, holder: &str) -> Result<(), Fault> {
        sender::end(self, key, holder).await
    }

    async fn push_to_session(
        &self,
        id: &SessionId,
        messages: &[&str],
        now: Timestamp,
    ) -> Result<Pushed, Fault> {
        outbox::push(self, id, messages, now).await
    }

    async fn close_session(
        &self,
        id: &SessionId,
        closing: &Closing,
        now: Timestamp,
    ) -> Result<Option<ConnectionId>, Fault> {
        outbox::close(self, id, closing, now).await
    }

    async fn set_doorbell(&self, doorbell: &Doorbell) -> Result<bool, Fault> {
        receiver::set_doorbell(self, doorbell).await
    }

    async fn due_sessions(
        &self,
        minute: Minute,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> Result<Page<SessionKey>, Fault> {
        due::due(self, minute, after, limit).await
    }

    async fn postpone_session(&self, id: &SessionId, minute: Minute) -> Result<(), Fault> {
        due::postpone(self, id, minute).await
    }

    async fn forget_session(&self, id: &SessionId, now: Timestamp) -> Result<(), Fault> {
        due::forget(self, id, now).await
    }
}

/// Returns the result of taking a lease.
fn attached(store: &DynamoStore, written: Written) -> Result<Attached, Fault> {
    match written {
        Written::Done(item) => session_of(item).map(Attached::Held),
        Written::Stood(Some(item)) if store.is_live(&item) => {
            session_of(item).map(Attached::Stands)
        }
        Written::Stood(_) => Ok(Attached::Absent),
    }
}

fn session_of(item: Item) -> Result<Session, Fault> {
    decode::<SessionItem>(item, WHAT).map(Session::from)
}
