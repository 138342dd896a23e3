//! What a device knows of one log: everything up to its position, and what it was told beyond.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde_json::{Value, json};

/// A destination.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A channel.
    Channel(String),
    /// The peer of a conversation.
    Subscriber(String),
}

impl Place {
    /// Of a frame, or of a part of one.
    pub(super) fn of(frame: &Value) -> Option<Self> {
        let text = |name: &str| frame.get(name)?.as_str().map(str::to_owned);
        text("channel-id")
            .map(Self::Channel)
            .or_else(|| text("subscriber-id").map(Self::Subscriber))
    }

    /// `message` with this destination.
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

/// What stands at a sequence: a message by its id, anything else by its kind.
pub(super) fn seen(event: &Value) -> String {
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    match text("message-id") {
        // The devices send the id as content.
        Some(id) if event.get("content") == Some(&json!(id)) => id.to_owned(),
        Some(id) => format!("{id} with other content"),
        None => format!("#{}", text("kind").or(text("type")).unwrap_or_default()),
    }
}

/// What a push was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Push {
    /// The next one.
    Next,
    /// Told before on this connection.
    Repeat,
    /// Behind a later one, and not told before on this connection.
    OutOfOrder,
}

/// A log as a device knows it.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The position that it began with.
    first: u64,
    events: Vec<String>,
    ahead: BTreeMap<u64, String>,
    /// There is more to be fetched.
    pub(super) behind: bool,
    /// What was pushed over the connection that is open.
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

    /// A new connection: what was pushed before says nothing about it.
    pub(super) fn begin_connection(&mut self) {
        self.pushed.clear();
        self.resynced = 0;
        self.unexplained = None;
    }

    /// Takes note of an event; false if something else stands there.
    pub(super) fn learn(&mut self, sequence: u64, seen: String) -> bool {
        if sequence <= self.first {
            return true;
        }
        if sequence <= self.position() {
            let place = usize::try_from(sequence - self.first - 1);
            return place.is_ok_and(|it| self.events.get(it) == Some(&seen));
        }
        let agrees = self.ahead.get(&sequence).is_none_or(|it| *it == seen);
        self.ahead.entry(sequence).or_insert(seen);
        while let Some(next) = self.ahead.remove(&(self.position() + 1)) {
            self.events.push(next);
        }
        agrees
    }

    /// In which order a push came.
    pub(super) fn pushed(&mut self, sequence: u64) -> Push {
        let last = self.pushed.last().copied().unwrap_or(0);
        match self.pushed.insert(sequence) {
            true if sequence > last => Push::Next,
            true => Push::OutOfOrder,
            false => Push::Repeat,
        }
    }

    /// A `resync` was told.
    pub(super) fn resync(&mut self, last: u64) {
        self.resynced = self.resynced.max(last);
        self.behind |= last > self.position();
        if self.unexplained.is_some_and(|(gap, _)| gap <= last) {
            self.unexplained = None;
        }
    }

    /// Whether something before what was pushed is not known. Only to be asked while no answer is awaited: one's own
    /// messages are told by their answers.
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

    /// A gap that no `resync` has followed yet: what is missing, and since when.
    pub(super) const fn unexplained(&self) -> Option<(u64, Instant)> {
        self.unexplained
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_noticed_and_a_resync_explains_it() {
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
    fn what_differs_or_comes_late_is_found() {
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
