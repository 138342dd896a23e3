//! The open connections and their ordered queues.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::event::Peer;
use crate::ids;

/// How many bytes may be queued for a slow client. AWS does not document its own limit.
const LARGEST_QUEUE: usize = 1024 * 1024;

/// The bytes that each message costs in the queue beyond its text.
const OVERHEAD: usize = 64;

/// The handle of an open connection for the rest of the gateway.
#[derive(Debug)]
pub struct Connection {
    pub peer: Peer,
    queue: mpsc::UnboundedSender<Command>,
    /// Announces a close outside the queue, because a client that reads nothing blocks the queue.
    closes: Mutex<Option<oneshot::Sender<Closing>>>,
    queued: AtomicUsize,
    last_active_ms: AtomicI64,
}

/// A command to the task of a connection.
#[derive(Debug)]
pub enum Command {
    /// Send this text frame.
    Send(Utf8Bytes),
    /// Close with this status, after the frames queued before.
    Close(Closing),
}

/// The receivers of a connection's task.
#[derive(Debug)]
pub struct Orders {
    pub commands: mpsc::UnboundedReceiver<Command>,
    /// Announces that a close is in the queue.
    pub closes: oneshot::Receiver<Closing>,
}

/// A close status and its reason, which the `$disconnect` event also contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The status code of RFC 6455.
    pub code: u16,
    pub reason: String,
}

impl Closing {
    /// Returns a status with a reason.
    #[must_use]
    pub fn new(code: u16, reason: &str) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
        }
    }
}

/// Why a message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostError {
    /// The connection has ended.
    Gone,
    /// The client reads too slowly.
    Full,
}

impl Connection {
    /// Returns a connection and the receivers of its task.
    #[must_use]
    pub fn new(peer: Peer) -> (Arc<Self>, Orders) {
        let (queue, commands) = mpsc::unbounded_channel();
        let (closes, closed) = oneshot::channel();
        let connection = Self {
            peer,
            queue,
            closes: Mutex::new(Some(closes)),
            queued: AtomicUsize::new(0),
            last_active_ms: AtomicI64::new(ids::now_ms()),
        };
        let orders = Orders {
            commands,
            closes: closed,
        };
        (Arc::new(connection), orders)
    }

    /// Queues a text frame after those queued before.
    ///
    /// # Errors
    /// Fails if the connection has ended or the queue is full.
    pub fn post(&self, text: Utf8Bytes) -> Result<(), PostError> {
        let cost = text.len() + OVERHEAD;
        let before = self.queued.fetch_add(cost, Ordering::Relaxed);
        if before + cost > LARGEST_QUEUE {
            self.queued.fetch_sub(cost, Ordering::Relaxed);
            return Err(PostError::Full);
        }
        self.touch();
        self.queue
            .send(Command::Send(text))
            .map_err(|_| PostError::Gone)
    }

    /// Records that a frame of `length` bytes has left the queue.
    pub fn taken(&self, length: usize) {
        self.queued.fetch_sub(length + OVERHEAD, Ordering::Relaxed);
    }

    /// Closes the connection after the queued frames. If the client does not read them, closes it a little later
    /// anyway.
    pub fn close(&self, closing: Closing) {
        let mut closes = self.closes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(closes) = closes.take() {
            let _ = closes.send(closing.clone());
        }
        let _ = self.queue.send(Command::Close(closing));
    }

    /// Records traffic in either direction.
    pub fn touch(&self) {
        self.last_active_ms.store(ids::now_ms(), Ordering::Relaxed);
    }

    /// Returns the time of the last message in either direction, in milliseconds since the epoch.
    #[must_use]
    pub fn last_active_ms(&self) -> i64 {
        self.last_active_ms.load(Ordering::Relaxed)
    }
}

/// All open connections by id.
#[derive(Debug, Default)]
pub struct Registry {
    connections: RwLock<HashMap<String, Arc<Connection>>>,
}

impl Registry {
    /// Adds a connection, which `@connections` can then find.
    pub fn insert(&self, connection: Arc<Connection>) {
        let id = connection.peer.connection_id.clone();
        let mut connections = self
            .connections
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        connections.insert(id, connection);
    }

    /// Returns the connection with this id, if it is open.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<Connection>> {
        let connections = self
            .connections
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        connections.get(id).cloned()
    }

    /// Removes a connection, which is gone from then on. Returns it only the first time.
    pub fn remove(&self, id: &str) -> Option<Arc<Connection>> {
        let mut connections = self
            .connections
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        connections.remove(id)
    }

    /// Closes all connections.
    pub fn close_all(&self, closing: &Closing) {
        let connections = self
            .connections
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        for connection in connections.values() {
            connection.close(closing.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_queue_refuses_until_drained() {
        let (connection, mut orders) = Connection::new(Peer::default());
        let text = Utf8Bytes::from("x".repeat(128 * 1024));
        let mut accepted = 0;
        while connection.post(text.clone()).is_ok() {
            accepted += 1;
        }
        assert_eq!(accepted, 7);
        assert_eq!(connection.post(text.clone()), Err(PostError::Full));
        let Ok(Command::Send(first)) = orders.commands.try_recv() else {
            panic!("the first message is queued");
        };
        connection.taken(first.len());
        assert_eq!(connection.post(text.clone()), Ok(()));
        drop(orders);
        connection.taken(text.len());
        assert_eq!(connection.post(text), Err(PostError::Gone));
    }

    #[test]
    fn removed_connection_is_gone() {
        let registry = Registry::default();
        let peer = Peer {
            connection_id: "a=".to_owned(),
            ..Peer::default()
        };
        let (connection, mut orders) = Connection::new(peer);
        assert!(registry.find("a=").is_none());
        registry.insert(connection);
        registry.close_all(&Closing::new(1012, ""));
        assert!(matches!(orders.commands.try_recv(), Ok(Command::Close(_))));
        assert!(orders.closes.try_recv().is_ok(), "also outside the queue");
        assert!(registry.remove("a=").is_some());
        assert!(registry.remove("a=").is_none());
        assert!(registry.find("a=").is_none());
    }
}
