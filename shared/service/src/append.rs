//! Appending a message: a place, the marker that makes a repeat one event, the event.
//!
//! | dies after | what lies there | who mends it |
//! |---|---|---|
//! | the place | a hole | whoever reads or drains past it closes it with a void entry after a second |
//! | the marker | a marker without its event, and a hole | a repeat puts the event at the marker's place; or the hole was closed, then the repeat takes a new place |
//! | the event | an event nobody has pushed | the lease ends, and the next writer, reader or the sweep drains |

use futures::join;
use protocol::{
    Code, ConnectionId, Event, EventBody, Json, LogId, MessageId, Rejection, Subscriber, Timestamp,
    change::LogEntry, decide::Draft, digest::sha256_hex,
};

use crate::{
    ATTEMPTS, Service, Store, backoff,
    ports::{
        AllocateError, Allocation, Environment, Fault, Head, Marker, Measure, Page, Receiver,
        Workers,
    },
};

/// Receivers that are read while a message is stored: no more than the answer can wait for, and enough to begin with.
const AHEAD: usize = 200;

/// A message in its log.
#[derive(Clone, Debug)]
pub(crate) struct Appended {
    /// The message.
    pub(crate) message_id: MessageId,
    /// Its place.
    pub(crate) sequence: u64,
    /// When it was sent.
    pub(crate) timestamp: Timestamp,
    /// Whether it was there before.
    pub(crate) duplicate: bool,
}

/// A place that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Allocated {
    /// The head as the allocation left it.
    pub(crate) head: Head,
    /// The event, if it was put at the place.
    pub(crate) entry: Option<LogEntry>,
    /// The first of those to whom the event goes, if they were read while it was put there.
    pub(crate) ahead: Option<Page<Receiver>>,
}

impl From<Head> for Allocated {
    fn from(head: Head) -> Self {
        Self {
            head,
            entry: None,
            ahead: None,
        }
    }
}

/// Why nothing was appended.
#[derive(Debug)]
pub(crate) enum NotAppended {
    /// The client is told.
    Rejected(Rejection),
    /// The store failed for good.
    Fault(Fault),
}

impl From<Fault> for NotAppended {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What a marker that is there already means.
enum Earlier {
    /// The message is in the log.
    Stored(LogEntry),
    /// It never came to be: the place went to somebody else.
    Lost,
}

impl<S: Store, G, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Appends a message, once for each message id. The last place that was taken stands in `allocated`, whatever the
    /// outcome: `holder` may have got the lease with it, and then has to drain.
    ///
    /// # Cost
    /// Three writes of one unit for each KiB (place, event, and later the release of the lease), four with a message id.
    pub(crate) async fn append(
        &self,
        sender: &Subscriber,
        origin: Option<&ConnectionId>,
        draft: &Draft,
        known_marker: Option<Marker>,
        holder: &str,
        allocated: &mut Option<Allocated>,
    ) -> Result<Appended, NotAppended> {
        let content_hash = sha256_hex(draft.content.canonical().as_bytes());
        let nonce = self.environment.fresh_id();
        let message_id = match &draft.message_id {
            Some(id) => id.clone(),
            None => {
                MessageId::parse(&self.environment.fresh_id()).map_err(NotAppended::Rejected)?
            }
        };
        let message = Message {
            draft,
            sender,
            origin,
            message_id: &message_id,
        };
        // The marker that stands for this message now, if the client named it.
        let mut standing = known_marker;
        if let Some(marker) = &standing
            && let Earlier::Stored(entry) = self.earlier(&message, &content_hash, marker).await?
        {
            return Ok(appended(&message_id, &entry, true));
        }
        for attempt in 0..ATTEMPTS {
            let place = self.place(&draft.log, holder).await?;
            let sequence = place.head.sequence;
            let timestamp = place.head.allocated_at;
            *allocated = Some(place.clone());
            let marker = Marker {
                sequence,
                content_hash: content_hash.clone(),
                nonce: nonce.clone(),
                at: timestamp,
            };
            if draft.message_id.is_some()
                && let Some(other) = self.mark(&message, standing.as_ref(), &marker).await?
            {
                // A repeat was faster. Our place will not be used.
                self.close_hole(&draft.log, sequence).await?;
                if let Earlier::Stored(entry) =
                    self.earlier(&message, &content_hash, &other).await?
                {
                    return Ok(appended(&message_id, &entry, true));
                }
                standing = Some(other);
                continue;
            }
            let entry = message.entry(sequence, timestamp, nonce.clone());
            let (put, ahead) = join!(
                self.put(&draft.log, &entry),
                self.ahead(&draft.log, &place.head, holder)
            );
            if put? {
                if let Some(allocated) = allocated.as_mut() {
                    allocated.entry = Some(entry.clone());
                    allocated.ahead = ahead;
                }
                return Ok(appended(&message_id, &entry, false));
            }
            // We were so slow that the place was closed as a hole.
            self.environment.measure(Measure::Conflict);
            standing = draft.message_id.is_some().then_some(marker);
            self.environment.sleep(backoff(attempt, &nonce)).await;
        }
        Err(NotAppended::Rejected(Rejection::busy()))
    }

