//! Checks of the frames on a connection: answers, pushes, pages, and its end.

use core::time::Duration;
use std::collections::BTreeMap;

use protocol::{EventBody, LogId, Timestamp, change::LogEntry};
use serde_json::{Value, json};

use super::{Broken, Log, Run, destination, ensure};
use crate::shared::Session;

/// In a world with prompt calls a gate is raised this soon after the handler began.
const RAISED_WITHIN: Duration = Duration::from_millis(40);
/// A response that was seen this soon was posted while the gate was up.
const GATE_STANDS: Duration = Duration::from_secs(4);

impl Run<'_> {
    /// Checks every frame of one connection.
    pub(super) fn check_session(
        &self,
        session: &Session,
        logs: &BTreeMap<LogId, Log>,
    ) -> Result<(), Broken> {
        self.answers(session)?;
        self.responses_come_first(session, logs)?;
        self.pages(session, logs)?;
        self.others_look_right(session)?;
        self.ends_with_its_token(session)?;
        self.pushes(session, logs)
    }

    fn is_up(&self, session: &Session) -> bool {
        !session.dead.get() && self.world.sockets().is_open(&session.line.id)
    }

    /// Invariants 1 and 2: each message of a handler that lived gets one `ack`, and at most one response before it.
    fn answers(&self, session: &Session) -> Result<(), Broken> {
        let frames = session.frames.borrow();
        let open = self.is_up(session);
        let mut of: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for frame in frames.iter() {
            if let Some(id) = frame["reply-to"].as_str() {
                of.entry(id)
                    .or_default()
                    .push(frame["type"].as_str().unwrap());
            }
        }
        for (id, request) in session.requests.borrow().iter() {
            let types = of.remove(id.as_str()).unwrap_or_default();
            let acks = types.iter().filter(|it| **it == "ack").count();
            let tail = types
                .iter()
                .position(|it| *it == "ack")
                .is_none_or(|at| at + 1 == types.len());
            ensure(acks <= 1 && types.len() <= 2 && tail, || {
                format!("(2) {id} was answered {types:?}")
            })?;
            let lived = request
                .handler
                .as_ref()
                .is_some_and(|it| !it.was_killed() && !it.is_running());
            ensure(acks == 1 || !lived || !open || self.profile.posts, || {
                format!("(2) {id} has no ack: {types:?}")
            })?;
        }
        ensure(of.is_empty(), || format!("(1) no request matches {of:?}"))
    }

    /// Invariant 3: an event whose slot was allocated after a request was received comes after the response.
    fn responses_come_first(
        &self,
        session: &Session,
        logs: &BTreeMap<LogId, Log>,
    ) -> Result<(), Broken> {
        // Only checked where it is known when the gate was raised, and that it was still up.
        if !self.profile.is_prompt() {
            return Ok(());
        }
        let subscriber = session.line.subscriber();
        let frames = session.frames.borrow();
        let requests = session.requests.borrow();
        let mut pushed = Timestamp::default();
        for frame in frames.iter() {
            let reply = frame["reply-to"].as_str();
            let Some(id) = reply else {
                if frame["kind"].is_string()
                    && let (Some(log), Some(sequence)) =
                        (destination(frame, subscriber), frame["sequence"].as_u64())
                    && let Some(entry) = logs.get(&log).and_then(|it| it.entry(sequence))
                {
                    pushed = pushed.max(entry.event.timestamp);
                }
                continue;
            };
            let required = !["ack", "delivery"].contains(&frame["type"].as_str().unwrap());
            let Some(request) = requests.get(id).filter(|_| required) else {
                continue;
            };
            let brief = request
                .answered
                .get()
                .is_some_and(|it| request.begun.until(it) < GATE_STANDS);
            ensure(
                !brief || pushed <= request.begun.plus(RAISED_WITHIN),
                || {
                    format!(
                        "(3) {} began at {}, its response came after an event of {}",
                        request.message,
                        json!(request.begun),
                        json!(pushed)
                    )
                },
            )?;
        }
        Ok(())
    }

    /// Invariants 5, 7, 9: a page equals the log from the requested position, without a gap.
    fn pages(&self, session: &Session, logs: &BTreeMap<LogId, Log>) -> Result<(), Broken> {
        let subscriber = session.line.subscriber();
        let requests = session.requests.borrow();
        for frame in session.frames.borrow().iter() {
            let of = frame["reply-to"].as_str().and_then(|id| requests.get(id));
            let Some(request) = of.map(|it| &it.message) else {
                continue;
            };
            if frame["type"] == "history" {
                let after = request["after"].as_u64();
                let complete = frame["more"] == false && request["before"].is_null();
                self.page(
                    &destination(frame, subscriber),
                    frame,
                    after,
                    complete,
                    logs,
                )?;
            }
            if frame["type"] == "resumed" {
                let asked = request["positions"].as_array().unwrap();
                let told = frame["destinations"].as_array().unwrap();
                ensure(asked.len() <= told.len(), || {
                    format!("(9) {request} was answered {frame}")
                })?;
                for (asked, told) in asked.iter().zip(told) {
                    let log = destination(told, subscriber);
                    ensure(destination(asked, subscriber) == log, || {
                        format!("(9) {asked} was answered {told}")
                    })?;
                    if told.get("error").is_none() {
                        let complete = told["complete"] == true;
                        self.page(&log, told, asked["sequence"].as_u64(), complete, logs)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn page(
        &self,
        id: &Option<LogId>,
        page: &Value,
        after: Option<u64>,
        complete: bool,
        logs: &BTreeMap<LogId, Log>,
    ) -> Result<(), Broken> {
        let events = page["events"].as_array().unwrap();
        let none = Log::default();
        let log = id.as_ref().and_then(|id| logs.get(id)).unwrap_or(&none);
        let mut next = after.map(|it| it + 1);
        for event in events {
            let sequence = event["sequence"].as_u64().unwrap();
            ensure(next.is_none_or(|it| it == sequence), || {
                format!("(9) {page} of {id:?} after {after:?} has a gap")
            })?;
            next = Some(sequence + 1);
            let same = log
                .entry(sequence)
                .is_some_and(|entry| self.same_event(event, entry));
            ensure(same, || format!("(5) {event} differs from the log {id:?}"))?;
        }
        let end = page["last-sequence"].as_u64().unwrap();
        let last = next.map_or(0, |it| it - 1);
        ensure(!complete || last >= end, || {
            format!("(9) {page} of {id:?} after {after:?} does not reach its end")
        })
    }

    /// Invariant 13: a subscriber that never announced is not mentioned, and an invisible one looks offline.
    fn others_look_right(&self, session: &Session) -> Result<(), Broken> {
        for frame in session.frames.borrow().iter() {
            let listed = frame["subscribers"].as_array().into_iter().flatten();
            for subscriber in listed.chain([&frame["subscriber"]]) {
                let invisible = subscriber["availability"] == "invisible";
                let bare = subscriber["status"] == "" && subscriber["attributes"] == json!({});
                ensure(!invisible || bare, || {
                    format!("(13) an invisible subscriber is visible: {frame}")
                })?;
            }
            if frame["type"] == "presence" {
                let domain = &session.line.subscriber().domain;
                let who = frame["subscriber"]["id"].as_str().unwrap();
                let announced = self.shared.seen.borrow();
                let announced = announced
                    .iter()
                    .any(|it| it.domain == *domain && it.id.as_str() == who);
                ensure(announced, || {
                    format!("(13) {who} never announced itself: {frame}")
                })?;
            }
        }
        Ok(())
    }

    /// Invariant 12: no connection outlives its token, and none is told that its token was invalidated if it was not.
    fn ends_with_its_token(&self, session: &Session) -> Result<(), Broken> {
        let now = self.world.sim.clock().now();
        let condemned =
            session.is_condemned(self.shared, Timestamp::from_millis(now.millis() - 180_000));
        ensure(!condemned || !self.is_up(session), || {
            format!("(12) its token {:?} is invalid", session.token.borrow())
        })?;
        // Only the first `disconnect` counts. The connection is dropped, and a caller that does not find it may send
        // another one.
        let frames = session.frames.borrow();
        let told = frames.iter().find(|it| it["type"] == "disconnect");
        let told = told.is_some_and(|it| it["code"] == "token-invalidated");
        let doubtful = self.shared.doubtful.borrow();
        let doubted = session
            .tokens
            .borrow()
            .iter()
            .any(|it| doubtful.contains(it));
        // A function that continues for one that died does not know why that one dropped the connection.
        let certain = !self.profile.deaths && !session.dead.get();
        ensure(!told || doubted || !certain, || {
            "(12) it was dropped because of another token".to_owned()
        })
    }

    /// Invariants 6 and 10: pushes on a connection increase, a gap is followed by a resync, and each push concerns the
    /// subscriber.
    fn pushes(&self, session: &Session, logs: &BTreeMap<LogId, Log>) -> Result<(), Broken> {
        let subscriber = session.line.subscriber();
        let frames = session.frames.borrow();
        let mut pushed: BTreeMap<LogId, Vec<(usize, u64)>> = BTreeMap::new();
        let mut resyncs: BTreeMap<LogId, Vec<(usize, u64)>> = BTreeMap::new();
        // Check each push alone, and collect pushes and resyncs by log.
        for (at, frame) in frames.iter().enumerate() {
            if frame.get("reply-to").is_some() {
                continue;
            }
            let Some(id) = destination(frame, subscriber) else {
                continue;
            };
            if frame["type"] == "resync" {
                let end = frame["last-sequence"].as_u64().unwrap();
                resyncs.entry(id).or_default().push((at, end));
                continue;
            }
            let (Some(_), Some(sequence)) = (frame["kind"].as_str(), frame["sequence"].as_u64())
            else {
                continue;
            };
            let log = logs
                .get(&id)
                .ok_or_else(|| format!("(10) a push of {id}"))?;
            let entry = log
                .entry(sequence)
                .ok_or_else(|| format!("(5) {id} has no {sequence}"))?;
            ensure(log.concerns(&id, &subscriber.id, sequence), || {
                format!("(10) {sequence} of {id} is not for {subscriber:?}")
            })?;
            ensure(entry.origin.as_ref() != Some(&session.line.id), || {
                format!("(6) {sequence} of {id} came back to its origin")
            })?;
            ensure(self.same_event(frame, entry), || {
                format!("(5) {frame} is {entry:?}")
            })?;
            pushed.entry(id).or_default().push((at, sequence));
        }
        // Check the order of the pushes of each log.
        for (id, pushed) in &pushed {
            let resyncs = resyncs.get(id).cloned().unwrap_or_default();
            let log = &logs[id];
            // The origin of an erased message is unknown, so its voided event may be the connection's own.
            let erased = self.shared.erased.borrow().contains(subscriber);
            let own = |sequence: u64| {
                log.entry(sequence).is_none_or(|entry| {
                    entry.origin.as_ref() == Some(&session.line.id)
                        || (erased && matches!(entry.event.body, EventBody::Void))
                })
            };
            let known = session.baseline.borrow().get(id).copied();
            let mut highest: Option<(usize, u64)> = None;
            for (at, sequence) in pushed.iter().copied() {
                if let Some((_, before)) = highest
                    && sequence <= before
                {
                    // Only a repeat may go back, and only in a world with faults.
                    let repeat = pushed.iter().any(|it| it.1 == sequence && it.0 < at);
                    ensure(repeat && self.profile.is_faulty(), || {
                        format!("(6) {sequence} of {id} after {before}")
                    })?;
                    continue;
                }
                // Before the first push the connection knows the log up to the end that its first history announced.
                let from = highest.or(known.filter(|it| it.0 < at));
                if let Some((since, before)) = from {
                    let told = |missing: u64| {
                        resyncs
                            .iter()
                            .any(|(at, end)| *at > since || *end >= missing)
                    };
                    // A member that joins again gets the join, and fetches what came before.
                    let from = log.stay(id, &subscriber.id, sequence).max(before + 1);
                    let missing = (from..sequence).find(|it| !own(*it));
                    ensure(missing.is_none_or(told), || {
                        format!(
                            "(6) {sequence} of {id} after {before}, and no resync for {missing:?}"
                        )
                    })?;
                }
                highest = Some((at, sequence));
            }
        }
        Ok(())
    }

    /// Returns true if a frame shows the stored event.
    fn same_event(&self, frame: &Value, entry: &LogEntry) -> bool {
        match &entry.event.body {
            EventBody::Message {
                message_id,
                content,
                ..
            } => {
                frame["message-id"] == message_id.as_str()
                    && serde_json::from_str(content.as_str()).ok() == frame.get("content").cloned()
            }
            EventBody::SubscriberJoined { subscriber_id, .. } => {
                frame["kind"] == "subscriber-joined"
                    && frame["subscriber"]["id"] == subscriber_id.as_str()
            }
            EventBody::SubscriberLeft { subscriber_id, .. } => {
                frame["kind"] == "subscriber-left"
                    && frame["subscriber-id"] == subscriber_id.as_str()
            }
            EventBody::AdministratorChanged { administrator, .. } => {
                frame["administrator"] == *administrator
            }
            EventBody::ChannelUpdated { .. } => frame["kind"] == "channel-updated",
            EventBody::ChannelDeleted => frame["kind"] == "channel-deleted",
            EventBody::Void => frame["kind"] == "void" || self.was_erased(frame),
        }
    }

    /// Returns true if a message in a frame is from a subscriber that was erased since.
    fn was_erased(&self, frame: &Value) -> bool {
        let erased = self.shared.erased.borrow();
        frame["kind"] == "message" && erased.iter().any(|it| frame["from"] == it.id.as_str())
    }
}
