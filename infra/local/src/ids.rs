//! Ids and timestamps in API Gateway's formats.

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use jiff::Timestamp;

/// Returns a new connection, request or message id: 16 characters of base64url that end in `=`, as captured.
#[must_use]
pub fn id() -> String {
    URL_SAFE.encode(rand::random::<[u8; 11]>())
}

/// Returns a new value for `X-Amzn-Trace-Id`: `Root=1-<seconds>-<24 hex digits>`.
#[must_use]
pub fn trace_id(now_ms: i64) -> String {
    let [a, b, c] = rand::random::<[u32; 3]>();
    format!("Root=1-{:08x}-{a:08x}{b:08x}{c:08x}", now_ms / 1000)
}

/// Returns the current time in milliseconds since the epoch.
#[must_use]
pub fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// Formats a time as in access logs: `19/Feb/2024:07:11:42 +0000`.
#[must_use]
pub fn request_time(ms: i64) -> String {
    timestamp(ms)
        .strftime("%d/%b/%Y:%H:%M:%S +0000")
        .to_string()
}

/// Formats a time as ISO 8601 with milliseconds: `2024-02-19T07:11:42.790Z`.
#[must_use]
pub fn iso(ms: i64) -> String {
    timestamp(ms).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_well_formed() {
        let ids: BTreeSet<_> = (0..1_000).map(|_| id()).collect();
        assert_eq!(ids.len(), 1_000);
        for id in ids {
            assert_eq!(id.len(), 16);
            assert!(id.ends_with('='));
            assert!(!id[..15].contains(['=', '+', '/']));
        }
    }

    #[test]
    fn times_have_captured_format() {
        assert_eq!(
            request_time(1_708_326_702_790),
            "19/Feb/2024:07:11:42 +0000"
        );
        assert_eq!(iso(1_708_326_702_790), "2024-02-19T07:11:42.790Z");
        assert!(trace_id(1_708_326_702_790).starts_with("Root=1-65d2ff2e-"));
        assert_eq!(
            trace_id(0).len(),
            "Root=1-5759e988-bd862e3fe1be46a994272793".len()
        );
    }
}
