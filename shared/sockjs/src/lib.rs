//! SockJS: the routes, the frames, and how each transport wraps a frame.
//!
//! The crate is pure: no clock, no randomness, no IO. It does not interpret the messages. The protocol is that of
//! sockjs-client 1.6 and of the published test suite (github.com/sockjs/sockjs-protocol, version 0.3.3).
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
