//! `resume`: a page after each position of the client, and the other destinations that have news.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use futures::{future::try_join_all, try_join};
use protocol::{
    ChannelKey, Destination, LogId, Subscriber, Timestamp,
    change::Member,
    decision::{History, Positions, Range},
    limits,
    page_size::{fitting, items_bytes},
};

use super::load::Loader;
use crate::{
    Store, pages,
    ports::{Environment, Fault, Head, Workers},
};

/// Logs that are read at the same time.
const AT_ONCE: usize = 16;

/// How much later than its slot was allocated an event may be pushed. A lease ends after ten seconds, a job that died is
/// repeated after one minute and again after two, and the expiry run looks for abandoned logs each minute.
const ON_ITS_WAY: Duration = Duration::from_secs(5 * 60);

/// A page for each position, and the other destinations that have news.
pub(crate) type Resumed = (Vec<Option<History>>, Vec<(Destination, u64)>);

impl<S: Store, G, W: Workers, E: Environment> Loader<'_, S, G, W, E> {
    /// Reads what follows the positions of a client that reconnected.
    pub(crate) async fn resume(
        &self,
        subscriber: &Subscriber,
        positions: &Positions,
    ) -> Result<Resumed, Fault> {
        let (pages, new) = try_join!(
            self.pages_after(subscriber, &positions.positions),
            self.new_since(subscriber, positions),
        )?;
        Ok((pages, new))
    }

    async fn pages_after(
        &self,
        subscriber: &Subscriber,
        positions: &[(Destination, u64)],
    ) -> Result<Vec<Option<History>>, Fault> {
        let logs: Vec<LogId> = positions
            .iter()
            .map(|(destination, _)| LogId::of(subscriber, destination))
            .collect();
        let channels: Vec<ChannelKey> = distinct(logs.iter().filter_map(|log| match log {
            LogId::Channel(channel) => Some(channel.clone()),
            LogId::Direct { .. } => None,
        }));
        let members = self
            .ports
            .store
            .member_of(&channels, &subscriber.id)
            .await?;
        let readable = |log: &LogId| match log {
            LogId::Channel(channel) => members.get(channel).is_some_and(Member::is_current),
            LogId::Direct { low, high, .. } => low != high,
        };
        let heads = self
            .ports
            .store
            .heads(&distinct(logs.iter().filter(|log| readable(log)).cloned()))
            .await?;
        let asked: Vec<(&LogId, u64)> = logs
            .iter()
            .zip(positions)
            .map(|(log, (_, position))| (log, *position))
            .collect();
        let mut pages = Vec::with_capacity(asked.len());
        let mut left = limits::SERVER_MESSAGE_BYTES;
        for some in asked.chunks(AT_ONCE) {
            // Pages that do not fit the answer any more are not read: a client may ask for a hundred full pages at once.
            let is_full = left == 0;
            let read = some.iter().map(|(log, position)| {
                let (head, readable) = (heads.get(*log), readable(log));
                async move {
                    match head {
                        _ if !readable => Ok(None),
                        Some(head) if is_full => self.unread(log, head, *position).await.map(Some),
                        Some(head) => self.page_after(log, head, *position).await.map(Some),
                        None => Ok(Some(nothing())),
                    }
                }
            });
            let read: Vec<Option<History>> = try_join_all(read).await?;
            let events = read.iter().flatten().flat_map(|it| &it.events);
            left = left.saturating_sub(items_bytes(events));
            pages.extend(read);
        }
        Ok(pages)
    }

    /// Returns the page of a log that is not read. It only tells if there are events after the position.
    async fn unread(&self, log: &LogId, head: &Head, position: u64) -> Result<History, Fault> {
        let last_sequence = self.reader().contiguous_end(log, head).await?;
        Ok(History {
            more: position < last_sequence,
            last_sequence,
            ..nothing()
        })
    }

    async fn page_after(&self, log: &LogId, head: &Head, position: u64) -> Result<History, Fault> {
        let range = Range::After {
            sequence: position,
            limit: limits::PAGE,
        };
        let (slice, end) = self.reader().slice(log, head, range).await?;
        let mut events = self.reader().on_the_wire(log, &slice.entries).await?;
        let first_sequence = slice
            .entries
            .first()
            .map_or(end + 1, |it| it.event.sequence);
        // If events between the position and the first retained one are gone, the page is incomplete.
        let gap = position > 0 && position + 1 < first_sequence;
        // The pages of all positions are held together, and all that is answered fits one message.
        let fit = fitting(None, events.iter());
        let more = slice.more || gap || fit < events.len();
        events.truncate(fit);
        Ok(History {
            events,
            more,
            first_sequence,
            last_sequence: end,
        })
    }

    /// Returns the destinations without a position in which a slot was allocated after `since`.
    async fn new_since(
        &self,
        subscriber: &Subscriber,
        positions: &Positions,
    ) -> Result<Vec<(Destination, u64)>, Fault> {
        let Some(since) = positions.since else {
            return Ok(Vec::new());
        };
        let known: BTreeSet<&Destination> = positions.positions.iter().map(|(it, _)| it).collect();
        let (channels, conversations) = try_join!(
            self.all_memberships(subscriber),
            self.all_conversations(subscriber),
        )?;
        let others: BTreeMap<LogId, Destination> = channels
            .into_iter()
            .chain(conversations)
            .filter(|it| !known.contains(it))
            .map(|it| (LogId::of(subscriber, &it), it))
            .collect();
        let heads = self
            .ports
            .store
            .heads(&others.keys().cloned().collect::<Vec<_>>())
            .await?;
        let mut new = Vec::new();
        for (log, head) in heads.iter().filter(|(_, head)| had_events(head, since)) {
            if let Some(destination) = others.get(log) {
                new.push((
                    destination.clone(),
                    self.reader().contiguous_end(log, head).await?,
                ));
            }
        }
        Ok(new)
    }

    /// Returns all channels that a subscriber is a member of.
    pub(crate) async fn all_memberships(
        &self,
        subscriber: &Subscriber,
    ) -> Result<Vec<Destination>, Fault> {
        let store = self.ports.store;
        let channels = pages::all(
            |after| async move {
                store
                    .memberships(subscriber, after.as_ref(), limits::PAGE)
                    .await
            },
            Clone::clone,
        )
        .await?;
        Ok(channels.into_iter().map(Destination::Channel).collect())
    }

    /// Returns all conversations of a subscriber.
    pub(crate) async fn all_conversations(
        &self,
        subscriber: &Subscriber,
    ) -> Result<Vec<Destination>, Fault> {
        let store = self.ports.store;
        let peers = pages::all(
            |after| async move {
                store
                    .conversations(subscriber, after.as_ref(), limits::PAGE)
                    .await
            },
            Clone::clone,
        )
        .await?;
        Ok(peers.into_iter().map(Destination::Subscriber).collect())
    }
}

/// Returns true if a log may have had events that the client has not seen. `since` is the last time that the client saw from
/// the service. An event of before that may still have been on its way, and may have been lost with the connection. An equal
/// time counts as later: naming a destination twice is better than never.
fn had_events(head: &Head, since: Timestamp) -> bool {
    head.allocated_at.plus(ON_ITS_WAY) >= since
}

/// The page of a conversation that has not begun.
const fn nothing() -> History {
    History {
        events: Vec::new(),
        more: false,
        first_sequence: 1,
        last_sequence: 0,
    }
}

fn distinct<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.collect::<BTreeSet<T>>().into_iter().collect()
}
