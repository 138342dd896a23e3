//! Reading a log: pages, its contiguous end, and the gaps that dead writers left.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{
    Event, EventBody, LogId, Subscriber, SubscriberId,
    change::LogEntry,
    decision::{History, Range},
    limits,
    model::Presence,
    wire_event::WireEvent,
};

use crate::{
    parts::part,
    ports::{Environment, Fault, Head, Logs, PresenceState, Presences, Slice, Workers},
    timing::{GAP, GAP_LOOK},
};

part! {
    /// Reads logs, and voids the slots that dead writers left without an event.
    LogReader
}

impl<S: Logs + Presences, G, W: Workers, E: Environment> LogReader<'_, S, G, W, E> {
    /// Returns a page of a log as clients see it, or `None` if there is no such log.
    pub(crate) async fn history(
        &self,
        log: &LogId,
        range: Range,
    ) -> Result<Option<History>, Fault> {
        let Some(head) = self.ports.store.head(log).await? else {
            return Ok(None);
        };
        // A reader does not push, but it may be the first to see that no function does.
        self.ports.schedule_drain_if_abandoned(log, &head).await?;
        self.history_from(log, &head, range).await.map(Some)
    }

    /// Returns a page of a log whose head was read.
    async fn history_from(&self, log: &LogId, head: &Head, range: Range) -> Result<History, Fault> {
        let (slice, end) = self.slice(log, head, range).await?;
        let first = slice.entries.first().map(|entry| entry.event.sequence);
        let first_sequence = match first {
            Some(1) => 1,
            _ => {
                let oldest = self.ports.store.entries_after(log, 0, end, 1).await?;
                oldest
                    .entries
                    .first()
                    .map_or(end + 1, |entry| entry.event.sequence)
            }
        };
        Ok(History {
            events: self.on_the_wire(log, &slice.entries).await?,
            more: slice.more,
            first_sequence,
            last_sequence: end,
        })
    }

    /// Returns the stored entries of a range, and the log's contiguous end.
    pub(crate) async fn slice(
        &self,
        log: &LogId,
        head: &Head,
        range: Range,
    ) -> Result<(Slice, u64), Fault> {
        let end = self.contiguous_end(log, head).await?;
        let store = self.ports.store;
        let slice = match range {
            Range::Latest { limit } => store.entries_before(log, end + 1, limit).await?,
            Range::Before { sequence, limit } => {
                store
                    .entries_before(log, sequence.min(end + 1), limit)
                    .await?
            }
            Range::After { sequence, limit } => {
                store.entries_after(log, sequence, end, limit).await?
            }
        };
        Ok((slice, end))
    }

    /// Returns entries as clients see them, with the presence of each subscriber that joined.
    pub(crate) async fn on_the_wire(
        &self,
        log: &LogId,
        entries: &[LogEntry],
    ) -> Result<Vec<WireEvent>, Fault> {
        let domain = log.domain();
        let joined: BTreeSet<Subscriber> = entries
            .iter()
            .filter_map(|entry| match &entry.event.body {
                EventBody::SubscriberJoined { subscriber_id, .. } => {
                    Some(domain.subscriber(subscriber_id.clone()))
                }
                _ => None,
            })
            .collect();
        let joined: Vec<Subscriber> = joined.into_iter().collect();
        let presences = if joined.is_empty() {
            BTreeMap::new()
        } else {
            self.ports.store.presences(&joined).await?
        };
        let presence = |id: &SubscriberId| {
            let subscriber = domain.subscriber(id.clone());
            let announced = presences.get(&subscriber);
            Presence::of(id, announced.and_then(PresenceState::effective))
        };
        Ok(entries
            .iter()
            .map(|entry| WireEvent::new(&entry.event, presence))
            .collect())
    }

    /// Returns the end of the contiguous stored log.
    ///
    /// Everything up to `head.sent` is stored, so only the slots after it are read. If a slot has no event one second after the
    /// head's last allocation, its writer died, and the slot is voided. The void entry is only put into an empty slot, so a
    /// writer that is merely slow finds the void entry and takes a new slot.
    pub(crate) async fn contiguous_end(&self, log: &LogId, head: &Head) -> Result<u64, Fault> {
        let mut end = head.sent;
        while end < head.sequence {
            let Slice { entries, .. } = self
                .ports
                .store
                .entries_after(log, end, head.sequence, limits::PAGE)
                .await?;
            let before = end;
            for entry in &entries {
                if entry.event.sequence != end + 1 {
                    break;
                }
                end += 1;
            }
            if end == before {
                if self.gap_is_old(head) {
                    self.void_slot(log, end + 1).await?;
                } else {
                    self.ports.environment.sleep(GAP_LOOK).await;
                }
            }
        }
        Ok(end)
    }

    /// Returns true if a slot that `head` allocated has been empty for so long that its writer must have died.
    pub(crate) fn gap_is_old(&self, head: &Head) -> bool {
        head.allocated_at.plus(GAP) <= self.ports.environment.now()
    }

    /// Voids a slot, unless an event was put there in the meantime.
    pub(crate) async fn void_slot(&self, log: &LogId, sequence: u64) -> Result<(), Fault> {
        let void = LogEntry {
            event: Event {
                sequence,
                timestamp: self.ports.environment.now(),
                body: EventBody::Void,
            },
            nonce: self.ports.environment.fresh_id(),
            origin: None,
        };
        // The gap is closed either way: by this entry or by the one that was faster.
        let _ = self.ports.store.put_entry(log, &void).await?;
        Ok(())
    }
}
