//! A short soak with all faults at once. `examples/soak.rs` runs the same at length.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::soak::{self, Options, USUAL_FAULTS};

#[tokio::test]
async fn invariants_hold_under_all_faults() -> Result<()> {
    let summary = soak::run(&Options {
        messages: 2_000,
        subscribers: 8,
        channels: 4,
        seed: 1,
        faults: USUAL_FAULTS.map(str::to_owned).into(),
        limit: Duration::from_secs(40),
        progress: None,
    })
    .await?;
    summary.verdict()?;
    ensure!(summary.stored() > 0, "{summary}");
    for fault in ["delay-dynamodb", "lose-dynamodb-reply", "delay-upgrade"] {
        ensure!(summary.struck(fault) > 0, "{fault}\n{summary}");
    }
    Ok(())
}
