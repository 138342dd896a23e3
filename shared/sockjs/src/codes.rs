//! The codes and reasons with which a session is closed. A client reads them in `onclose`.

/// A code and a reason, as in `c[code,"reason"]`.
///
/// After code 1000 or a code from 3000 on, a client stops. After any other code it tries its next transport (SockJS client,
/// 1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// The protocol defines the codes 1000 to 2999, the service those from 3000 to 4999.
    pub code: u16,
    pub reason: &'static str,
}

impl Close {
    const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason }
    }
}

/// The receiver's connection broke, which ended the session.
pub const INTERRUPTED: Close = Close::new(1002, "Connection interrupted");
/// A second receiver connected while the first was still connected.
pub const ANOTHER: Close = Close::new(2010, "Another connection still open");
/// The client sent something that is not a frame.
pub const BROKEN_FRAMING: Close = Close::new(3000, "Broken framing.");
/// The service or the back end closes the connection. The client should reconnect.
pub const SHUTDOWN: Close = Close::new(3001, "shutdown");
/// The connection has reached its maximum age. The client should reconnect.
pub const CONNECTION_EXPIRED: Close = Close::new(3002, "connection-expired");
/// A newer connection replaced this one. The client should not reconnect by itself.
pub const CONNECTION_LIMIT: Close = Close::new(3003, "connection-limit");
/// The token was invalidated. The client should reconnect with another one.
pub const TOKEN_INVALIDATED: Close = Close::new(4401, "token-invalidated");
/// The token has expired. The client should reconnect with another one.
pub const TOKEN_EXPIRED: Close = Close::new(4401, "token-expired");

/// Every code and reason.
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
