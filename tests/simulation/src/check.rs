//! What must hold when everything has come to rest. The numbers are those of the protocol's invariants.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use protocol::{EventBody, Json, LogId, Subscriber, SubscriberId, change::LogEntry};
use serde_json::Value;
use service::ports::{Channels as _, Connections as _};

use crate::{
    client::{Device, Session, Shared},
    run::Profile,
    world::World,
};

/// A finished run.
pub(crate) struct Run<'a> {
    pub(crate) world: &'a World,
    pub(crate) shared: &'a Rc<Shared>,
    pub(crate) devices: &'a [Rc<Device>],
    pub(crate) profile: Profile,
}

/// A log with what its events say about membership.
struct Log {
    entries: Vec<LogEntry>,
    /// From joining to leaving.
    stays: BTreeMap<SubscriberId, Vec<(u64, u64)>>,
}

type Broken = String;

/// The first invariant that does not hold.
pub(crate) fn check(run: &Run<'_>) -> Result<(), Broken> {
    let mut logs = BTreeMap::new();
    for log in run.logs() {
        let entries = run.world.entries(&log);
        logs.insert(log, Log::of(entries));
    }
    for (id, log) in &logs {
        run.log_is_whole(id, log)?;
        if let LogId::Channel(_) = id {
            run.roster_agrees(id, log)?;
        }
    }
    run.messages_are_one_event(&logs)?;
    for session in run.shared.connections.borrow().iter() {
        let of = |what: Broken| format!("{}: {what}", session.line.id);
        let framing = run.world.sockets().broken_framing(&session.line.id);
        ensure(framing.is_none(), || format!("{framing:?}")).map_err(of)?;
        run.answers(session).map_err(of)?;
        run.pushes(session, &logs).map_err(of)?;
    }
    for device in run.devices {
        run.everybody_knows(device, &logs)?;
    }
    Ok(())
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(what()) }
}

impl Log {
    fn of(entries: Vec<LogEntry>) -> Self {
        let mut stays: BTreeMap<SubscriberId, Vec<(u64, u64)>> = BTreeMap::new();
        for entry in &entries {
            let sequence = entry.event.sequence;
            match &entry.event.body {
                EventBody::SubscriberJoined { subscriber_id, .. } => {
                    let stays = stays.entry(subscriber_id.clone()).or_default();
                    stays.push((sequence, u64::MAX));
                }
                EventBody::SubscriberLeft { subscriber_id, .. } => {
                    if let Some(last) = stays.entry(subscriber_id.clone()).or_default().last_mut() {
                        last.1 = sequence;
                    }
                }
                _ => {}
            }
        }
        Self { entries, stays }
    }

    fn concerns(&self, log: &LogId, subscriber: &SubscriberId, sequence: u64) -> bool {
        match log {
            LogId::Channel(_) => self.stays.get(subscriber).is_some_and(|stays| {
                stays
                    .iter()
                    .any(|(from, to)| (*from..=*to).contains(&sequence))
            }),
            LogId::Direct { low, high, .. } => [low, high].contains(&subscriber),
        }
    }

    fn entry(&self, sequence: u64) -> Option<&LogEntry> {
        let index = usize::try_from(sequence.checked_sub(1)?).ok()?;
        self.entries.get(index)
    }

    fn end(&self) -> u64 {
        u64::try_from(self.entries.len()).unwrap()
    }
}

