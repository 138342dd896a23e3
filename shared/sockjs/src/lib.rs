//! SockJS: which URL means what, how messages are framed, and what each transport puts around a frame.
//!
//! Pure: no clock, no randomness, no IO. It knows nothing of what the messages say. The protocol is that of
//! sockjs-client 1.6 and of the published suite (github.com/sockjs/sockjs-protocol, version 0.3.3).
#![no_std]

extern crate alloc;

pub mod codes;
pub mod fixed;
pub mod frame;
pub mod headers;
pub mod route;
pub mod session;
pub mod transport;

#[cfg(test)]
mod vectors;

pub use codes::Close;
pub use route::{Endpoint, Mount, Request, Route, route};
