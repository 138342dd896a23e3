//! The instances of one function. Each runs one invocation at a time unless `concurrency` allows more. Concurrent
//! invocations start more instances.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::census::Census;
use super::instance::{Instance, Outcome};
use super::streaming::Sink;
use super::wire::error_json;
use super::{Invocation, LambdaOptions, output, process};
use crate::fault::Faults;
use crate::metrics::Metrics;
use crate::template::Function;

/// If an invocation waits longer than this for an instance, the gateway prints a warning.
const PATIENCE: Duration = Duration::from_secs(1);

/// One function with its instances.
#[derive(Debug)]
pub(super) struct Pool {
    function: Arc<Function>,
    executable: Option<PathBuf>,
    variables: Vec<(String, String)>,
    verbose: bool,
    metrics: Metrics,
    tells_leaving: bool,
    faults: Faults,
    /// One permit per running invocation. An instance starts only for an invocation with a permit and without a free
    /// instance, so the permits bound both.
    permits: Semaphore,
    waits: bool,
    /// True once the gateway has warned that invocations wait.
    warned: AtomicBool,
    /// The most concurrent invocations of each instance.
    concurrency: usize,
    /// Contains an instance once for each further invocation that it can take. The instance freed last is used first,
    /// so that as few as possible stay warm.
    free: Mutex<Vec<Arc<Instance>>>,
    live: Mutex<BTreeMap<u64, Arc<Instance>>>,
    census: Arc<Census>,
}

/// An instance in `/_local/functions`.
#[derive(Debug, serde::Serialize)]
pub(super) struct InstanceReport {
    function: String,
    pid: u32,
    busy: bool,
}

impl Pool {
    pub(super) fn new(
        function: &Function,
        variables: Vec<(String, String)>,
        options: &LambdaOptions,
        census: Arc<Census>,
    ) -> Self {
        let concurrency = options.concurrency_of(function);
        let most = function.reserved_concurrency.unwrap_or_else(|| {
            let instances = options.max_instances.max(1);
            instances.saturating_mul(concurrency)
        });
        Self {
            executable: options.executables.get(&function.binary).cloned(),
            function: Arc::new(function.clone()),
            variables,
            verbose: options.verbose,
            metrics: options.metrics.clone(),
            tells_leaving: options.tells_leaving,
            faults: options.faults.clone(),
            permits: Semaphore::new(most.min(Semaphore::MAX_PERMITS)),
            waits: function.reserved_concurrency.is_none(),
            warned: AtomicBool::new(false),
            concurrency,
            free: Mutex::default(),
            live: Mutex::default(),
            census,
        }
    }

    pub(super) fn function(&self) -> &Function {
        &self.function
    }

    pub(super) fn is_closed(&self) -> bool {
        self.census.is_closed()
    }

    /// Runs one invocation on a free instance or on a new one. A streamed response goes to `sink`, if there is one.
    pub(super) async fn invoke(
        self: &Arc<Self>,
        payload: Bytes,
        request_id: &str,
        sink: Option<Sink>,
    ) -> Invocation {
        let Some(_permit) = self.permit().await else {
            return Invocation::Throttled;
        };
        loop {
            let reused = lock(&self.free).pop();
            let fresh = reused.is_none();
            let instance = match reused {
                Some(instance) => instance,
                None => match self.start() {
                    Ok(instance) => instance,
                    Err(problem) => return function_error("Runtime.InvalidEntrypoint", &problem),
                },
            };
            let outcome = instance
                .run(&payload, request_id, sink.as_ref(), fresh, &self.faults)
                .await;
            match outcome {
                Outcome::Answer(answer) => {
                    self.rest(instance);
                    return Invocation::Answer(answer);
                }
                Outcome::Error(error) => {
                    self.rest(instance);
                    return Invocation::FunctionError(error);
                }
                Outcome::Died(error) => return Invocation::FunctionError(error),
                Outcome::TimedOut => {
                    let limit = self.function.timeout.as_secs_f64();
                    output::note(
                        &self.function.binary,
                        &format!("timed out after {limit:.2} seconds"),
                    );
                    return Invocation::TimedOut;
                }
                // The instance died before it took the payload. Nothing has happened yet, so another instance can take
                // it.
                Outcome::NotTaken => {}
            }
        }
    }

    /// Acquires a permit to run an invocation. Returns `None` if the invocation is throttled.
    async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        if !self.waits {
            return self.permits.try_acquire().ok();
        }
        let mut permit = pin!(self.permits.acquire());
        let permit = match timeout(PATIENCE, &mut permit).await {
            Ok(permit) => permit,
            Err(_) => {
                self.warn_of_waiting();
                permit.await
            }
        };
        // The semaphore is never closed.
        permit.ok()
    }

    /// Warns once that invocations wait, because waiting looks like a slow function.
    fn warn_of_waiting(&self) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            output::note(
                &self.function.binary,
                &format!(
                    "invocations of {} wait because all its instances are busy; raise the limit with --max-instances",
                    self.function.id
                ),
            );
        }
    }

    /// Kills every instance.
    pub(super) fn end(&self) {
        for instance in lock(&self.live).values() {
            instance.kill();
        }
    }

    /// Describes the running instances.
    pub(super) fn instances(&self) -> Vec<InstanceReport> {
        lock(&self.live)
            .values()
            .map(|instance| InstanceReport {
                function: self.function.id.clone(),
                pid: instance.pid(),
                busy: instance.is_busy(),
            })
            .collect()
    }

    fn start(self: &Arc<Self>) -> Result<Arc<Instance>, String> {
        if self.is_closed() {
            return Err("the local gateway is shutting down".to_owned());
        }
        // Start the process.
        let executable = self.executable.as_ref().ok_or_else(|| {
            format!(
                "there is no executable for the binary `{}`",
                self.function.binary
            )
        })?;
        let (instance, life) = process::start(
            &self.function,
            executable,
            &self.variables,
            self.verbose,
            self.metrics.clone(),
            self.tells_leaving,
        )
        .map_err(|error| {
            let message = format!("cannot start {}: {error}", executable.display());
            tracing::error!(function = self.function.binary, "{message}");
            message
        })?;
        lock(&self.live).insert(instance.id(), Arc::clone(&instance));
        self.census.enter(instance.pid());
        // Offer the remaining concurrency of the new instance. Invocations that arrive during its start wait for it.
        let others = std::iter::repeat_n(&instance, self.concurrency - 1);
        lock(&self.free).extend(others.cloned());
        let pool = Arc::clone(self);
        let (id, pid) = (instance.id(), instance.pid());
        tokio::spawn(async move {
            life.last(&pool.census).await;
            lock(&pool.free).retain(|other| other.id() != id);
            lock(&pool.live).remove(&id);
            pool.census.leave(pid);
        });
        // A shutdown that began during the start may have missed this instance.
        if self.is_closed() {
            instance.kill();
        }
        Ok(instance)
    }

    fn rest(&self, instance: Arc<Instance>) {
        let mut free = lock(&self.free);
        // Checked under the lock, because a dying instance is removed from `free` under the same lock.
        if instance.is_alive() {
            free.push(instance);
        }
    }
}

fn function_error(error_type: &str, message: &str) -> Invocation {
    Invocation::FunctionError(error_json(error_type, message))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
