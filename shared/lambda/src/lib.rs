//! The environment of every function: configuration, parsed AWS events, time and randomness, and the client of the worker.

mod answer;
mod bearer;
mod config;
mod events;
mod metrics;
mod origins;
mod serve;
mod system;
mod worker;

pub use answer::{allow, failed, unauthorized};
pub use bearer::Bearer;
pub use config::{Config, ConfigError};
pub use events::{AuthorizerEvent, ConnectionEvent, HttpEvent, WebSocketEvent};
pub use metrics::measured;
pub use origins::Origins;
pub use serve::serve;
pub use system::System;
pub use worker::Worker;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Starts logging JSON lines with the invocation's ids, at the level of `AWS_LAMBDA_LOG_LEVEL`.
pub fn init_logs() {
    lambda_runtime::tracing::init_default_subscriber();
}
