//! The executor itself.

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
fn a_seed_is_one_order_and_other_seeds_are_others() {
    let orders: BTreeSet<String> = (0..200).map(trace).collect();
    assert!(orders.len() > 100, "{} orders of 200 seeds", orders.len());
    for seed in 0..20 {
        assert_eq!(trace(seed), trace(seed));
    }
}

#[test]
fn an_update_is_lost_on_some_seeds_where_tasks_read_and_write_in_two_steps() {
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
fn the_clock_jumps_from_timer_to_timer() {
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
fn a_killed_task_drops_what_it_holds_and_who_waits_for_it_learns_it() {
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
fn a_task_can_spawn_others_wait_for_them_and_kill_itself() {
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
fn a_mortal_task_dies_at_every_await_on_some_seed() {
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
fn what_can_never_end_is_not_waited_for() {
    let sim = Sim::new(1);
    assert_eq!(sim.block_on(core::future::pending::<()>()), None);
    assert_eq!(sim.tasks(), 0);
}
