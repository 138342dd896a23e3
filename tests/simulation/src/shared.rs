//! What all clients of a run have in common, and what one connection saw.

use core::cell::{Cell, RefCell};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use protocol::{LogId, Subscriber, SubscriberId, Timestamp};
use serde_json::Value;
use service::ports::{Fault, TokenHash};
use testkit::sim::Task;

use crate::{tally::Tally, world::Line};

/// What is common to all clients of a run.
#[derive(Default)]
pub(crate) struct Shared {
    /// Every connection there ever was.
    pub(crate) connections: RefCell<Vec<Rc<Session>>>,
    /// Messages that were acknowledged, with their place.
    pub(crate) stored: RefCell<Vec<Stored>>,
    /// Contents that were only sent when their connection's token did not hold any more.
    pub(crate) forbidden: RefCell<BTreeSet<String>>,
    /// Contents that were sent while it held.
    pub(crate) good: RefCell<BTreeSet<String>>,
    /// Tokens that somebody began to invalidate.
    pub(crate) doubtful: RefCell<BTreeSet<TokenHash>>,
    /// Tokens that are certainly invalidated, and which were all issued before.
    pub(crate) invalidated: RefCell<BTreeSet<TokenHash>>,
    /// Whose token each one is.
    pub(crate) issued: RefCell<Vec<(Subscriber, TokenHash)>>,
    /// Who was erased.
    pub(crate) erased: RefCell<BTreeSet<Subscriber>>,
    /// Who ever announced anything but invisible.
    pub(crate) seen: RefCell<BTreeSet<Subscriber>>,
    /// How far somebody was acknowledged to have read a conversation.
    pub(crate) read: RefCell<BTreeMap<(LogId, SubscriberId), u64>>,
    /// What did not hold while the run went on.
    pub(crate) broken: RefCell<Vec<String>>,
    /// What was done.
    pub(crate) tally: RefCell<Tally>,
    /// Whether clients are to end.
    pub(crate) over: Cell<bool>,
    /// How many have come to the end of what they wanted.
    pub(crate) done: Cell<usize>,
    /// The chance in a thousand that a function dies at an await.
    pub(crate) mortality: Cell<u32>,
    /// The chance in a thousand that an invocation is lost on its way, and that it is late.
    pub(crate) wire: Cell<u32>,
}

impl Shared {
    /// Something does not hold.
    pub(crate) fn broke(&self, what: String) {
        self.broken.borrow_mut().push(what);
    }

    /// Counts.
    pub(crate) fn count(&self, what: &'static str) {
        self.tally.borrow_mut().add(what, 1);
    }

    /// From now on nobody knows whether these tokens hold.
    pub(crate) fn doubt(&self, tokens: impl IntoIterator<Item = TokenHash>) {
        self.doubtful.borrow_mut().extend(tokens);
    }

    /// They do not hold any more: nothing that is sent from now on over their connections may be accepted.
    pub(crate) fn condemn(&self, tokens: impl IntoIterator<Item = TokenHash>) {
        self.invalidated.borrow_mut().extend(tokens);
    }

    /// The tokens that a subscriber has.
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
    /// As it was sent.
    pub(crate) message: Value,
    pub(crate) sequence: u64,
}

/// Something that was sent.
pub(crate) struct Request {
    pub(crate) message: Value,
    /// Where its handler is; none if it was lost on its way, or ignored.
    pub(crate) handler: Option<Task<Result<(), Fault>>>,
    /// When the handler began, at the latest.
    pub(crate) begun: Timestamp,
    /// When its `ack` was seen.
    pub(crate) answered: Cell<Option<Timestamp>>,
}

/// One connection and all that came over it.
pub(crate) struct Session {
    pub(crate) line: Line,
    /// The token that authorises it and when that ends; none if that is not known for sure.
    pub(crate) token: RefCell<Option<(TokenHash, Timestamp)>>,
    /// Every token that may have authorised it.
    pub(crate) tokens: RefCell<Vec<TokenHash>>,
    pub(crate) frames: RefCell<Vec<Value>>,
    /// What was sent, by its `id`.
    pub(crate) requests: RefCell<BTreeMap<String, Request>>,
    /// Ends of logs that the first page over this connection told: what is later is pushed.
    pub(crate) baseline: RefCell<BTreeMap<LogId, (usize, u64)>>,
    /// Whether the client has given it up, although the gateway does not know yet.
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

    /// Whether its token certainly does not hold any more.
    pub(crate) fn is_condemned(&self, shared: &Shared, now: Timestamp) -> bool {
        self.token
            .borrow()
            .as_ref()
            .is_some_and(|(token, end)| *end <= now || shared.invalidated.borrow().contains(token))
    }
}
