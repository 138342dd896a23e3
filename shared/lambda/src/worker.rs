//! Starts the worker: an asynchronous invocation, which Lambda queues and retries twice if it fails
//! (docs.aws.amazon.com/lambda/latest/dg/invocation-async.html, 2026-08).

use core::time::Duration;

use bytes::Bytes;
use http::Method;
use service::ports::{Fault, Job, Workers};
use signing::{Call, SendError, SigningClient};

use crate::{Config, ConfigError};

const LIMIT: Duration = Duration::from_secs(3);
const ATTEMPTS: u32 = 3;
/// The wait before the second attempt. The wait before the third is twice as long. Without it a throttled call would be
/// throttled again.
const PAUSE: Duration = Duration::from_millis(50);

/// A client of the worker function.
#[derive(Clone, Debug)]
pub struct Worker {
    client: SigningClient,
    url: String,
}

impl Worker {
    /// Creates a client of the function that `WORKER_FUNCTION` names.
    ///
    /// # Errors
    /// Returns [`ConfigError`] if the variable is not set or the root certificates cannot be read.
    pub fn from_env(config: &Config) -> Result<Self, ConfigError> {
        let endpoint = config.lambda_endpoint();
        let function = Config::required("WORKER_FUNCTION")?;
        Ok(Self {
            client: config.signing_client(&endpoint)?,
            url: format!("{endpoint}/2015-03-31/functions/{function}/invocations"),
        })
    }
}

impl Workers for Worker {
    async fn start(&self, job: &Job) -> Result<(), Fault> {
        let body = serde_json::to_vec(job).map_err(|error| Fault::Corrupt(error.to_string()))?;
        let body = Bytes::from(body);
        let mut last = String::new();
        // A job may run twice, so it is started again if the response was lost.
        for attempt in 0..ATTEMPTS {
            // The first attempt sets no timer, because even a timer of zero takes a millisecond.
            if attempt > 0 {
                tokio::time::sleep(PAUSE.saturating_mul(attempt)).await;
            }
            let call = Call {
                service: "lambda",
                method: Method::POST,
                url: &self.url,
                headers: &[("x-amz-invocation-type", "Event")],
                body: body.clone(),
                limit: LIMIT,
            };
            last = match self.client.send(call).await {
                Ok((status, _)) if status.is_success() => return Ok(()),
                Ok((status, _)) if !status.is_server_error() && status.as_u16() != 429 => {
                    return Err(Fault::Refused(format!(
                        "cannot start worker: status {status}"
                    )));
                }
                Ok((status, _)) => format!("cannot start worker: status {status}"),
                Err(SendError::Unsendable) => {
                    return Err(Fault::Refused(SendError::Unsendable.to_string()));
                }
                Err(error) => error.to_string(),
            };
        }
        Err(Fault::Unknown(last))
    }
}
