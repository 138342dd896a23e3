//! A deterministic simulation: one thread, virtual time, and a seed that decides which task goes next at every await.

mod task;

use core::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    task::{Context, Waker},
    time::Duration,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    task::Wake,
};

use protocol::Timestamp;

pub use self::task::Task;
use self::task::{End, Ending, Slot};
use crate::{clock::Clock, fault::Faults, random::Random};

/// When simulations begin: 2026-01-01T00:00:00Z.
pub const BEGIN: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// If this many steps pass without the clock moving, the tasks only wake each other.
const STEPS_AT_ONE_TIME: u64 = 5_000_000;

/// Runs `scenario` on each seed below `runs`, or only on the seed in the variable `SEED`. Prints the seed of a run that
/// fails.
///
/// # Panics
/// If the scenario does, or if `SEED` is not a number.
pub fn check(runs: u64, scenario: impl Fn(&Sim)) {
    let only = std::env::var("SEED").ok();
    let only = only.map(|it| {
        it.parse::<u64>()
            .unwrap_or_else(|_| panic!("SEED={it} is not a number"))
    });
    for seed in only.map_or(0..runs, |seed| seed..seed.saturating_add(1)) {
        let run = Run(Sim::new(seed));
        scenario(&run.0);
    }
}

/// Kills all tasks when it is dropped, even after a panic, because the tasks may own the simulation in turn.
struct Run(Sim);

impl Drop for Run {
    fn drop(&mut self) {
        self.0.kill_all();
    }
}

/// A seeded executor. Clones are the same one, so a task can spawn others.
#[derive(Clone)]
pub struct Sim(Rc<Inner>);

struct Inner {
    seed: u64,
    random: Random,
    clock: Clock,
    tasks: RefCell<BTreeMap<u64, Spawned>>,
    next_task: Cell<u64>,
    ready: Arc<Mutex<BTreeSet<u64>>>,
    running: Cell<Option<u64>>,
    running_killed: Cell<bool>,
    steps: Cell<u64>,
    killed: Cell<u64>,
}

struct Spawned {
    future: Pin<Box<dyn Future<Output = ()>>>,
    mortality: u32,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.print_seed();
    }
}

impl Inner {
    #[expect(
        clippy::print_stderr,
        reason = "the reader of a failed test needs its seed"
    )]
    fn print_seed(&self) {
        if std::thread::panicking() {
            eprintln!("to repeat this run: SEED={}", self.seed);
        }
    }
}

