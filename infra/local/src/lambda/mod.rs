//! Lambda: instances of functions behind the Runtime API, and the Invoke API before them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;

use crate::fault::Faults;
use crate::template::Function;

/// Lambda on this machine; cheap to clone.
#[derive(Debug, Clone)]
pub struct Lambda;

/// How Lambda is to run.
#[derive(Debug, Clone)]
pub struct LambdaOptions {
    /// Functions by logical id.
    pub functions: BTreeMap<String, Function>,
    /// The executable of each `Function::binary`.
    pub executables: BTreeMap<String, PathBuf>,
    /// The region the functions are told.
    pub region: String,
    /// The DynamoDB endpoint the functions are told.
    pub dynamodb_url: String,
    /// Text replaced in the functions' variables: the stage's URL on AWS → the local `@connections` base URL.
    pub replacements: Vec<(String, String)>,
    /// Most instances of one function; what exceeds it waits.
    pub max_instances: usize,
    /// Waits before the first and every further repeat of a failed asynchronous invocation (AWS: 1 min, 2 min).
    pub retry_delay: Duration,
    /// Show every line that functions write, not only errors.
    pub verbose: bool,
    /// Faults to inject.
    pub faults: Faults,
}

/// How a synchronous invocation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// The function's answer.
    Answer(Bytes),
    /// The function failed: `errorMessage` and `errorType` as JSON.
    FunctionError(Bytes),
    /// It took longer than its timeout, or than the caller's limit.
    TimedOut,
    /// Its reserved concurrency is used up.
    Throttled,
    /// There is no function of that name.
    NoSuchFunction,
}

impl Lambda {
    /// Serves the Invoke API on `listener`; instances start when first invoked.
    ///
    /// # Errors
    /// When the listener's address cannot be told.
    pub async fn start(listener: TcpListener, options: LambdaOptions) -> std::io::Result<Self> {
        let _ = (listener, options);
        Ok(Self)
    }

    /// The Invoke API's endpoint, `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        String::new()
    }

    /// Invokes `function` (logical id, name or ARN) and waits for its answer, at most `limit`.
    /// An invocation that outlives `limit`, or whose caller goes away, runs on to the function's own timeout.
    pub async fn invoke(
        &self,
        function: &str,
        payload: Bytes,
        limit: Option<Duration>,
    ) -> Invocation {
        let _ = (function, payload, limit);
        Invocation::NoSuchFunction
    }

    /// Queues an asynchronous invocation, repeated after errors as Lambda does; false if there is no such function.
    pub fn invoke_event(&self, function: &str, payload: Bytes) -> bool {
        let _ = (function, payload);
        false
    }

    /// Ends every instance and waits until none is left.
    pub async fn shut_down(&self) {}
}
