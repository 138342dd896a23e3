//! SockJS sessions over HTTP.

use protocol::{ConnectionId, Timestamp};
use service::ports::{
    Attached, Closing, Doorbell, Fault, Hold, LINGER, Lease, Minute, OUTBOX_BYTES, OUTBOX_MESSAGES,
    Page, Pushed, Session, SessionId, SessionKey, Sessions,
};

use super::{Memory, beyond, page, state::State};

impl Sessions for Memory {
    async fn session(&self, key: &SessionKey) -> Result<Option<Session>, Fault> {
        self.read("session", |state, _| state.sessions.get(key).cloned())
            .await
    }

    async fn begin_session(
        &self,
        key: &SessionKey,
        session: &Session,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        self.write("begin_session", |state, _| {
            match state.sessions.get(key).filter(|it| it.is_alive(now)) {
                Some(other) => other.incarnation == session.incarnation,
                None => {
                    state.set_due(key, Some(Minute::of(session.alive_until)));
                    state.sessions.insert(key.clone(), session.clone());
                    true
                }
            }
        })
        .await
    }

    async fn attach(
        &self,
        key: &SessionKey,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<Attached, Fault> {
        self.write("attach", |state, _| {
            let Some(session) = state.sessions.get_mut(key) else {
                return Attached::Absent;
            };
            let other = session.lease.as_ref();
            let held = other.is_some_and(|it| now < it.until && it.holder != lease.holder);
            if held || !session.is_alive(now) {
                return Attached::Stands(session.clone());
            }
            session.lease = Some(lease.clone());
            session.alive_until = lease.until.plus(LINGER);
            session.doorbell = None;
            Attached::Held(session.clone())
        })
        .await
    }

    async fn hold_session(&self, key: &SessionKey, hold: &Hold) -> Result<Option<Session>, Fault> {
        self.write("hold_session", |state, _| {
            let session = held_by(state, key, hold)?;
            // The hold was applied before, and only the answer was lost.
            if session.removed == hold.seen {
                take(session, hold);
            } else if session.removed != after(hold) {
                return None;
            }
            if let Some(lease) = &mut session.lease {
                lease.until = hold.until;
            }
            session.alive_until = hold.until.plus(LINGER);
            Some(session.clone())
        })
        .await
    }

    async fn release_session(&self, key: &SessionKey, hold: &Hold) -> Result<bool, Fault> {
        self.write("release_session", |state, _| {
            let noted = |it: &&mut Session| hold.written > 0 && it.removed == after(hold);
            let held = |it: &&mut Session| it.removed == hold.seen || noted(it);
            if let Some(session) = held_by(state, key, hold).filter(held) {
                // The written messages were removed before, and only the answer was lost.
                if session.removed == hold.seen {
                    take(session, hold);
                }
                session.lease = None;
                session.doorbell = None;
                session.alive_until = hold.until;
                return true;
            }
            let stands = state.sessions.get(key);
            stands.is_some_and(|session| {
                session.lease.is_none()
                    && session.removed == after(hold)
                    && session.alive_until == hold.until
            })
        })
        .await
    }

    async fn begin_sending(
        &self,
        key: &SessionKey,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<Attached, Fault> {
        self.write("begin_sending", |state, _| {
            let Some(session) = state.sessions.get_mut(key) else {
                return Attached::Absent;
            };
            let other = session.sender.as_ref();
            let held = other.is_some_and(|it| now < it.until && it.holder != lease.holder);
            if held || !session.is_open(now) {
                return Attached::Stands(session.clone());
            }
            session.sender = Some(lease.clone());
            Attached::Held(session.clone())
        })
        .await
    }

    async fn end_sending(&self, key: &SessionKey, holder: &str) -> Result<(), Fault> {
        self.write("end_sending", |state, _| {
            if let Some(session) = state.sessions.get_mut(key)
                && session
                    .sender
                    .as_ref()
                    .is_some_and(|it| it.holder == holder)
            {
                session.sender = None;
            }
        })
        .await
    }

    async fn push_to_session(
        &self,
        id: &SessionId,
        messages: &[&str],
        now: Timestamp,
    ) -> Result<Pushed, Fault> {
        self.write("push_to_session", |state, _| {
            let Some(session) = this(state, id).filter(|it| it.is_open(now)) else {
                return Pushed::Gone;
            };
            let waiting: usize = session.outbox.iter().map(String::len).sum();
            let bytes: usize = messages.iter().map(|it| it.len()).sum();
            if waiting + bytes > OUTBOX_BYTES
                || session.outbox.len() + messages.len() > OUTBOX_MESSAGES
            {
                return Pushed::Full;
            }
            let messages = messages.iter().map(|it| (*it).to_owned());
            session.outbox.extend(messages);
            Pushed::Waiting(session.doorbell.clone())
        })
        .await
    }

    async fn close_session(
        &self,
        id: &SessionId,
        closing: &Closing,
        now: Timestamp,
    ) -> Result<Option<ConnectionId>, Fault> {
        self.write("close_session", |state, _| {
            let session = this(state, id)?;
            if session.is_open(now) {
                session.closing = Some(closing.clone());
            }
            session.doorbell.clone()
        })
        .await
    }

    async fn set_doorbell(&self, doorbell: &Doorbell) -> Result<bool, Fault> {
        self.write("set_doorbell", |state, _| {
            let Some(session) = state.sessions.get_mut(&doorbell.key) else {
                return false;
            };
            let lease = session.lease.as_ref();
            let held = lease.is_some_and(|it| it.holder == doorbell.holder)
                && session.identity.token == doorbell.token;
            if held {
                session.doorbell = Some(doorbell.connection.clone());
            }
            held
        })
        .await
    }

    async fn due_sessions(
        &self,
        minute: Minute,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> Result<Page<SessionKey>, Fault> {
        let limit = self.cap(limit);
        self.read("due_sessions", |state, _| {
            let due = state.due(minute).into_iter();
            page(due.flat_map(|it| it.range(beyond(after))).cloned(), limit)
        })
        .await
    }

    async fn postpone_session(&self, id: &SessionId, minute: Minute) -> Result<(), Fault> {
        self.write("postpone_session", |state, _| {
            if this(state, id).is_some() {
                state.set_due(&id.key, Some(minute));
            }
        })
        .await
    }

    async fn forget_session(&self, id: &SessionId, now: Timestamp) -> Result<(), Fault> {
        self.write("forget_session", |state, _| {
            if this(state, id).is_some_and(|it| !it.is_alive(now)) {
                state.sessions.remove(&id.key);
                state.set_due(&id.key, None);
            }
        })
        .await
    }
}

/// The session, if it has this incarnation.
fn this<'a>(state: &'a mut State, id: &SessionId) -> Option<&'a mut Session> {
    let session = state.sessions.get_mut(&id.key)?;
    (session.incarnation == id.incarnation).then_some(session)
}

/// The session, if it is alive and the holder has its lease.
fn held_by<'a>(state: &'a mut State, key: &SessionKey, hold: &Hold) -> Option<&'a mut Session> {
    let session = state.sessions.get_mut(key)?;
    let lease = session.lease.as_ref()?;
    (lease.holder == hold.holder && session.is_alive(hold.now)).then_some(session)
}

/// Removes the written messages from the front of the outbox.
fn take(session: &mut Session, hold: &Hold) {
    let written = hold.written.min(session.outbox.len());
    session.outbox.drain(..written);
    session.removed = after(hold);
}

fn after(hold: &Hold) -> u64 {
    hold.seen
        .saturating_add(u64::try_from(hold.written).unwrap_or(u64::MAX))
}