impl Sim {
    /// The run of this seed, beginning at [`BEGIN`].
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(Inner {
            seed,
            random: Random::new(seed),
            clock: Clock::manual(BEGIN),
            tasks: RefCell::default(),
            next_task: Cell::new(0),
            ready: Arc::default(),
            running: Cell::new(None),
            running_killed: Cell::new(false),
            steps: Cell::new(0),
            killed: Cell::new(0),
        }))
    }

    /// The seed of the run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    /// The clock of the run.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.0.clock.clone()
    }

    /// A new random stream. Drawing from it does not shift other streams.
    #[must_use]
    pub fn random(&self) -> Random {
        Random::new(self.0.random.bits())
    }

    /// Fault settings on the run's clock with a new random stream.
    #[must_use]
    pub fn faults(&self) -> Faults {
        Faults::new(self.clock(), self.random())
    }

    /// Starts a task.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        self.spawn_mortal(0, future)
    }

    /// Starts a task that dies at each await with this chance per thousand.
    pub fn spawn_mortal<T: 'static>(
        &self,
        mortality: u32,
        future: impl Future<Output = T> + 'static,
    ) -> Task<T> {
        let slot = Slot::new();
        let mut ending = Ending::of(&slot);
        let future = Box::pin(async move {
            let value = future.await;
            ending.end(End::Finished(Some(value)));
        });
        let id = self.0.next_task.get();
        self.0.next_task.set(id + 1);
        self.0
            .tasks
            .borrow_mut()
            .insert(id, Spawned { future, mortality });
        self.wake(id);
        Task::new(id, self.clone(), slot)
    }

    fn wake(&self, id: u64) {
        let mut ready = self.0.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.insert(id);
    }

    /// Takes one of the ready tasks, by the seed.
    fn draw(&self) -> Option<u64> {
        let mut ready = self.0.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let drawn = ready
            .iter()
            .nth(self.0.random.index(ready.len()))
            .copied()?;
        ready.remove(&drawn);
        Some(drawn)
    }

    /// Runs one task to its next await. Returns false if none is ready.
    ///
    /// # Panics
    /// If a task does.
    pub fn step(&self) -> bool {
        let Some(id) = self.draw() else {
            return false;
        };
        let spawned = self.0.tasks.borrow_mut().remove(&id);
        let Some(mut spawned) = spawned else {
            return true;
        };
        let waker = Waker::from(Arc::new(Ready {
            id,
            ready: Arc::clone(&self.0.ready),
        }));
        self.0.steps.set(self.0.steps.get() + 1);
        self.0.running.set(Some(id));
        let polled = spawned
            .future
            .as_mut()
            .poll(&mut Context::from_waker(&waker));
        self.0.running.set(None);
        let killed = self.0.running_killed.take();
        if polled.is_pending() {
            if killed || self.0.random.chance(spawned.mortality) {
                self.0.killed.set(self.0.killed.get() + 1);
                drop(spawned);
            } else {
                self.0.tasks.borrow_mut().insert(id, spawned);
            }
        }
        true
    }

    /// Runs tasks until all wait for the clock or for each other.
    ///
    /// # Panics
    /// If a task does, or if tasks wake each other for ever.
    pub fn run_until_idle(&self) {
        let begun = self.0.steps.get();
        while self.step() {
            assert!(
                self.0.steps.get() - begun < STEPS_AT_ONE_TIME,
                "tasks wake each other for ever"
            );
        }
    }

    /// Runs tasks, moving the clock from timer to timer, until none waits for the clock.
    ///
    /// # Panics
    /// As [`Sim::run_until_idle`].
    pub fn run(&self) {
        self.run_until_idle();
        while self.0.clock.advance_to_next() {
            self.run_until_idle();
        }
    }

    /// As [`Sim::run`], for `duration` of virtual time. The clock is that much later afterwards.
    ///
    /// # Panics
    /// As [`Sim::run_until_idle`].
    pub fn run_for(&self, duration: Duration) {
        let end = self.0.clock.now().plus(duration);
        self.run_until_idle();
        while self.0.clock.next_timer().is_some_and(|at| at <= end) {
            self.0.clock.advance_to_next();
            self.run_until_idle();
        }
        self.0.clock.advance_to(end);
        self.run_until_idle();
    }

    /// Runs a future to its end, with all other tasks beside it and the clock moving. Returns `None` if it can never
    /// end.
    ///
    /// # Panics
    /// As [`Sim::run_until_idle`].
    pub fn block_on<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Option<T> {
        let task = self.spawn(future);
        loop {
            while task.is_running() && self.step() {}
            if !task.is_running() {
                return task.take();
            }
            if !self.0.clock.advance_to_next() {
                task.kill();
                return None;
            }
        }
    }

    /// The number of tasks.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.0.tasks.borrow().len()
    }

    /// The number of tasks that were killed.
    #[must_use]
    pub fn killed(&self) -> u64 {
        self.0.killed.get()
    }

    /// Kills every task.
    pub fn kill_all(&self) {
        let tasks = core::mem::take(&mut *self.0.tasks.borrow_mut());
        self.0
            .killed
            .set(self.0.killed.get() + u64::try_from(tasks.len()).unwrap_or(0));
        drop(tasks);
    }

    fn kill(&self, id: u64) {
        if self.0.running.get() == Some(id) {
            self.0.running_killed.set(true);
            return;
        }
        let spawned = self.0.tasks.borrow_mut().remove(&id);
        self.0
            .killed
            .set(self.0.killed.get() + u64::from(spawned.is_some()));
        // A dropped task may use the simulation, so nothing of it may be borrowed here.
        drop(spawned);
    }
}

struct Ready {
    id: u64,
    ready: Arc<Mutex<BTreeSet<u64>>>,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.insert(self.id);
    }
}

#[cfg(test)]
mod tests;
