//! Lambda: the Invoke API, and the function instances that it reaches over the Runtime API.

mod census;
mod environment;
mod events;
mod instance;
mod invoke_api;
mod output;
mod pool;
mod process;
mod runtime_api;
mod streaming;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use self::census::Census;
use self::pool::Pool;
pub(crate) use self::streaming::Streamed;
pub(crate) use self::wire::request_id;
use crate::fault::Faults;
use crate::listen;
use crate::metrics::Metrics;
use crate::rights::Rights;
use crate::template::{Function, InvokeMode};

/// Lambda on this machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lambda {
    inner: Arc<Inner>,
}

/// Options of the local Lambda.
#[derive(Debug, Clone)]
pub struct LambdaOptions {
    /// Functions by logical id.
    pub functions: BTreeMap<String, Function>,
    /// The absolute path of the executable of each `Function::binary`. The function runs in the folder of its
    /// executable.
    pub executables: BTreeMap<String, PathBuf>,
    /// The region in the functions' variables.
    pub region: String,
    /// The DynamoDB endpoint in the functions' variables.
    pub dynamodb_url: String,
    /// Text replacements in the functions' variables, for example the stage's URL on AWS → the local `@connections`
    /// base URL.
    pub replacements: Vec<(String, String)>,
    /// The most instances of one function. Further invocations wait.
    pub max_instances: usize,
    /// The most concurrent invocations of one instance.
    pub concurrency: usize,
    /// The wait before the first retry of a failed asynchronous invocation. It doubles for the next (AWS: 1 min).
    pub retry_delay: Duration,
    /// True to show every line that functions write, not only errors.
    pub verbose: bool,
    /// True to notify a function when the client of its streamed response disconnects, by closing the connection that
    /// carries the response. Lambda never notifies it.
    pub tells_leaving: bool,
    pub faults: Faults,
    /// The functions' permissions.
    pub rights: Rights,
    /// Collects the functions' metrics.
    pub metrics: Metrics,
}

impl LambdaOptions {
    /// Returns the most concurrent invocations of an instance of `function`. It is 1 if the function streams: the
    /// client decides how long a streamed response takes, and the process is occupied as long.
    fn concurrency_of(&self, function: &Function) -> usize {
        match function.url {
            Some(InvokeMode::Streaming) => 1,
            _ => self.concurrency.max(1),
        }
    }
}

/// How a synchronous invocation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// The function's response.
    Answer(Bytes),
    /// The function failed: `errorMessage` and `errorType` as JSON.
    FunctionError(Bytes),
    /// The function exceeded its own timeout and failed.
    TimedOut,
    /// The invocation takes longer than the caller waits, and continues.
    Late,
    /// The function's reserved concurrency is used up.
    Throttled,
    NoSuchFunction,
}

#[derive(Debug)]
struct Inner {
    address: SocketAddr,
    pools: BTreeMap<String, Arc<Pool>>,
    census: Arc<Census>,
    retry_delay: Duration,
    rights: Rights,
    faults: Faults,
    server: std::sync::Mutex<Option<AbortHandle>>,
}

