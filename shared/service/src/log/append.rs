//! Appending a message: a slot, the idempotency record that makes a repeat the same event, then the event.
//!
//! A member may be removed while its message is on its way. Once its slot lies after the removal's, it must not fill it. The
//! allocation of a removal's slots notes the time in the head, and every later allocation returns the head. So a message that
//! takes a slot soon after a removal waits until all earlier slots are filled or voided, and reads its sender's row again. By
//! then each removal with an earlier slot has taken place or never will.
//!
//! | the function dies after | what is left | who repairs it |
//! |---|---|---|
//! | the slot | a gap | the next reader or drain voids the slot after a second |
//! | the idempotency record | a record without its event, and a gap | a repeat puts the event into the record's slot. If the slot was voided, the repeat takes a new one |
//! | the event | an event that was not pushed | the lease ends, and the next writer, reader or expiry run drains the log |

use core::time::Duration;

use futures::join;
use protocol::{
    Code, ConnectionId, Event, EventBody, Json, LogId, MessageId, Rejection, Subscriber, Timestamp,
    change::LogEntry, decision::Draft, digest::sha256_hex,
};

use super::{
    history::LogReader,
    slots::{Allocated, LogWork},
};
use crate::{
    Store,
    parts::part,
    ports::{
        AllocateError, Allocation, Environment, Fault, Head, IdempotencyRecord, Measure, Page,
        Receiver, Workers,
    },
    retry::STORE,
};

/// Receivers that are read while a message is stored: few enough that the answer does not wait for them.
const READ_AHEAD: usize = 200;

/// How long after a removal took its slots it may still be under way: longer than any function runs, and the difference of two
/// clocks.
const REMOVAL: Duration = Duration::from_secs(60);

part! {
    /// Appends messages to logs.
    Appender
}

/// A message in its log.
#[derive(Clone, Debug)]
pub(crate) struct Appended {
    pub(crate) message_id: MessageId,
    pub(crate) sequence: u64,
    pub(crate) timestamp: Timestamp,
    /// True if an earlier try had stored the message.
    pub(crate) duplicate: bool,
}

/// Why a message was not appended.
#[derive(Debug)]
pub(crate) enum NotAppended {
    /// The message is refused, and the client learns why.
    Rejected(Rejection),
    /// The store failed for good.
    Fault(Fault),
}

impl From<Fault> for NotAppended {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What appending a message did.
#[derive(Debug)]
pub(crate) struct AppendReport {
    pub(crate) outcome: Result<Appended, NotAppended>,
    /// What was left in the log, whatever the outcome: the lease may have come with a slot.
    pub(crate) work: LogWork,
}

/// A message that is to be appended.
pub(crate) struct Message<'a> {
    pub(crate) sender: &'a Subscriber,
    /// The connection that sent it. It gets the response instead of the push.
    pub(crate) origin: Option<&'a ConnectionId>,
    pub(crate) draft: &'a Draft,
    /// The idempotency record that was found under the message's id, if the client chose one.
    pub(crate) record: Option<IdempotencyRecord>,
    /// The function that takes the lease if it is free.
    pub(crate) holder: &'a str,
}

/// What an idempotency record of an earlier try means.
enum Earlier {
    /// The message is in the log.
    Stored(LogEntry),
    /// The message is not in the log, because its slot was voided.
    Lost,
}

/// The result of setting an idempotency record.
enum RecordOutcome {
    Set,
    /// A repeat of the message was faster. This is its record.
    Other(IdempotencyRecord),
}

