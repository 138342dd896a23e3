//! A handle to a task.

use core::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};
use std::rc::Rc;

use super::Sim;

/// A spawned task. As a future it resolves to the task's value, or to `None` if the task was killed.
pub struct Task<T> {
    id: u64,
    sim: Sim,
    slot: Rc<RefCell<Slot<T>>>,
}

impl<T> Task<T> {
    pub(super) fn new(id: u64, sim: Sim, slot: Rc<RefCell<Slot<T>>>) -> Self {
        Self { id, sim, slot }
    }

    /// Kills the task at its current await. Does nothing if the task has ended.
    pub fn kill(&self) {
        self.sim.kill(self.id);
    }

    /// True if the task has not ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.slot.borrow().end.is_none()
    }

    /// True if the task was killed.
    #[must_use]
    pub fn was_killed(&self) -> bool {
        matches!(self.slot.borrow().end, Some(End::Killed))
    }

    /// Takes the task's value, if it has ended by itself.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        match &mut self.slot.borrow_mut().end {
            Some(End::Finished(value)) => value.take(),
            Some(End::Killed) | None => None,
        }
    }
}

impl<T> Future for Task<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        if self.is_running() {
            let waker = context.waker().clone();
            self.slot.borrow_mut().waiting.push(waker);
            return Poll::Pending;
        }
        Poll::Ready(self.take())
    }
}

pub(super) struct Slot<T> {
    end: Option<End<T>>,
    waiting: Vec<Waker>,
}

pub(super) enum End<T> {
    Finished(Option<T>),
    Killed,
}

/// Records how a task ended. If it is dropped with the task, the task was killed.
pub(super) struct Ending<T>(Option<Rc<RefCell<Slot<T>>>>);

impl<T> Slot<T> {
    pub(super) fn new() -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            end: None,
            waiting: Vec::new(),
        }))
    }
}

impl<T> Ending<T> {
    pub(super) fn of(slot: &Rc<RefCell<Slot<T>>>) -> Self {
        Self(Some(Rc::clone(slot)))
    }

    pub(super) fn end(&mut self, end: End<T>) {
        if let Some(slot) = self.0.take() {
            let mut slot = slot.borrow_mut();
            slot.end = Some(end);
            for waker in slot.waiting.drain(..) {
                waker.wake();
            }
        }
    }
}

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        self.end(End::Killed);
    }
}
