//! A device's view of one log: all events up to its position, and later events that were pushed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde_json::{Value, json};

/// A destination.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Channel(String),
    /// The peer of a conversation.
    Subscriber(String),
}

impl Place {
    /// Returns the destination of a frame or of a part of a frame.
    pub(super) fn of(frame: &Value) -> Option<Self> {
        let text = |name: &str| frame.get(name)?.as_str().map(str::to_owned);
        text("channel-id")
            .map(Self::Channel)
            .or_else(|| text("subscriber-id").map(Self::Subscriber))
    }

    /// Returns `message` with this destination.
    pub(super) fn put_into(&self, mut message: Value) -> Value {
        let (name, id) = match self {
            Self::Channel(id) => ("channel-id", id),
            Self::Subscriber(id) => ("subscriber-id", id),
        };
        if let Some(fields) = message.as_object_mut() {
            fields.insert(name.to_owned(), json!(id));
        }
        message
    }
}

/// Describes an event: a message by its id, any other event by its kind.
pub(super) fn seen(event: &Value) -> String {
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    match text("message-id") {
        // Devices send the id as content.
        Some(id) if event.get("content") == Some(&json!(id)) => id.to_owned(),
        Some(id) => format!("{id} with other content"),
        None => format!("#{}", text("kind").or(text("type")).unwrap_or_default()),
    }
}

/// The order of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Push {
    /// Its sequence is above all earlier ones on this connection.
    Next,
    /// It was pushed before on this connection.
    Repeat,
    /// It was pushed after a later one, and was not pushed before on this connection.
    OutOfOrder,
}

/// A device's view of a log.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The initial position.
    first: u64,
    events: Vec<String>,
    ahead: BTreeMap<u64, String>,
    /// True if there are events to fetch.
    pub(super) behind: bool,
    /// The sequences that were pushed over the open connection.
    pushed: BTreeSet<u64>,
    resynced: u64,
    unexplained: Option<(u64, Instant)>,
}

impl Log {
    pub(super) fn from(position: u64) -> Self {
        Self {
            first: position,
            ..Self::default()
        }
    }

    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn position(&self) -> u64 {
        self.first + u64::try_from(self.events.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn events(&self) -> &[String] {
        &self.events
    }

    /// Begins a new connection: forgets the pushes of the previous one.
    pub(super) fn begin_connection(&mut self) {
        self.pushed.clear();
        self.resynced = 0;
        self.unexplained = None;
    }

    /// Records an event. Returns false if another event is known at this sequence.
    pub(super) fn learn(&mut self, sequence: u64, seen: String) -> bool {
        if sequence <= self.first {
            return true;
        }
        if sequence <= self.position() {
            let index = usize::try_from(sequence - self.first - 1);
            return index.is_ok_and(|it| self.events.get(it) == Some(&seen));
        }
        let agrees = self.ahead.get(&sequence).is_none_or(|it| *it == seen);
        self.ahead.entry(sequence).or_insert(seen);
        while let Some(next) = self.ahead.remove(&(self.position() + 1)) {
            self.events.push(next);
        }
        agrees
    }

    /// Records a push and returns its order.
    pub(super) fn pushed(&mut self, sequence: u64) -> Push {
        let last = self.pushed.last().copied().unwrap_or(0);
        match self.pushed.insert(sequence) {
            true if sequence > last => Push::Next,
            true => Push::OutOfOrder,
            false => Push::Repeat,
        }
    }

    /// Records a `resync`.
    pub(super) fn resync(&mut self, last: u64) {
        self.resynced = self.resynced.max(last);
        self.behind |= last > self.position();
        if self.unexplained.is_some_and(|(gap, _)| gap <= last) {
            self.unexplained = None;
        }
    }

    /// Records and returns if an event before the last push is missing. Call it only while no answer is awaited, because
    /// answers deliver the device's own messages.
    pub(super) fn notice_gap(&mut self) -> bool {
        let missing = self.position() + 1;
        let gap = self.pushed.last().is_some_and(|it| *it > missing);
        if gap {
            self.behind = true;
            if self.resynced < missing {
                self.unexplained.get_or_insert((missing, Instant::now()));
            }
        }
        gap
    }

    /// Returns the first missing sequence of a gap that no `resync` has explained yet, and when the gap was found.
    pub(super) const fn unexplained(&self) -> Option<(u64, Instant)> {
        self.unexplained
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resync_explains_gap() {
        let mut log = Log::from(4);
        assert_eq!(log.pushed(5), Push::Next);
        assert!(log.learn(5, "a".into()) && !log.notice_gap());
        assert_eq!(log.pushed(8), Push::Next);
        assert!(log.learn(8, "d".into()) && log.notice_gap());
        assert_eq!(log.unexplained().map(|it| it.0), Some(6));
        log.resync(7);
        assert!(log.unexplained().is_none() && log.behind);
        assert!(log.learn(7, "c".into()) && log.learn(6, "b".into()));
        assert_eq!((log.position(), log.events().len()), (8, 4));
        assert!(!log.notice_gap());
    }

    #[test]
    fn differing_and_late_events_are_found() {
        let mut log = Log::from(0);
        assert!(log.learn(1, "a".into()) && log.learn(1, "a".into()));
        assert!(!log.learn(1, "b".into()));
        assert!(log.learn(3, "c".into()) && !log.learn(3, "d".into()));
        log.pushed(1);
        log.pushed(3);
        assert_eq!(log.pushed(3), Push::Repeat);
        assert_eq!(log.pushed(2), Push::OutOfOrder);
        log.begin_connection();
        assert_eq!(log.pushed(2), Push::Next);
    }

    #[test]
    fn other_content_is_another_event() {
        assert_eq!(seen(&json!({ "message-id": "m", "content": "m" })), "m");
        assert_ne!(seen(&json!({ "message-id": "m", "content": "x" })), "m");
        assert_eq!(seen(&json!({ "kind": "void" })), "#void");
        assert_eq!(
            seen(&json!({ "type": "subscriber-left" })),
            "#subscriber-left"
        );
    }
}
