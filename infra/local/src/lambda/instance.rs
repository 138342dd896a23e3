//! One instance: passes invocations to its process and results back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::streaming::Sink;
use super::wire::error_json;
use crate::fault::{Faults, Kind};

/// How long an instance may take to start. This is longer than Lambda's 10 s, because unoptimised functions start side
/// by side on a developer's machine.
const INIT_LIMIT: Duration = Duration::from_secs(30);
/// The fault `kill-instance` kills an instance within this time after an invocation begins.
const KILL_WITHIN: Duration = Duration::from_millis(30);

/// The gateway's handle to a process. The process itself uses the Runtime API.
#[derive(Debug)]
pub(super) struct Instance {
    id: u64,
    pid: u32,
    timeout: Duration,
    running: AtomicUsize,
    /// The pool never sends more jobs at a time than the instance's concurrency.
    jobs: mpsc::UnboundedSender<Job>,
    state: watch::Receiver<State>,
    pub(super) stop: Notify,
}

/// The state of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// The process has not asked for its first invocation yet.
    Starting,
    /// The process has asked for an invocation.
    Ready,
    /// The process has ended. Its pending invocations fail with this error.
    Dead(Bytes),
}

/// One invocation on its way to a process.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) request_id: String,
    pub(super) payload: Bytes,
    pub(super) deadline_ms: u128,
    pub(super) taken: Arc<AtomicBool>,
    /// Receives a streamed response. If `None`, such a response is collected.
    pub(super) sink: Option<Sink>,
    pub(super) reply: oneshot::Sender<Result<Bytes, Bytes>>,
}

/// How an invocation on an instance ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Answer(Bytes),
    Error(Bytes),
    TimedOut,
    /// The process ended during its start or during the invocation.
    Died(Bytes),
    /// The process ended before it took the payload.
    NotTaken,
}

/// The Runtime API's side of an instance.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) jobs: tokio::sync::Mutex<mpsc::UnboundedReceiver<Job>>,
    pub(super) state: watch::Sender<State>,
    /// Invocations that the process has taken and not answered, by request id.
    current: Mutex<BTreeMap<String, Current>>,
    init_error: Mutex<Option<Bytes>>,
    /// True if the function is notified when the client of its streamed response disconnects. Lambda never notifies it.
    pub(super) tells_leaving: bool,
}

#[derive(Debug)]
struct Current {
    sink: Option<Sink>,
    reply: oneshot::Sender<Result<Bytes, Bytes>>,
}

