//! Everything goes wrong at once, in small: the same as `examples/soak.rs` does at length.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::soak::{self, Options, USUAL_FAULTS};

#[tokio::test]
async fn under_all_faults_at_once_nothing_is_lost_doubled_or_out_of_order() -> Result<()> {
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
