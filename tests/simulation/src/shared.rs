//! The state that all clients of a run share, and what each connection saw.

use core::cell::{Cell, RefCell};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use protocol::{LogId, Subscriber, SubscriberId, Timestamp};
use serde_json::Value;
use service::ports::{Fault, TokenHash};
use testkit::sim::Task;

use crate::{line::Line, tally::Tally};

/// The state that all clients of a run share.
#[derive(Default)]
pub(crate) struct Shared {
    /// Every connection of the run.
    pub(crate) connections: RefCell<Vec<Rc<Session>>>,
    /// Acknowledged messages with their sequences.
    pub(crate) stored: RefCell<Vec<Stored>>,
    /// Contents that were only sent when their connection's token was already invalid.
    pub(crate) forbidden: RefCell<BTreeSet<String>>,
    /// Contents that were sent while the token was valid.
    pub(crate) good: RefCell<BTreeSet<String>>,
    /// Tokens whose invalidation has begun.
    pub(crate) doubtful: RefCell<BTreeSet<TokenHash>>,
    /// Tokens that are certainly invalidated. All of them were issued before.
    pub(crate) invalidated: RefCell<BTreeSet<TokenHash>>,
    /// The owner of each token.
    pub(crate) issued: RefCell<Vec<(Subscriber, TokenHash)>>,
    pub(crate) erased: RefCell<BTreeSet<Subscriber>>,
    /// Subscribers that ever announced anything but invisible.
    pub(crate) seen: RefCell<BTreeSet<Subscriber>>,
    /// How far a subscriber was acknowledged to have read a conversation.
    pub(crate) read: RefCell<BTreeMap<(LogId, SubscriberId), u64>>,
    /// The invariants that broke during the run.
    pub(crate) broken: RefCell<Vec<String>>,
    pub(crate) tally: RefCell<Tally>,
    /// True if clients must end.
    pub(crate) over: Cell<bool>,
    /// The number of clients that have done all their actions.
    pub(crate) done: Cell<usize>,
    /// The chance per thousand that a function dies at an await.
    pub(crate) mortality: Cell<u32>,
    /// Sets the chances per thousand that an invocation is lost (half of this) and late (eight times this).
    pub(crate) wire: Cell<u32>,
}

impl Shared {
    /// Records a broken invariant.
    pub(crate) fn broke(&self, what: String) {
        self.broken.borrow_mut().push(what);
    }

    /// Counts one occurrence.
    pub(crate) fn count(&self, what: &'static str) {
        self.tally.borrow_mut().add(what, 1);
    }

    /// From now on it is unknown if these tokens are valid.
    pub(crate) fn doubt(&self, tokens: impl IntoIterator<Item = TokenHash>) {
        self.doubtful.borrow_mut().extend(tokens);
    }

    /// These tokens are invalid. No message sent from now on over their connections may be accepted.
    pub(crate) fn condemn(&self, tokens: impl IntoIterator<Item = TokenHash>) {
        self.invalidated.borrow_mut().extend(tokens);
    }

    /// The tokens of a subscriber.
    pub(crate) fn tokens_of(&self, subscriber: &Subscriber) -> Vec<TokenHash> {
        let issued = self.issued.borrow();
        let own = issued.iter().filter(|(whose, _)| whose == subscriber);
        own.map(|(_, token)| token.clone()).collect()
    }
}

/// An acknowledged message.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) log: LogId,
    pub(crate) from: Subscriber,
    pub(crate) message: Value,
    pub(crate) sequence: u64,
}

/// A message that was sent.
pub(crate) struct Request {
    pub(crate) message: Value,
    /// The task of its handler. `None` if the invocation was lost.
    pub(crate) handler: Option<Task<Result<(), Fault>>>,
    /// The latest time at which the handler began.
    pub(crate) begun: Timestamp,
    /// The time at which its `ack` was seen.
    pub(crate) answered: Cell<Option<Timestamp>>,
}

/// One connection and every frame that arrived over it.
pub(crate) struct Session {
    pub(crate) line: Line,
    /// The token that authorises the connection and its end. `None` if that is not certain.
    pub(crate) token: RefCell<Option<(TokenHash, Timestamp)>>,
    /// Every token that may have authorised it.
    pub(crate) tokens: RefCell<Vec<TokenHash>>,
    pub(crate) frames: RefCell<Vec<Value>>,
    /// The requests by `id`.
    pub(crate) requests: RefCell<BTreeMap<String, Request>>,
    /// Ends of logs that the first page over this connection announced. Later events are pushed.
    pub(crate) baseline: RefCell<BTreeMap<LogId, (usize, u64)>>,
    /// True if the client has given up the connection, although the gateway does not know yet.
    pub(crate) dead: Cell<bool>,
}

impl Session {
    pub(crate) fn new(line: Line) -> Self {
        let token = line.identity.token.clone();
        Self {
            token: RefCell::new(Some((token.clone(), line.identity.token_expires))),
            tokens: RefCell::new(vec![token]),
            line,
            frames: RefCell::default(),
            requests: RefCell::default(),
            baseline: RefCell::default(),
            dead: Cell::new(false),
        }
    }

    /// Returns true if the connection's token is certainly invalid.
    pub(crate) fn is_condemned(&self, shared: &Shared, now: Timestamp) -> bool {
        self.token
            .borrow()
            .as_ref()
            .is_some_and(|(token, end)| *end <= now || shared.invalidated.borrow().contains(token))
    }
}
