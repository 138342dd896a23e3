//! The engine's meter: what all requests to it together consumed.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tests::{Site, get};

/// What was consumed since the gateway began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct Units {
    pub(crate) read: f64,
    pub(crate) write: f64,
    pub(crate) requests: u64,
}

impl Units {
    /// What came to it since an earlier look.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            read: self.read - before.read,
            write: self.write - before.write,
            requests: self.requests - before.requests,
        }
    }
}

/// Waits until nothing works any more: then everything that the last message caused is on the meter.
pub(crate) async fn quiet(site: &Site) -> Result<Units> {
    const STEADY: u32 = 15;
    let urls = &site.urls;
    let dynamodb = urls.dynamodb.as_deref().context("no DynamoDB")?;
    let meter = format!("{dynamodb}/_local/units");
    let lambda = urls.lambda.as_deref().context("no Lambda")?;
    let functions = format!("{lambda}/_local/functions");
    let until = async {
        let mut last = Units::default();
        let mut steady = 0;
        while steady < STEADY {
            let works = get(&functions).await?;
            let works = works.as_array().context("no list")?;
            let works = works.iter().any(|it| it["busy"] == true);
            let units: Units = serde_json::from_value(get(&meter).await?)?;
            steady = if works || units != last {
                0
            } else {
                steady + 1
            };
            last = units;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(last)
    };
    let quiet = tokio::time::timeout(tests::DEADLINE, until).await;
    quiet.context("it is never quiet")?
}