impl Run<'_> {
    /// All that was stored and all that came, for who looks into one seed.
    pub(crate) fn story(&self) -> String {
        let mut story = Vec::new();
        for log in self.logs() {
            for entry in self.world.entries(&log) {
                story.push(format!("{log} {entry:?}"));
            }
        }
        for session in self.shared.connections.borrow().iter() {
            let (id, subscriber) = (&session.line.id, session.line.subscriber());
            let open = self.world.sockets().is_open(id);
            story.push(format!(
                "{id} of {} in {}, open: {open}",
                subscriber.id, subscriber.domain
            ));
            for (at, frame) in session.frames.borrow().iter().enumerate() {
                story.push(format!("{id} {at} {frame}"));
            }
        }
        story.join("\n")
    }

    fn logs(&self) -> BTreeSet<LogId> {
        let mut logs = BTreeSet::new();
        for subscriber in self.devices.iter().map(|it| &it.subscriber) {
            for channel in crate::script::CHANNELS {
                logs.insert(crate::world::channel(subscriber.domain.as_str(), channel));
            }
            for peer in crate::script::PEOPLE {
                let peer = SubscriberId::parse(peer).unwrap();
                if peer != subscriber.id {
                    logs.insert(LogId::direct(subscriber, &peer));
                }
            }
        }
        logs
    }

    /// 5: places from 1 without gap, all pushed, nobody holds the lease.
    fn log_is_whole(&self, id: &LogId, log: &Log) -> Result<(), Broken> {
        let sequences: Vec<u64> = log.entries.iter().map(|it| it.event.sequence).collect();
        let expected: Vec<u64> = (1..=log.end()).collect();
        ensure(sequences == expected, || {
            format!("(5) {id} has {sequences:?}")
        })?;
        let Some(head) = self.world.find_head(id) else {
            return ensure(log.entries.is_empty(), || format!("(5) {id} has no head"));
        };
        ensure(
            head.sequence == log.end() && head.sent == head.sequence && head.lease.is_none(),
            || format!("(5) {id} ends at {}, its head is {head:?}", log.end()),
        )
    }

    /// 14, and the log tells the same story as the rows.
    fn roster_agrees(&self, id: &LogId, log: &Log) -> Result<(), Broken> {
        let LogId::Channel(key) = id.clone() else {
            return Ok(());
        };
        let service = self.world.service.clone();
        let (rows, roster) = self.world.run(async move {
            let rows = service
                .store
                .members(&key, None, 1_000)
                .await
                .unwrap()
                .items;
            (rows, service.store.roster(&key).await.unwrap())
        });
        let rows: BTreeMap<SubscriberId, bool> = rows
            .into_iter()
            .filter(|it| it.is_current())
            .map(|it| (it.subscriber, it.administrator))
            .collect();
        let administrators = rows.values().filter(|it| **it).count();
        ensure(rows.is_empty() || administrators > 0, || {
            format!("(14) nobody administers {id}: {rows:?}")
        })?;
        let counted = roster.map_or((0, 0), |it| (it.members, it.administrators));
        let there = (
            u64::try_from(rows.len()).unwrap(),
            u64::try_from(administrators).unwrap(),
        );
        ensure(counted == there, || {
            format!("(14) {id} counts {counted:?}, has {there:?}")
        })?;
        let mut replayed = BTreeMap::new();
        for entry in &log.entries {
            match &entry.event.body {
                EventBody::SubscriberJoined {
                    subscriber_id,
                    administrator,
                }
                | EventBody::AdministratorChanged {
                    subscriber_id,
                    administrator,
                } => {
                    replayed.insert(subscriber_id.clone(), *administrator);
                }
                EventBody::SubscriberLeft { subscriber_id, .. } => {
                    replayed.remove(subscriber_id);
                }
                _ => {}
            }
        }
        ensure(replayed == rows, || {
            format!("(5) {id}'s log ends with {replayed:?}, its rows are {rows:?}")
        })
    }

    /// 7, 8, 11, 12: what was acknowledged stands at its place, once; what was sent too late nowhere.
    fn messages_are_one_event(&self, logs: &BTreeMap<LogId, Log>) -> Result<(), Broken> {
        let mut places: BTreeMap<(&LogId, &str), Vec<&LogEntry>> = BTreeMap::new();
        for (id, log) in logs {
            for entry in &log.entries {
                if let EventBody::Message {
                    message_id,
                    content,
                    ..
                } = &entry.event.body
                {
                    places
                        .entry((id, message_id.as_str()))
                        .or_default()
                        .push(entry);
                    let domain = format!("\"{}/", id.domain());
                    ensure(content.as_str().starts_with(&domain), || {
                        format!("(11) {id} has {content:?}")
                    })?;
                    ensure(
                        !self.shared.forbidden.borrow().contains(message_id.as_str()),
                        || {
                            format!(
                                "(12) {message_id} was accepted after the token was invalidated"
                            )
                        },
                    )?;
                }
            }
        }
        for ((id, message_id), entries) in &places {
            ensure(entries.len() == 1, || {
                format!("(8) {message_id} is {} events of {id}", entries.len())
            })?;
        }
        for stored in self.shared.stored.borrow().iter() {
            let entry = places
                .get(&(&stored.log, stored.message_id.as_str()))
                .and_then(|it| it.first())
                .ok_or_else(|| format!("(7) {stored:?} is in no log"))?;
            let EventBody::Message { content, .. } = &entry.event.body else {
                continue;
            };
            let same =
                entry.event.sequence == stored.sequence && is_same_json(content, &stored.content);
            ensure(same, || format!("(8) {stored:?} is stored as {entry:?}"))?;
        }
        Ok(())
    }

    /// 1, 2: one `ack` for each message of a handler that lived, at most one response, before it.
    fn answers(&self, session: &Session) -> Result<(), Broken> {
        let frames = session.frames.borrow();
        let open = self.world.sockets().is_open(&session.line.id);
        let mut of: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for frame in frames.iter() {
            if let Some(id) = frame["reply-to"].as_str() {
                of.entry(id)
                    .or_default()
                    .push(frame["type"].as_str().unwrap());
            }
        }
        for (id, handler) in session.handlers.borrow().iter() {
            let types = of.remove(id.as_str()).unwrap_or_default();
            let acks = types.iter().filter(|it| **it == "ack").count();
            let tail = types
                .iter()
                .position(|it| *it == "ack")
                .is_none_or(|at| at + 1 == types.len());
            ensure(acks <= 1 && types.len() <= 2 && tail, || {
                format!("(2) {id} was answered {types:?}")
            })?;
            let lived = !handler.was_killed() && !handler.is_running();
            ensure(acks == 1 || !lived || !open || self.profile.posts, || {
                format!("(2) {id} has no ack: {types:?}")
            })?;
        }
        ensure(of.is_empty(), || format!("(1) nobody asked for {of:?}"))
    }

    /// 6, 10: what is pushed over a connection increases, is whole or followed by a resync, and is meant for it.
    fn pushes(&self, session: &Session, logs: &BTreeMap<LogId, Log>) -> Result<(), Broken> {
        let subscriber = session.line.subscriber();
        let frames = session.frames.borrow();
        let mut pushed: BTreeMap<LogId, Vec<(usize, u64)>> = BTreeMap::new();
        let mut resyncs: BTreeMap<LogId, Vec<usize>> = BTreeMap::new();
        for (at, frame) in frames.iter().enumerate() {
            if frame.get("reply-to").is_some() {
                continue;
            }
            let Some(id) = destination(frame, subscriber) else {
                continue;
            };
            if frame["type"] == "resync" {
                resyncs.entry(id).or_default().push(at);
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
            ensure(same_event(frame, entry), || {
                format!("(5) {frame} is {entry:?}")
            })?;
            pushed.entry(id).or_default().push((at, sequence));
        }
        for (id, pushed) in &pushed {
            let resyncs = resyncs.get(id).cloned().unwrap_or_default();
            let log = &logs[id];
            let own = |sequence: u64| {
                log.entry(sequence)
                    .is_none_or(|it| it.origin.as_ref() == Some(&session.line.id))
            };
            let known = session.baseline.borrow().get(id).copied();
            let mut highest: Option<(usize, u64)> = None;
            for (at, sequence) in pushed.iter().copied() {
                if let Some((_, before)) = highest
                    && sequence <= before
                {
                    let repeat = pushed.iter().any(|it| it.1 == sequence && it.0 < at);
                    ensure(repeat && self.profile.is_faulty(), || {
                        format!("(6) {sequence} of {id} after {before}")
                    })?;
                    continue;
                }
                // What may be missing before the first is what the connection was told by its first history.
                let from = highest.or(known.filter(|it| it.0 < at));
                if let Some((since, before)) = from {
                    let told = resyncs.iter().any(|it| *it > since);
                    let missing = (before + 1..sequence)
                        .find(|it| !own(*it) && log.concerns(id, &subscriber.id, *it));
                    ensure(missing.is_none() || told, || {
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

    /// 9: who is connected knows the whole of every log that it may read.
    fn everybody_knows(&self, device: &Device, logs: &BTreeMap<LogId, Log>) -> Result<(), Broken> {
        let subscriber = &device.subscriber;
        let positions = device.positions.borrow();
        for (id, log) in logs
            .iter()
            .filter(|(id, _)| *id.domain() == subscriber.domain)
        {
            if !log.concerns(id, &subscriber.id, u64::MAX) || log.entries.is_empty() {
                continue;
            }
            let position = positions.get(id).cloned().unwrap_or_default();
            ensure(position.knows(log.end()), || {
                let session = device.session.borrow().clone();
                let connection = session.map(|it| it.line.id.to_string());
                format!(
                    "(9) {subscriber:?} over {connection:?} is at {position:?} of {id}, which ends at {}",
                    log.end()
                )
            })?;
        }
        let (service, of) = (self.world.service.clone(), subscriber.clone());
        let connections = self
            .world
            .run(async move { service.store.connections(&of).await.unwrap() });
        for (id, connection) in connections {
            // One that never came up is forgotten with the first post.
            let open = self.world.sockets().is_open(&id);
            ensure(!open || connection.parked.is_empty(), || {
                format!("(9) parked for {id}: {connection:?}")
            })?;
        }
        Ok(())
    }
}

fn destination(frame: &Value, subscriber: &Subscriber) -> Option<LogId> {
    if let Some(id) = frame["channel-id"].as_str() {
        return Some(crate::world::channel(subscriber.domain.as_str(), id));
    }
    let peer = SubscriberId::parse(frame["subscriber-id"].as_str()?).unwrap();
    Some(LogId::direct(subscriber, &peer))
}

/// Clients here say nothing that could be written in two ways.
fn is_same_json(stored: &Json, said: &Value) -> bool {
    let said = said.to_string();
    stored.as_str() == said
}

fn same_event(frame: &Value, entry: &LogEntry) -> bool {
    match &entry.event.body {
        EventBody::Message {
            message_id,
            content,
            ..
        } => frame["message-id"] == message_id.as_str() && is_same_json(content, &frame["content"]),
        EventBody::SubscriberJoined { subscriber_id, .. } => {
            frame["kind"] == "subscriber-joined"
                && frame["subscriber"]["id"] == subscriber_id.as_str()
        }
        EventBody::SubscriberLeft { subscriber_id, .. } => {
            frame["kind"] == "subscriber-left" && frame["subscriber-id"] == subscriber_id.as_str()
        }
        EventBody::AdministratorChanged { administrator, .. } => {
            frame["administrator"] == *administrator
        }
        EventBody::ChannelUpdated { .. } => frame["kind"] == "channel-updated",
        _ => false,
    }
}