    /// A place at the end of the log; a conversation's log is made with its first message.
    async fn place(&self, log: &LogId, holder: &str) -> Result<Allocated, NotAppended> {
        let mut attempt = 0;
        loop {
            let allocation = Allocation {
                count: 1,
                at: self.environment.now(),
                lease: self.lease(holder),
                close: false,
            };
            match self.store.allocate(log, &allocation).await {
                Ok(head) => return Ok(head.into()),
                Err(AllocateError::NotActive) => match log {
                    LogId::Direct { .. } if attempt < ATTEMPTS => {
                        self.store.create_direct(log, allocation.at).await?;
                    }
                    _ => return Err(NotAppended::Rejected(Rejection::no_channel())),
                },
                Err(AllocateError::Fault(fault @ Fault::Corrupt(_))) => return Err(fault.into()),
                Err(AllocateError::Fault(fault)) if attempt >= ATTEMPTS => return Err(fault.into()),
                // A place that was taken and whose answer was lost becomes a hole, and is closed as one.
                Err(AllocateError::Fault(_)) => {
                    self.environment.sleep(backoff(attempt, holder)).await;
                }
            }
            attempt += 1;
        }
    }

    /// Sets the message's marker to `new`; the one of a repeat that was faster.
    async fn mark(
        &self,
        message: &Message<'_>,
        old: Option<&Marker>,
        new: &Marker,
    ) -> Result<Option<Marker>, Fault> {
        let (log, sender, id) = (&message.draft.log, &message.sender.id, message.message_id);
        let mut attempt = 0;
        loop {
            let outcome = match old {
                None => self.store.set_marker(log, sender, id, new).await,
                Some(old) => match self.store.replace_marker(log, sender, id, old, new).await {
                    Ok(true) => Ok(Ok(())),
                    Ok(false) => match self.store.marker(log, sender, id).await? {
                        Some(other) => Ok(Err(other)),
                        None => Err(Fault::Conflict),
                    },
                    Err(fault) => Err(fault),
                },
            };
            match outcome {
                Ok(Ok(())) => return Ok(None),
                // Ours: an earlier try had taken place although its answer was lost.
                Ok(Err(other)) if other == *new => return Ok(None),
                Ok(Err(other)) => return Ok(Some(other)),
                Err(fault) => self.again(&mut attempt, &new.nonce, fault).await?,
            }
        }
    }

    /// Puts an entry; false if another stands at its place.
    pub(crate) async fn put(&self, log: &LogId, entry: &LogEntry) -> Result<bool, Fault> {
        let mut attempt = 0;
        loop {
            match self.store.put_entry(log, entry).await {
                Ok(Ok(())) => return Ok(true),
                // Ours: an earlier try had taken place although its answer was lost.
                Ok(Err(other)) => return Ok(other.nonce == entry.nonce),
                Err(fault) => self.again(&mut attempt, &entry.nonce, fault).await?,
            }
        }
    }

    /// The first of those to whom a channel's message goes, read while it is put at the place that `holder` has just taken.
    /// Only if that is the next one to be pushed: then the events before it have taken place, and with them who joined. None
    /// also after a fault: who drains reads them again.
    async fn ahead(&self, log: &LogId, head: &Head, holder: &str) -> Option<Page<Receiver>> {
        let LogId::Channel(channel) = log else {
            return None;
        };
        let lease = head.lease.as_ref()?;
        if lease.holder != holder || head.sent + 1 != head.sequence {
            return None;
        }
        self.store.receivers(channel, None, AHEAD).await.ok()
    }

    /// What the marker of an earlier try stands for. If its writer died before the event, or has not come to it yet, the
    /// event is put for it, under its own nonce, so that both of us succeed.
    async fn earlier(
        &self,
        message: &Message<'_>,
        content_hash: &str,
        marker: &Marker,
    ) -> Result<Earlier, NotAppended> {
        if marker.content_hash != content_hash {
            return Err(NotAppended::Rejected(Rejection::new(
                Code::Conflict,
                "this `message-id` was used with other content",
            )));
        }
        let entry = message.entry(marker.sequence, marker.at, marker.nonce.clone());
        let log = &message.draft.log;
        match self.store.entry(log, marker.sequence).await? {
            Some(stored) if stored.nonce == marker.nonce => Ok(Earlier::Stored(stored)),
            Some(_) => Ok(Earlier::Lost),
            None if self.put(log, &entry).await? => Ok(Earlier::Stored(entry)),
            None => Ok(Earlier::Lost),
        }
    }

    /// Waits before another try, or gives up.
    pub(crate) async fn again(
        &self,
        attempt: &mut u32,
        salt: &str,
        fault: Fault,
    ) -> Result<(), Fault> {
        if *attempt >= ATTEMPTS || matches!(fault, Fault::Corrupt(_)) {
            return Err(fault);
        }
        self.environment.sleep(backoff(*attempt, salt)).await;
        *attempt += 1;
        Ok(())
    }
}

/// A message on its way into the log.
struct Message<'a> {
    draft: &'a Draft,
    sender: &'a Subscriber,
    origin: Option<&'a ConnectionId>,
    message_id: &'a MessageId,
}

impl Message<'_> {
    fn entry(&self, sequence: u64, timestamp: Timestamp, nonce: String) -> LogEntry {
        let Draft {
            content,
            attributes,
            ..
        } = self.draft;
        let (content, attributes): (Json, Option<Json>) = (content.clone(), attributes.clone());
        LogEntry {
            event: Event {
                sequence,
                timestamp,
                body: EventBody::Message {
                    message_id: self.message_id.clone(),
                    from: self.sender.id.clone(),
                    content,
                    attributes,
                },
            },
            nonce,
            origin: self.origin.cloned(),
        }
    }
}

fn appended(message_id: &MessageId, entry: &LogEntry, duplicate: bool) -> Appended {
    Appended {
        message_id: message_id.clone(),
        sequence: entry.event.sequence,
        timestamp: entry.event.timestamp,
        duplicate,
    }
}
