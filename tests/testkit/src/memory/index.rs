//! A sparse index that lags behind its items.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use protocol::Timestamp;

/// Items by partition. An item is in at most one partition.
#[derive(Debug)]
pub(super) struct Index<P, I> {
    partitions: BTreeMap<P, BTreeSet<I>>,
    places: BTreeMap<I, P>,
    behind: VecDeque<(Timestamp, I, Option<P>)>,
    later: Timestamp,
}

impl<P, I> Default for Index<P, I> {
    fn default() -> Self {
        Self {
            partitions: BTreeMap::new(),
            places: BTreeMap::new(),
            behind: VecDeque::new(),
            later: Timestamp::default(),
        }
    }
}

impl<P: Copy + Ord, I: Clone + Ord> Index<P, I> {
    /// Applies the updates due at `now`. Later writes become visible at `later`.
    pub(super) fn at(&mut self, now: Timestamp, later: Timestamp) {
        self.later = later;
        while let Some((_, item, partition)) = self.behind.pop_front_if(|(at, ..)| *at <= now) {
            if let Some(old) = self.places.remove(&item)
                && let Some(items) = self.partitions.get_mut(&old)
            {
                items.remove(&item);
            }
            if let Some(new) = partition {
                self.places.insert(item.clone(), new);
                self.partitions.entry(new).or_default().insert(item);
            }
        }
    }

    /// Moves `item` to this partition from `later` on, or removes it if the partition is `None`.
    pub(super) fn put(&mut self, item: I, partition: Option<P>) {
        self.behind.push_back((self.later, item, partition));
    }

    /// The items of a partition, in order.
    pub(super) fn partition(&self, partition: P) -> Option<&BTreeSet<I>> {
        self.partitions.get(&partition)
    }
}
