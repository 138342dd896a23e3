//! Tests of the executor.

use super::*;
use crate::clock::pause;

/// Three tasks that each write their name three times with an await before each.
fn trace(seed: u64) -> String {
    let sim = Sim::new(seed);
    let written = Rc::new(RefCell::new(String::new()));
    for name in ["a", "b", "c"] {
        let written = Rc::clone(&written);
        sim.spawn(async move {
            for _ in 0..3 {
                pause().await;
                written.borrow_mut().push_str(name);
            }
        });
    }
    sim.run();
    written.take()
}

#[test]
fn seed_determines_task_order() {
    let orders: BTreeSet<String> = (0..200).map(trace).collect();
    assert!(orders.len() > 100, "{} orders of 200 seeds", orders.len());
    for seed in 0..20 {
        assert_eq!(trace(seed), trace(seed));
    }
}

#[test]
fn some_seeds_lose_racing_updates() {
    let total = |seed| {
        let sim = Sim::new(seed);
        let total = Rc::new(Cell::new(0));
        for _ in 0..2 {
            let total = Rc::clone(&total);
            sim.spawn(async move {
                let seen = total.get();
                pause().await;
                total.set(seen + 1);
            });
        }
        sim.run();
        total.get()
    };
    let totals: BTreeSet<u32> = (0..50).map(total).collect();
    assert_eq!(totals, [1, 2].into());
}

#[test]
fn clock_jumps_between_timers() {
    let sim = Sim::new(1);
    let woken = Rc::new(RefCell::new(Vec::new()));
    for seconds in [3, 1, 2] {
        let (woken, clock) = (Rc::clone(&woken), sim.clock());
        sim.spawn(async move {
            clock.sleep(Duration::from_secs(seconds)).await;
            let late = BEGIN.until(clock.now());
            woken.borrow_mut().push((seconds, late.as_secs()));
        });
    }
    sim.run_for(Duration::from_millis(2_500));
    assert_eq!(*woken.borrow(), [(1, 1), (2, 2)]);
    assert_eq!(BEGIN.until(sim.clock().now()), Duration::from_millis(2_500));
    sim.run();
    assert_eq!(woken.borrow().last(), Some(&(3, 3)));
    assert_eq!(sim.tasks(), 0);
}

#[test]
fn killed_task_drops_state_and_reports() {
    struct Held(Rc<Cell<bool>>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let sim = Sim::new(1);
    let dropped = Rc::new(Cell::new(false));
    let held = Held(Rc::clone(&dropped));
    let task = sim.spawn(async move {
        core::future::pending::<()>().await;
        drop(held);
    });
    sim.run();
    assert!(task.is_running() && !dropped.get());
    task.kill();
    assert!(task.was_killed() && dropped.get());
    assert_eq!(sim.block_on(task), Some(None));
    assert_eq!((sim.killed(), sim.tasks()), (1, 0));
}

#[test]
fn task_spawns_awaits_and_kills_itself() {
    let sim = Sim::new(1);
    let inner = sim.clone();
    let sum = sim.block_on(async move {
        let parts: Vec<_> = (1..=3).map(|n| inner.spawn(async move { n })).collect();
        let mut sum = 0;
        for part in parts {
            sum += part.await.unwrap();
        }
        sum
    });
    assert_eq!(sum, Some(6));

    let own: Rc<RefCell<Option<Task<()>>>> = Rc::default();
    let seen = Rc::clone(&own);
    let reached = Rc::new(Cell::new(0));
    let counted = Rc::clone(&reached);
    *own.borrow_mut() = Some(sim.spawn(async move {
        pause().await;
        seen.borrow().as_ref().unwrap().kill();
        counted.set(1);
        pause().await;
        counted.set(2);
    }));
    sim.run();
    assert!(own.borrow().as_ref().unwrap().was_killed());
    assert_eq!(reached.get(), 1);
}

#[test]
fn mortal_task_can_die_anywhere() {
    let reached = |seed| {
        let sim = Sim::new(seed);
        let steps = Rc::new(Cell::new(0));
        let counted = Rc::clone(&steps);
        sim.spawn_mortal(300, async move {
            for _ in 0..5 {
                counted.set(counted.get() + 1);
                pause().await;
            }
            counted.set(6);
        });
        sim.run();
        steps.get()
    };
    let all: BTreeSet<u32> = (0..200).map(reached).collect();
    assert_eq!(all, (1..=6).collect());
}

#[test]
fn stuck_future_returns_none() {
    let sim = Sim::new(1);
    assert_eq!(sim.block_on(core::future::pending::<()>()), None);
    assert_eq!(sim.tasks(), 0);
}
