//! The environment of every function: configuration, parsed AWS events, time and randomness, and the client of the worker.

mod answer;
mod bearer;
mod config;
mod events;
mod logs;
mod metrics;
mod origins;
mod serve;
mod system;
mod worker;

pub use answer::{allow, failed, unauthorized};
pub use bearer::Bearer;
pub use config::{Config, ConfigError};
pub use events::{AuthorizerEvent, ConnectionEvent, HttpEvent, WebSocketEvent};
pub use logs::init_logs;
pub use metrics::measured;
pub use origins::Origins;
pub use serve::serve;
pub use system::System;
pub use worker::Worker;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
