//! Why a session was closed, as a client's `onclose` reads it.

/// A code and a reason, as in `c[code,"reason"]`.
///
/// A code of 1000 or from 3000 on is what makes a client stop instead of trying its next transport (SockJS client, 1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// The code: 1000 to 2999 are the protocol's own, 3000 to 4999 the service's.
    pub code: u16,
    /// The reason.
    pub reason: &'static str,
}

impl Close {
    const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason }
    }
}

/// The receiver's connection broke, and with it the session.
pub const INTERRUPTED: Close = Close::new(1002, "Connection interrupted");
/// A second receiver came while the first is still there.
pub const ANOTHER: Close = Close::new(2010, "Another connection still open");
/// What the client sent is no frame.
pub const BROKEN_FRAMING: Close = Close::new(3000, "Broken framing.");
/// The service or the back end ends the connection: come back.
pub const SHUTDOWN: Close = Close::new(3001, "shutdown");
/// The connection has reached its age: come back.
pub const CONNECTION_EXPIRED: Close = Close::new(3002, "connection-expired");
/// A newer connection took its place: do not come back by yourself.
pub const CONNECTION_LIMIT: Close = Close::new(3003, "connection-limit");
/// The token was invalidated: come back with another one.
pub const TOKEN_INVALIDATED: Close = Close::new(4401, "token-invalidated");
/// The token has expired: come back with another one.
pub const TOKEN_EXPIRED: Close = Close::new(4401, "token-expired");

/// Every one of them.
pub const ALL: &[Close] = &[
    INTERRUPTED,
    ANOTHER,
    BROKEN_FRAMING,
    SHUTDOWN,
    CONNECTION_EXPIRED,
    CONNECTION_LIMIT,
    TOKEN_INVALIDATED,
    TOKEN_EXPIRED,
];
