//! The instances of one function: one invocation each at a time unless told otherwise, more of them under concurrency.

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
use super::{Invocation, LambdaOptions, output, process};
use crate::fault::Faults;
use crate::metrics::Metrics;
use crate::template::Function;

/// An invocation that waits longer than this for a place is worth a word.
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
    /// Permits are for invocations; an instance starts only with a permit and no free place, so they bound both.
    permits: Semaphore,
    waits: bool,
    /// Whether the developer knows that invocations wait.
    told: AtomicBool,
    /// The places of each instance.
    concurrency: usize,
    /// An instance once for each free place. The last to become free is the first to be used again: the fewest stay warm.
    free: Mutex<Vec<Arc<Instance>>>,
    live: Mutex<BTreeMap<u64, Arc<Instance>>>,
    census: Arc<Census>,
}

/// What a developer may know about an instance.
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
        let places = function.reserved_concurrency.unwrap_or_else(|| {
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
            permits: Semaphore::new(places.min(Semaphore::MAX_PERMITS)),
            waits: function.reserved_concurrency.is_none(),
            told: AtomicBool::new(false),
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

    /// One invocation, in a free place or on a new instance. A streamed answer goes to `sink`, if there is one.
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
                // It died before it took the payload: nothing happened yet, so another may have it.
                Outcome::NotTaken => {}
            }
        }
    }

    /// Leave to run an invocation; none if it is throttled.
    async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        if !self.waits {
            return self.permits.try_acquire().ok();
        }
        let mut permit = pin!(self.permits.acquire());
        let permit = match timeout(PATIENCE, &mut permit).await {
            Ok(permit) => permit,
            Err(_) => {
                self.tell_of_waiting();
                permit.await
            }
        };
        // The semaphore is never closed.
        permit.ok()
    }

    /// Says once that invocations wait, which looks like a function that is slow.
    fn tell_of_waiting(&self) {
        if !self.told.swap(true, Ordering::Relaxed) {
            output::note(
                &self.function.binary,
                &format!(
                    "invocations of {} wait because all its instances are busy; --max-instances is how many it may have",
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

    /// The instances there are.
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
        let executable = self.executable.as_ref().ok_or_else(|| {
            format!(
                "there is no executable of the binary `{}`",
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
        // Its other places: who comes while it starts waits for it.
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
        // Shutting down may have passed the instance by while it started.
        if self.is_closed() {
            instance.kill();
        }
        Ok(instance)
    }

    fn rest(&self, instance: Arc<Instance>) {
        let mut free = lock(&self.free);
        // Checked under the lock: its death removes it from the free ones under the same lock.
        if instance.is_alive() {
            free.push(instance);
        }
    }
}

/// A fresh request id, a UUID as Lambda's are.
pub(crate) fn request_id() -> String {
    let id: u128 = rand::random();
    let hex = format!(
        "{:032x}",
        (id & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62)
    );
    let part = |from, to| hex.get(from..to).unwrap_or_default();
    [
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ]
    .join("-")
}

/// The error object Lambda gives for a function that did not answer.
pub(super) fn error_json(error_type: &str, message: &str) -> Bytes {
    serde_json::json!({ "errorType": error_type, "errorMessage": message })
        .to_string()
        .into()
}

fn function_error(error_type: &str, message: &str) -> Invocation {
    Invocation::FunctionError(error_json(error_type, message))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
