//! Lambda: instances of functions behind the Runtime API, and the Invoke API before them.

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
pub(crate) use self::pool::request_id;
pub(crate) use self::streaming::Streamed;
use crate::fault::Faults;
use crate::listen;
use crate::metrics::Metrics;
use crate::rights::Rights;
use crate::template::{Function, InvokeMode};

/// Lambda on this machine; cheap to clone.
#[derive(Debug, Clone)]
pub struct Lambda {
    inner: Arc<Inner>,
}

/// How Lambda is to run.
#[derive(Debug, Clone)]
pub struct LambdaOptions {
    /// Functions by logical id.
    pub functions: BTreeMap<String, Function>,
    /// The executable of each `Function::binary`, by its absolute path: its folder is where it runs.
    pub executables: BTreeMap<String, PathBuf>,
    /// The region the functions are told.
    pub region: String,
    /// The DynamoDB endpoint the functions are told.
    pub dynamodb_url: String,
    /// Text replaced in the functions' variables: the stage's URL on AWS → the local `@connections` base URL.
    pub replacements: Vec<(String, String)>,
    /// Most instances of one function; what exceeds it waits.
    pub max_instances: usize,
    /// Most invocations that an instance has at once.
    pub concurrency: usize,
    /// The wait before the first repeat of a failed asynchronous invocation, doubled for the next (AWS: 1 min).
    pub retry_delay: Duration,
    /// Show every line that functions write, not only errors.
    pub verbose: bool,
    /// Tell a function that the client of its streamed answer left, by ending the connection that it answers on. Lambda
    /// never tells.
    pub tells_leaving: bool,
    /// Faults to inject.
    pub faults: Faults,
    /// What the functions may do.
    pub rights: Rights,
    /// Where what they measure is added up.
    pub metrics: Metrics,
}

impl LambdaOptions {
    /// Most invocations that an instance of `function` has at once: one if it streams, since a streamed answer takes as long as
    /// its client likes, and its process with it.
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
    /// The function's answer.
    Answer(Bytes),
    /// The function failed: `errorMessage` and `errorType` as JSON.
    FunctionError(Bytes),
    /// It took longer than its own timeout: it failed.
    TimedOut,
    /// It took longer than the caller waits, and goes on.
    Late,
    /// Its reserved concurrency is used up.
    Throttled,
    /// There is no function of that name.
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
    /// Serves the Invoke API on `listener`; instances start when first invoked.
    ///
    /// # Errors
    /// When the listener's address cannot be told, or no process can be started.
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
        // The server knows Lambda only as long as someone else does, or neither would ever end.
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

    /// The Invoke API's endpoint, `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        listen::url(self.inner.address)
    }

    /// Invokes `function` (logical id, name or ARN) and waits for its answer, at most `limit`.
    /// An invocation that outlives `limit`, or whose caller goes away, runs on to the function's own timeout.
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
            // Both at once, where a function's timeout is the caller's limit: the caller began to count first.
            Invocation::TimedOut if limit.is_some_and(|limit| begun.elapsed() >= limit) => {
                Invocation::Late
            }
            outcome => outcome,
        }
    }

    /// Invokes `function` for an answer that may be streamed. It is there as soon as it begins; as always, the invocation
    /// runs on if the caller goes away.
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
            // Nothing will be streamed any more: the invocation is over.
            None => Err(outcome.await.unwrap_or(Invocation::TimedOut)),
        }
    }

    /// Queues an asynchronous invocation, repeated after errors as Lambda does; false if there is no such function.
    pub fn invoke_event(&self, function: &str, payload: Bytes) -> bool {
        let Some(pool) = self.pool(function) else {
            return false;
        };
        tokio::spawn(events::deliver(pool, payload, self.inner.retry_delay));
        true
    }

    /// Ends every instance and waits until none is left.
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
        // `name`, `name:qualifier`, `account:function:name` or an ARN (Lambda API reference, Invoke).
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
