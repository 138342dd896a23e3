//! The system's clock and random generator.

use core::time::Duration;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use protocol::Timestamp;
use service::ports::{Clock, Measure, Metrics, Random, TokenVerifier};

use crate::metrics;

/// The environment of the real system.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Clock for System {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

impl Random for System {
    fn fresh_id(&self) -> String {
        uuid::Builder::from_random_bytes(random())
            .into_uuid()
            .to_string()
    }

    fn fresh_token(&self) -> String {
        URL_SAFE_NO_PAD.encode(random::<32>())
    }
}

impl Metrics for System {
    fn measure(&self, measure: Measure) {
        metrics::note(measure);
    }
}

impl TokenVerifier for System {}

#[expect(
    clippy::expect_used,
    reason = "without randomness no id and no token may be issued; Lambda replaces the sandbox after a panic"
)]
fn random<const BYTES: usize>() -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).expect("the system's random generator answers");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_ids_have_fixed_length() {
        assert_eq!(System.fresh_token().len(), 43);
        assert_ne!(System.fresh_token(), System.fresh_token());
        assert_eq!(System.fresh_id().len(), 36);
    }
}
