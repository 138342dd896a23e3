//! What the end-to-end tests stand on: a deployment, clients of it, and a local gateway of their own where they need one.

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

/// After this long a test fails instead of hanging: longer than the minute after which the service itself finds what a
/// function left undone when it died.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Waits until `check` finds something.
///
/// # Errors
/// When it finds nothing before the deadline, or fails.
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
        .unwrap_or_else(|_| Err(anyhow::anyhow!("it never happened that {what}")))
}