impl Lambda {
    /// Serves the Invoke API on `listener`. Instances start when first invoked.
    ///
    /// # Errors
    /// Fails if the listener has no address, or if no process can be started.
    pub async fn start(listener: TcpListener, options: LambdaOptions) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let url = listen::url(address);
        let census = Arc::new(Census::new()?);
        let pools = options
            .functions
            .values()
            .map(|function| {
                let variables = environment::variables(function, &options, &url);
                let pool = Pool::new(function, variables, &options, Arc::clone(&census));
                (function.id.clone(), Arc::new(pool))
            })
            .collect();
        let lambda = Self {
            inner: Arc::new(Inner {
                address,
                pools,
                census,
                retry_delay: options.retry_delay,
                rights: options.rights,
                faults: options.faults,
                server: std::sync::Mutex::new(None),
            }),
        };
        // The server holds only a weak reference. With a strong one, the server and `Inner` would keep each other
        // alive.
        let known = Arc::downgrade(&lambda.inner);
        let server = tokio::spawn(async move {
            listen::serve(listener, move |request| {
                let inner = known.upgrade();
                async move { Ok(invoke_api::handle(inner.map(|inner| Self { inner }), request).await) }
            })
            .await;
        });
        lambda.keep_server(Some(server.abort_handle()));
        Ok(lambda)
    }

    /// Returns the endpoint of the Invoke API, `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        listen::url(self.inner.address)
    }

    /// Invokes `function` (logical id, name or ARN) and waits for its response, at most `limit`. If `limit` passes or
    /// the caller is dropped, the invocation continues until the function's own timeout.
    pub async fn invoke(
        &self,
        function: &str,
        payload: Bytes,
        limit: Option<Duration>,
    ) -> Invocation {
        let Some(pool) = self.pool(function) else {
            return Invocation::NoSuchFunction;
        };
        let begun = Instant::now();
        let outcome = tokio::spawn(async move { pool.invoke(payload, &request_id(), None).await });
        let outcome = match limit {
            Some(limit) => match tokio::time::timeout(limit, outcome).await {
                Ok(outcome) => outcome,
                Err(_) => return Invocation::Late,
            },
            None => outcome.await,
        };
        match outcome.unwrap_or(Invocation::TimedOut) {
            // If a function's timeout equals the caller's limit, both pass at once. The caller started to count first.
            Invocation::TimedOut if limit.is_some_and(|limit| begun.elapsed() >= limit) => {
                Invocation::Late
            }
            outcome => outcome,
        }
    }

    /// Invokes `function` for a response that may be streamed. Returns as soon as the stream begins. The invocation
    /// continues if the caller is dropped.
    pub(crate) async fn invoke_streaming(
        &self,
        function: &str,
        payload: Bytes,
    ) -> Result<Streamed, Invocation> {
        let pool = self.pool(function).ok_or(Invocation::NoSuchFunction)?;
        let (sink, mut begun) = mpsc::channel(1);
        let outcome =
            tokio::spawn(async move { pool.invoke(payload, &request_id(), Some(sink)).await });
        match begun.recv().await {
            Some(streamed) => Ok(streamed),
            // Nothing was streamed, and the invocation is over.
            None => Err(outcome.await.unwrap_or(Invocation::TimedOut)),
        }
    }

    /// Queues an asynchronous invocation, which is retried after errors as on Lambda. Returns false if there is no such
    /// function.
    pub fn invoke_event(&self, function: &str, payload: Bytes) -> bool {
        let Some(pool) = self.pool(function) else {
            return false;
        };
        tokio::spawn(events::deliver(pool, payload, self.inner.retry_delay));
        true
    }

    /// Kills every instance and waits until all have ended.
    pub async fn shut_down(&self) {
        self.keep_server(None);
        self.inner.census.close();
        for pool in self.inner.pools.values() {
            pool.end();
        }
        self.inner.census.empty().await;
    }

    fn keep_server(&self, server: Option<AbortHandle>) {
        let mut kept = self
            .inner
            .server
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(former) = std::mem::replace(&mut *kept, server) {
            former.abort();
        }
    }

    fn pool(&self, function: &str) -> Option<Arc<Pool>> {
        // Accepted forms are `name`, `name:qualifier`, `account:function:name` and an ARN (Lambda API reference,
        // Invoke).
        let name = function
            .rsplit_once(":function:")
            .map_or(function, |(_, name)| name);
        let name = name.split_once(':').map_or(name, |(name, _)| name);
        let pools = &self.inner.pools;
        pools
            .get(name)
            .or_else(|| pools.values().find(|pool| pool.function().name == name))
            .cloned()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let server = self
            .server
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(server) = server.take() {
            server.abort();
        }
        for pool in self.pools.values() {
            pool.end();
        }
    }
}
