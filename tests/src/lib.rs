//! The basis of the end-to-end tests: a deployment, its clients, and a separate local gateway for tests that need one.

mod client;
mod gateway;

mod moves;
mod requests;
mod site;
pub mod soak;
pub mod sockjs;

pub use client::{Answer, Client, Frame};
pub use gateway::Gateway;
pub use requests::{dynamodb, get, post, send, text};
pub use site::{Refused, Site, Urls};

use std::time::Duration;

/// A test that waits this long fails instead of hanging. It exceeds the minute after which the service finds the work that
/// a dead function left undone.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Calls `check` until it returns a value, and returns that value.
///
/// # Errors
/// Fails if `check` fails or returns no value before the deadline.
pub async fn eventually<T>(
    what: &str,
    mut check: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let found = async {
        loop {
            if let Some(found) = check().await? {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, found)
        .await
        .unwrap_or_else(|_| Err(anyhow::anyhow!("this did not happen in time: {what}")))
}