impl<S: Store, G, W: Workers, E: Environment> Appender<'_, S, G, W, E> {
    /// Appends a message, once for each message id.
    ///
    /// # Cost
    /// Three writes of one unit for each KiB (slot, event, and later the release of the lease), four with a message id.
    pub(crate) async fn append(&self, message: &Message<'_>) -> AppendReport {
        let environment = self.ports.environment;
        let nonce = environment.fresh_id();
        let message_id = match &message.draft.message_id {
            Some(id) => id.clone(),
            None => match MessageId::parse(&environment.fresh_id()) {
                Ok(id) => id,
                Err(rejection) => {
                    return AppendReport {
                        outcome: Err(NotAppended::Rejected(rejection)),
                        work: LogWork::Nothing,
                    };
                }
            },
        };
        let mut appending = Appending {
            message,
            message_id,
            content_hash: sha256_hex(message.draft.content.canonical().as_bytes()),
            nonce,
            allocated: None,
        };
        let outcome = self.append_once(&mut appending).await;
        let work = match appending.allocated {
            None => LogWork::Nothing,
            Some(allocated) => LogWork::Allocated {
                log: message.draft.log.clone(),
                entries: allocated.entry.iter().cloned().collect(),
                allocated: Box::new(allocated),
            },
        };
        AppendReport { outcome, work }
    }

    async fn append_once(&self, appending: &mut Appending<'_>) -> Result<Appended, NotAppended> {
        let Message {
            draft,
            record,
            holder,
            ..
        } = appending.message;
        let has_id = draft.message_id.is_some();
        // The idempotency record that stands for this message now, if the client chose its id.
        let mut standing = record.clone();
        if let Some(record) = &standing
            && let Earlier::Stored(entry) = self.earlier(appending, record).await?
        {
            return Ok(appending.appended(&entry, true));
        }
        let mut attempt = 0;
        loop {
            // 1. A slot at the end of the log.
            let head = self.slot(&draft.log, holder).await?;
            let (sequence, timestamp) = (head.sequence, head.allocated_at);
            let slot = Allocated::from(head);
            appending.allocated = Some(slot.clone());
            if !self.may_still_write(appending.message, &slot.head).await? {
                LogReader::of(self.ports)
                    .void_slot(&draft.log, sequence)
                    .await?;
                return Err(NotAppended::Rejected(Rejection::no_channel()));
            }

            // 2. The idempotency record that names the slot.
            let record = appending.record(sequence, timestamp);
            if has_id
                && let RecordOutcome::Other(other) = self
                    .set_record(appending, standing.as_ref(), &record)
                    .await?
            {
                // A repeat was faster, so the slot stays unused.
                LogReader::of(self.ports)
                    .void_slot(&draft.log, sequence)
                    .await?;
                if let Earlier::Stored(entry) = self.earlier(appending, &other).await? {
                    return Ok(appending.appended(&entry, true));
                }
                standing = Some(other);
                attempt += 1;
                if STORE.pause(attempt, "").is_none() {
                    return Err(NotAppended::Rejected(Rejection::busy()));
                }
                continue;
            }

            // 3. The event. Its receivers are read at the same time.
            let entry = appending.entry(sequence, timestamp, appending.nonce.clone());
            let (put, ahead) = join!(
                self.put(&draft.log, &entry),
                self.read_ahead(&draft.log, &slot.head, holder)
            );
            if put? {
                let appended = appending.appended(&entry, false);
                appending.allocated = Some(Allocated {
                    entry: Some(entry),
                    ahead,
                    ..slot
                });
                return Ok(appended);
            }

            // This function was so slow that a reader voided the slot.
            self.ports.environment.measure(Measure::Conflict);
            standing = has_id.then_some(record);
            let Some(pause) = STORE.pause(attempt, &appending.nonce) else {
                return Err(NotAppended::Rejected(Rejection::busy()));
            };
            self.ports.environment.sleep(pause).await;
            attempt += 1;
        }
    }

    /// Takes a slot at the end of the log, and returns the head as the allocation left it. Creates the log of a conversation
    /// with its first message.
    async fn slot(&self, log: &LogId, holder: &str) -> Result<Head, NotAppended> {
        let store = self.ports.store;
        let mut attempt = 0;
        loop {
            let allocation = Allocation {
                count: 1,
                at: self.ports.environment.now(),
                lease: self.ports.lease(holder),
                close: false,
                removal: false,
            };
            match store.allocate(log, &allocation).await {
                Ok(head) => return Ok(head),
                Err(AllocateError::NotActive) => match log {
                    LogId::Direct { .. } if attempt < STORE.retries => {
                        store.create_direct(log, allocation.at).await?;
                        attempt += 1;
                    }
                    _ => return Err(NotAppended::Rejected(Rejection::no_channel())),
                },
                // If the answer was lost, a slot may have been taken. It stays a gap and is voided.
                Err(AllocateError::Fault(fault)) => {
                    self.ports.retry_store(&mut attempt, holder, fault).await?;
                }
            }
        }
    }

    /// Returns false if the sender was removed from the channel by a change whose slot lies before the last one of `head`.
    ///
    /// # Cost
    /// Nothing, unless a member was removed in the last minute: then one read of the entries that are not pushed yet, and one of
    /// the sender's row.
    async fn may_still_write(&self, message: &Message<'_>, head: &Head) -> Result<bool, Fault> {
        let LogId::Channel(channel) = &message.draft.log else {
            return Ok(true);
        };
        let now = self.ports.environment.now();
        if head
            .removal_at
            .is_none_or(|removal| removal.plus(REMOVAL) < now)
        {
            return Ok(true);
        }
        let earlier = Head {
            sequence: head.sequence - 1,
            ..head.clone()
        };
        LogReader::of(self.ports)
            .contiguous_end(&message.draft.log, &earlier)
            .await?;
        let row = self.ports.store.member(channel, &message.sender.id).await?;
        Ok(row.is_some_and(|row| row.is_current()))
    }

    /// Sets the message's idempotency record to `new`, in place of `old` if there is one.
    async fn set_record(
        &self,
        appending: &Appending<'_>,
        old: Option<&IdempotencyRecord>,
        new: &IdempotencyRecord,
    ) -> Result<RecordOutcome, Fault> {
        let store = self.ports.store;
        let Message { sender, draft, .. } = appending.message;
        let (log, sender, id) = (&draft.log, &sender.id, &appending.message_id);
        let mut attempt = 0;
        loop {
            let outcome = match old {
                None => store.set_idempotency_record(log, sender, id, new).await,
                Some(old) => match store
                    .replace_idempotency_record(log, sender, id, old, new)
                    .await
                {
                    Ok(true) => Ok(Ok(())),
                    Ok(false) => match store.idempotency_record(log, sender, id).await? {
                        Some(other) => Ok(Err(other)),
                        None => Err(Fault::Conflict),
                    },
                    Err(fault) => Err(fault),
                },
            };
            match outcome {
                Ok(Ok(())) => return Ok(RecordOutcome::Set),
                // An earlier try took place although its answer was lost.
                Ok(Err(other)) if other == *new => return Ok(RecordOutcome::Set),
                Ok(Err(other)) => return Ok(RecordOutcome::Other(other)),
                Err(fault) => {
                    self.ports
                        .retry_store(&mut attempt, &new.nonce, fault)
                        .await?;
                }
            }
        }
    }

    /// Puts an entry into its slot. Returns false if the slot holds another entry.
    async fn put(&self, log: &LogId, entry: &LogEntry) -> Result<bool, Fault> {
        let mut attempt = 0;
        loop {
            match self.ports.store.put_entry(log, entry).await {
                Ok(Ok(())) => return Ok(true),
                // With the same nonce, an earlier try took place although its answer was lost.
                Ok(Err(other)) => return Ok(other.nonce == entry.nonce),
                Err(fault) => {
                    self.ports
                        .retry_store(&mut attempt, &entry.nonce, fault)
                        .await?;
                }
            }
        }
    }

    /// Reads the first receivers of a channel's message while the message is put into the slot that `holder` just took.
    ///
    /// That is only right if the message is the next one to push. Then all events before it have taken place, so every earlier
    /// joining is among the members that are read. Returns `None` otherwise and after a fault: the drain then reads them.
    async fn read_ahead(&self, log: &LogId, head: &Head, holder: &str) -> Option<Page<Receiver>> {
        let LogId::Channel(channel) = log else {
            return None;
        };
        let lease = head.lease.as_ref()?;
        if lease.holder != holder || head.sent + 1 != head.sequence {
            return None;
        }
        let receivers = self.ports.store.receivers(channel, None, READ_AHEAD);
        receivers.await.ok()
    }

    /// Returns what the idempotency record of an earlier try stands for.
    ///
    /// If its writer died before it put the event, or has not put it yet, this puts the event under the writer's nonce. Then
    /// both of them succeed.
    async fn earlier(
        &self,
        appending: &Appending<'_>,
        record: &IdempotencyRecord,
    ) -> Result<Earlier, NotAppended> {
        if record.content_hash != appending.content_hash {
            return Err(NotAppended::Rejected(Rejection::new(
                Code::Conflict,
                "this `message-id` was used with other content",
            )));
        }
        let entry = appending.entry(record.sequence, record.at, record.nonce.clone());
        let log = &appending.message.draft.log;
        match self.ports.store.entry(log, record.sequence).await? {
            Some(stored) if stored.nonce == record.nonce => Ok(Earlier::Stored(stored)),
            Some(_) => Ok(Earlier::Lost),
            None if self.put(log, &entry).await? => Ok(Earlier::Stored(entry)),
            None => Ok(Earlier::Lost),
        }
    }
}

