//! The function `worker` as a queue that a test drains.

use core::{
    future::poll_fn,
    task::{Poll, Waker},
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use service::ports::{Fault, Job, Workers};

use crate::fault::{Faults, Kind};

/// [`Workers`] that only queue jobs. Clones are the same queue.
#[derive(Clone, Debug)]
pub struct Jobs {
    faults: Faults,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Job>,
    waiting: Vec<Waker>,
}

impl Jobs {
    /// An empty queue.
    #[must_use]
    pub fn new(faults: Faults) -> Self {
        Self {
            faults,
            state: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault settings. The operation is `start`.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Takes the oldest job.
    #[must_use]
    pub fn take(&self) -> Option<Job> {
        self.lock().queue.pop_front()
    }

    /// Takes all jobs.
    #[must_use]
    pub fn take_all(&self) -> Vec<Job> {
        self.lock().queue.drain(..).collect()
    }

    /// Appends a job, as when Lambda starts a worker again after it died.
    pub fn put(&self, job: Job) {
        let waiting = {
            let mut state = self.lock();
            state.queue.push_back(job);
            core::mem::take(&mut state.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
    }

    /// The number of queued jobs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().queue.len()
    }

    /// True if no job is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the oldest job, or waits until there is one. A simulation's workers loop on it.
    pub async fn next(&self) -> Job {
        poll_fn(|context| {
            let mut state = self.lock();
            match state.queue.pop_front() {
                Some(job) => Poll::Ready(job),
                None => {
                    state.waiting.push(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl Workers for Jobs {
    async fn start(&self, job: &Job) -> Result<(), Fault> {
        self.faults
            .step("start", Kind::Write, || {
                self.put(job.clone());
                Ok(())
            })
            .await
    }
}
