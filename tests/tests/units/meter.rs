//! The engine's meter: the capacity that all requests consumed together.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tests::{Site, get};

/// The consumed capacity since the start of the gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct Units {
    pub(crate) read: f64,
    pub(crate) write: f64,
    pub(crate) requests: u64,
}

impl Units {
    /// Returns the difference to an earlier reading.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            read: self.read - before.read,
            write: self.write - before.write,
            requests: self.requests - before.requests,
        }
    }
}

/// Waits until all functions are idle and the meter is stable. The meter then includes everything that the last message
/// caused.
pub(crate) async fn quiet(site: &Site) -> Result<Units> {
    const STEADY: u32 = 15;
    let urls = &site.urls;
    let dynamodb = urls
        .dynamodb
        .as_deref()
        .context("the deployment has no DynamoDB URL")?;
    let meter = format!("{dynamodb}/_local/units");
    let lambda = urls
        .lambda
        .as_deref()
        .context("the deployment has no Lambda URL")?;
    let functions = format!("{lambda}/_local/functions");
    let until = async {
        let mut last = Units::default();
        let mut steady = 0;
        while steady < STEADY {
            let instances = get(&functions).await?;
            let instances = instances.as_array().context("no list of functions")?;
            let busy = instances.iter().any(|it| it["busy"] == true);
            let units: Units = serde_json::from_value(get(&meter).await?)?;
            steady = if busy || units != last { 0 } else { steady + 1 };
            last = units;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(last)
    };
    let quiet = tokio::time::timeout(tests::DEADLINE, until).await;
    quiet.context("the functions do not become idle")?
}