/// A message on its way into the log.
struct Appending<'a> {
    message: &'a Message<'a>,
    message_id: MessageId,
    content_hash: String,
    nonce: String,
    /// The slot that was taken last.
    allocated: Option<Allocated>,
}

impl Appending<'_> {
    fn record(&self, sequence: u64, at: Timestamp) -> IdempotencyRecord {
        IdempotencyRecord {
            sequence,
            content_hash: self.content_hash.clone(),
            nonce: self.nonce.clone(),
            at,
        }
    }

    fn entry(&self, sequence: u64, timestamp: Timestamp, nonce: String) -> LogEntry {
        let Draft {
            content,
            attributes,
            ..
        } = self.message.draft;
        let (content, attributes): (Json, Option<Json>) = (content.clone(), attributes.clone());
        LogEntry {
            event: Event {
                sequence,
                timestamp,
                body: EventBody::Message {
                    message_id: self.message_id.clone(),
                    from: self.message.sender.id.clone(),
                    content,
                    attributes,
                },
            },
            nonce,
            origin: self.message.origin.cloned(),
        }
    }

    fn appended(&self, entry: &LogEntry, duplicate: bool) -> Appended {
        Appended {
            message_id: self.message_id.clone(),
            sequence: entry.event.sequence,
            timestamp: entry.event.timestamp,
            duplicate,
        }
    }
}
