//! The checks on a finished run. The numbers are those of the protocol's invariants.

mod frames;
mod logs;

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use protocol::{EventBody, LogId, Subscriber, SubscriberId, change::LogEntry};
use serde_json::Value;
use service::ports::Connections as _;

use crate::{client::Device, profile::Profile, shared::Shared, world::World};

/// A finished run.
pub(crate) struct Run<'a> {
    pub(crate) world: &'a World,
    pub(crate) shared: &'a Rc<Shared>,
    pub(crate) devices: &'a [Rc<Device>],
    pub(crate) profile: Profile,
}

/// A log with what its events say about membership.
#[derive(Default)]
struct Log {
    entries: Vec<LogEntry>,
    /// The sequences of joining and leaving, per stay.
    stays: BTreeMap<SubscriberId, Vec<(u64, u64)>>,
}

type Broken = String;

/// Fails with the first invariant that does not hold.
pub(crate) fn check(run: &Run<'_>) -> Result<(), Broken> {
    if let Some(broken) = run.shared.broken.borrow().first() {
        return Err(broken.clone());
    }
    let mut logs = BTreeMap::new();
    for id in run.logs() {
        let ended = match &id {
            LogId::Channel(key) => run.world.service.store.rows(key).is_none(),
            LogId::Direct { .. } => false,
        };
        logs.insert(id.clone(), Log::of(run.world.entries(&id), ended));
    }
    run.check_stored(&logs)?;
    for session in run.shared.connections.borrow().iter() {
        let of = |what: Broken| format!("{what}, over {}", session.line.id);
        let framing = run.world.sockets().broken_framing(&session.line.id);
        ensure(framing.is_none(), || format!("{framing:?}")).map_err(of)?;
        run.check_session(session, &logs).map_err(of)?;
    }
    for device in run.devices {
        run.check_device(device, &logs)?;
    }
    Ok(())
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(what()) }
}

impl Log {
    fn of(entries: Vec<LogEntry>, ended: bool) -> Self {
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
        // When a channel ends all memberships end, even if its last slot was voided.
        let end = entries.last().map_or(0, |it| it.event.sequence);
        for stay in stays.values_mut().flatten().filter(|_| ended) {
            stay.1 = stay.1.min(end);
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

    /// The sequence at which the membership that contains `sequence` began.
    fn stay(&self, log: &LogId, subscriber: &SubscriberId, sequence: u64) -> u64 {
        match log {
            LogId::Channel(_) => {
                let stays = self.stays.get(subscriber).into_iter().flatten();
                let mut around = stays.filter(|(from, to)| (*from..=*to).contains(&sequence));
                around.next().map_or(sequence, |(from, _)| *from)
            }
            LogId::Direct { .. } => 1,
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
    /// Everything that was stored and every frame that arrived, for debugging one seed.
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

    /// Invariant 9: a connected device knows every log that it may read, up to its end.
    fn check_device(&self, device: &Device, logs: &BTreeMap<LogId, Log>) -> Result<(), Broken> {
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
            // A connection that never became active is forgotten with the first post.
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