impl Instance {
    /// Returns both sides of a new instance.
    pub(super) fn new(id: u64, pid: u32, timeout: Duration, tells_leaving: bool) -> (Self, Link) {
        let (jobs, queue) = mpsc::unbounded_channel();
        let (state, seen) = watch::channel(State::Starting);
        let instance = Self {
            id,
            pid,
            timeout,
            running: AtomicUsize::new(0),
            jobs,
            state: seen,
            stop: Notify::new(),
        };
        let link = Link {
            jobs: tokio::sync::Mutex::new(queue),
            state,
            current: Mutex::default(),
            init_error: Mutex::default(),
            tells_leaving,
        };
        (instance, link)
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn is_busy(&self) -> bool {
        self.running.load(Ordering::Relaxed) > 0
    }

    pub(super) fn is_alive(&self) -> bool {
        !matches!(*self.state.borrow(), State::Dead(_))
    }

    /// Kills the process at once.
    pub(super) fn kill(&self) {
        self.stop.notify_one();
    }

    /// Runs one invocation. The caller must not run more at a time than the instance's concurrency. `fresh` means that
    /// the instance was started for this invocation.
    pub(super) async fn run(
        &self,
        payload: &Bytes,
        request_id: &str,
        sink: Option<&Sink>,
        fresh: bool,
        faults: &Faults,
    ) -> Outcome {
        self.running.fetch_add(1, Ordering::Relaxed);
        let outcome = match self.ready(fresh).await {
            Ok(()) => self.hand_over(payload, request_id, sink, faults).await,
            Err(outcome) => outcome,
        };
        self.running.fetch_sub(1, Ordering::Relaxed);
        outcome
    }

    async fn ready(&self, fresh: bool) -> Result<(), Outcome> {
        let mut state = self.state.clone();
        let ready = state.wait_for(|state| *state != State::Starting);
        match tokio::time::timeout(INIT_LIMIT, ready).await {
            Ok(Ok(state)) => match &*state {
                State::Dead(error) if fresh => Err(Outcome::Died(error.clone())),
                State::Dead(_) => Err(Outcome::NotTaken),
                State::Starting | State::Ready => Ok(()),
            },
            Ok(Err(_)) => Err(Outcome::NotTaken),
            Err(_) => {
                self.kill();
                let message = format!(
                    "the function did not ask for an invocation within {} s",
                    INIT_LIMIT.as_secs()
                );
                Err(Outcome::Died(error_json("Sandbox.InitTimedout", &message)))
            }
        }
    }

    async fn hand_over(
        &self,
        payload: &Bytes,
        request_id: &str,
        sink: Option<&Sink>,
        faults: &Faults,
    ) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let taken = Arc::new(AtomicBool::new(false));
        let job = Job {
            request_id: request_id.to_owned(),
            payload: payload.clone(),
            deadline_ms: deadline_ms(self.timeout),
            taken: Arc::clone(&taken),
            sink: sink.cloned(),
            reply,
        };
        if self.jobs.send(job).is_err() {
            return Outcome::NotTaken;
        }
        let struck = faults.strikes(Kind::KillInstance);
        let fatal_delay = faults.delay(Kind::KillInstance, KILL_WITHIN);
        tokio::select! {
            biased;
            // With the fault, the instance dies even if it has answered in time. Its response is then lost.
            () = tokio::time::sleep(fatal_delay), if struck => {
                self.kill();
                self.death(&taken).await
            }
            answered = answer, if !struck => match answered {
                Ok(Ok(answer)) => Outcome::Answer(answer),
                Ok(Err(error)) => Outcome::Error(error),
                // The instance died.
                Err(_) => {
                    self.kill();
                    self.death(&taken).await
                }
            },
            outcome = self.death(&taken) => outcome,
            () = tokio::time::sleep(self.timeout) => {
                self.kill();
                Outcome::TimedOut
            }
        }
    }

    async fn death(&self, taken: &AtomicBool) -> Outcome {
        let mut state = self.state.clone();
        let error = match state
            .wait_for(|state| matches!(state, State::Dead(_)))
            .await
            .as_deref()
        {
            Ok(State::Dead(error)) => error.clone(),
            _ => error_json("Runtime.ExitError", "Runtime exited"),
        };
        if taken.load(Ordering::SeqCst) {
            Outcome::Died(error)
        } else {
            Outcome::NotTaken
        }
    }
}

impl Link {
    /// Waits for the next invocation and records it as current. Returns `None` if the instance is being ended. A
    /// process may send several requests at once. Each gets an invocation of its own.
    pub(super) async fn next(&self) -> Option<(String, Bytes, u128)> {
        self.state.send_if_modified(|state| {
            let first = *state == State::Starting;
            if first {
                *state = State::Ready;
            }
            first
        });
        let job = self.jobs.lock().await.recv().await?;
        job.taken.store(true, Ordering::SeqCst);
        let current = Current {
            sink: job.sink,
            reply: job.reply,
        };
        lock(&self.current).insert(job.request_id.clone(), current);
        Some((job.request_id, job.payload, job.deadline_ms))
    }

    /// Takes the sink for the streamed response to `request_id`, if there is one.
    pub(super) fn take_sink(&self, request_id: &str) -> Option<Sink> {
        lock(&self.current).get_mut(request_id)?.sink.take()
    }

    /// Ends the invocation `request_id`. Returns false if it is not current.
    pub(super) fn finish(&self, request_id: &str, result: Result<Bytes, Bytes>) -> bool {
        let Some(current) = lock(&self.current).remove(request_id) else {
            return false;
        };
        // The send fails if the caller has given up. The function need not know.
        let _ = current.reply.send(result);
        true
    }

    /// Stores the error that the function reported for its failed start.
    pub(super) fn fail_init(&self, error: Bytes) {
        *lock(&self.init_error) = Some(error);
    }

    /// Takes the error that the function reported for its failed start.
    pub(super) fn init_error(&self) -> Option<Bytes> {
        lock(&self.init_error).take()
    }
}

fn deadline_ms(timeout: Duration) -> u128 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    (now + timeout).as_millis()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
