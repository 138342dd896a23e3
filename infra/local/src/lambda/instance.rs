//! One instance: how invocations get to its process and back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::pool::error_json;
use super::streaming::Sink;
use crate::fault::{Faults, Kind};

/// Longer than Lambda's 10 s, because unoptimised functions start side by side on a developer's machine.
const INIT_LIMIT: Duration = Duration::from_secs(30);
/// When an instance is killed in the middle of an invocation, it happens within this time.
const KILL_WITHIN: Duration = Duration::from_millis(30);

/// The gateway's side of a process; the process's own side is the Runtime API.
#[derive(Debug)]
pub(super) struct Instance {
    id: u64,
    pid: u32,
    timeout: Duration,
    running: AtomicUsize,
    /// Never more than places: the pool sees to that.
    jobs: mpsc::UnboundedSender<Job>,
    state: watch::Receiver<State>,
    pub(super) stop: Notify,
}

/// Where an instance is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It has not asked for its first invocation yet.
    Starting,
    /// It has.
    Ready,
    /// Its process has ended; the error is what an invocation on it is answered with.
    Dead(Bytes),
}

/// One invocation on its way to a process.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) request_id: String,
    pub(super) payload: Bytes,
    pub(super) deadline_ms: u128,
    pub(super) taken: Arc<AtomicBool>,
    /// Where a streamed answer goes; without it such an answer is collected.
    pub(super) sink: Option<Sink>,
    pub(super) reply: oneshot::Sender<Result<Bytes, Bytes>>,
}

/// How an invocation on an instance ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Answer(Bytes),
    Error(Bytes),
    TimedOut,
    /// The process ended, at its start or in the middle.
    Died(Bytes),
    /// The process ended before it took the payload.
    NotTaken,
}

/// The Runtime API's side of an instance.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) jobs: tokio::sync::Mutex<mpsc::UnboundedReceiver<Job>>,
    pub(super) state: watch::Sender<State>,
    /// What the process has taken and not answered, by request id.
    current: Mutex<BTreeMap<String, Current>>,
    init_error: Mutex<Option<Bytes>>,
    /// Whether a function is told that the client of its streamed answer left. Lambda does not tell.
    pub(super) tells_leaving: bool,
}

#[derive(Debug)]
struct Current {
    sink: Option<Sink>,
    reply: oneshot::Sender<Result<Bytes, Bytes>>,
}

impl Instance {
    /// Both sides of a new instance.
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

    /// Ends the process, at once.
    pub(super) fn kill(&self) {
        self.stop.notify_one();
    }

    /// One invocation; the caller sees to it that there are not more at a time than places. A `fresh` instance was started for it.
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
                    "it did not ask for an invocation within {} s",
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
            // Struck, it dies even if it has answered in time: the answer is then what was lost.
            () = tokio::time::sleep(fatal_delay), if struck => {
                self.kill();
                self.death(&taken).await
            }
            answered = answer, if !struck => match answered {
                Ok(Ok(answer)) => Outcome::Answer(answer),
                Ok(Err(error)) => Outcome::Error(error),
                // It died.
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
    /// The next invocation, kept as a current one; none when the instance is being ended. A process may ask several times at
    /// once: each asking gets one of its own.
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

    /// Takes where the streamed answer to `request_id` goes, if it goes anywhere.
    pub(super) fn take_sink(&self, request_id: &str) -> Option<Sink> {
        lock(&self.current).get_mut(request_id)?.sink.take()
    }

    /// Ends the invocation `request_id`, if it is a current one.
    pub(super) fn finish(&self, request_id: &str, result: Result<Bytes, Bytes>) -> bool {
        let Some(current) = lock(&self.current).remove(request_id) else {
            return false;
        };
        // Whoever waited may have given up; the function need not know.
        let _ = current.reply.send(result);
        true
    }

    /// Keeps what the function said about its failed start.
    pub(super) fn fail_init(&self, error: Bytes) {
        *lock(&self.init_error) = Some(error);
    }

    /// What the function said about its failed start.
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
