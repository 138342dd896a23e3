//! Asynchronous invocations: accepted at once and retried after errors.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Invocation;
use super::output;
use super::pool::Pool;
use super::wire::request_id;

/// The wait before a throttled invocation is retried. It doubles up to `LONGEST_BACKOFF` (on AWS 1 s to 5 min, for 6
/// h).
const BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// Invokes the function until it succeeds or the retries are used up. All attempts share one request id, as on AWS.
pub(super) async fn deliver(pool: Arc<Pool>, payload: Bytes, retry_delay: Duration) {
    let request_id = request_id();
    let mut delay = retry_delay;
    let mut backoff = BACKOFF;
    let mut failures = 0;
    while !pool.is_closed() {
        match pool.invoke(payload.clone(), &request_id, None).await {
            Invocation::Answer(_) | Invocation::NoSuchFunction => return,
            Invocation::Throttled => {
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(LONGEST_BACKOFF);
            }
            Invocation::FunctionError(_) | Invocation::TimedOut | Invocation::Late
                if failures < pool.function().event_retries =>
            {
                failures += 1;
                tokio::time::sleep(delay).await;
                delay *= 2;
            }
            Invocation::FunctionError(_) | Invocation::TimedOut | Invocation::Late => {
                if !pool.is_closed() {
                    output::note(
                        &pool.function().binary,
                        &format!(
                            "asynchronous invocation failed after {} attempts",
                            failures + 1
                        ),
                    );
                }
                return;
            }
        }
    }
}
