//! Reading a log: pages, its contiguous end, and the holes that dead writers left.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{
    Event, EventBody, LogId, Subscriber, SubscriberId,
    change::LogEntry,
    decide::{History, Range},
    frame::WireEvent,
    limits,
    model::Presence,
};

use crate::{
    HOLE, Service,
    ports::{Environment, Fault, Head, Logs, PresenceState, Presences, Slice, Workers},
};

/// How long to wait before looking for a missing event again.
const LOOK_AGAIN: core::time::Duration = core::time::Duration::from_millis(20);

impl<S: Logs + Presences, G, W: Workers, E: Environment> Service<S, G, W, E> {
    /// A page of a log as clients see it; none if there is no such log.
    pub(crate) async fn history(
        &self,
        log: &LogId,
        range: Range,
    ) -> Result<Option<History>, Fault> {
        match self.store.head(log).await? {
            Some(head) => {
                // Pushing is not the reader's business, but it may be the first to see that nobody does.
                self.notice(log, head.lease.as_ref(), &head).await?;
                self.history_from(log, &head, range).await.map(Some)
            }
            None => Ok(None),
        }
    }

    /// A page of a log whose head was read.
    pub(crate) async fn history_from(
        &self,
        log: &LogId,
        head: &Head,
        range: Range,
    ) -> Result<History, Fault> {
        let (slice, end) = self.slice(log, head, range).await?;
        let first = slice.entries.first().map(|it| it.event.sequence);
        let first_sequence = match first {
            Some(1) => 1,
            _ => {
                let oldest = self.store.entries_after(log, 0, end, 1).await?;
                oldest
                    .entries
                    .first()
                    .map_or(end + 1, |it| it.event.sequence)
            }
        };
        Ok(History {
            events: self.on_the_wire(log, &slice.entries).await?,
            more: slice.more,
            first_sequence,
            last_sequence: end,
        })
    }

    /// The stored entries of a range, and the log's contiguous end.
    pub(crate) async fn slice(
        &self,
        log: &LogId,
        head: &Head,
        range: Range,
    ) -> Result<(Slice, u64), Fault> {
        let end = self.contiguous_end(log, head).await?;
        let slice = match range {
            Range::Latest { limit } => self.store.entries_before(log, end + 1, limit).await?,
            Range::Before { sequence, limit } => {
                self.store
                    .entries_before(log, sequence.min(end + 1), limit)
                    .await?
            }
            Range::After { sequence, limit } => {
                self.store.entries_after(log, sequence, end, limit).await?
            }
        };
        Ok((slice, end))
    }

    /// Entries as clients see them, with the presence of who joined.
    pub(crate) async fn on_the_wire(
        &self,
        log: &LogId,
        entries: &[LogEntry],
    ) -> Result<Vec<WireEvent>, Fault> {
        let joined: BTreeSet<Subscriber> = entries
            .iter()
            .filter_map(|entry| match &entry.event.body {
                EventBody::SubscriberJoined { subscriber_id, .. } => Some(Subscriber {
                    domain: log.domain().clone(),
                    id: subscriber_id.clone(),
                }),
                _ => None,
            })
            .collect();
        let joined: Vec<Subscriber> = joined.into_iter().collect();
        let presences = if joined.is_empty() {
            BTreeMap::new()
        } else {
            self.store.presences(&joined).await?
        };
        let presence = |id: &SubscriberId| {
            let key = Subscriber {
                domain: log.domain().clone(),
                id: id.clone(),
            };
            Presence::of(id, presences.get(&key).and_then(PresenceState::effective))
        };
        Ok(entries
            .iter()
            .map(|entry| WireEvent::new(&entry.event, presence))
            .collect())
    }

    /// The end of the contiguous stored log. Everything up to `head.sent` is stored; after that each place is looked at.
    /// A place that is still empty a second after the head was last allocated from had a writer that died: it is closed
    /// with a void entry, on condition that nothing stands there, so that its writer, should it live, takes a new place.
    pub(crate) async fn contiguous_end(&self, log: &LogId, head: &Head) -> Result<u64, Fault> {
        let mut end = head.sent;
        while end < head.sequence {
            let Slice { entries, .. } = self
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
                if !self.hole_is_old(head) {
                    self.environment.sleep(LOOK_AGAIN).await;
                } else {
                    self.close_hole(log, end + 1).await?;
                }
            }
        }
        Ok(end)
    }

    /// Whether a place that `head` had allocated has been empty for long enough.
    pub(crate) fn hole_is_old(&self, head: &Head) -> bool {
        head.allocated_at.plus(HOLE) <= self.environment.now()
    }

    /// Closes a place that nobody fills, unless somebody just did.
    pub(crate) async fn close_hole(&self, log: &LogId, sequence: u64) -> Result<(), Fault> {
        let void = LogEntry {
            event: Event {
                sequence,
                timestamp: self.environment.now(),
                body: EventBody::Void,
            },
            nonce: self.environment.fresh_id(),
            origin: None,
        };
        // Whatever stands there now, there is no hole any more.
        let _ = self.store.put_entry(log, &void).await?;
        Ok(())
    }
}
