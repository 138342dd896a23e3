//! One run of the simulation: people in two domains, each with several devices, and what goes wrong.

use core::time::Duration;
use std::rc::Rc;

use testkit::{memory::Rates, sim::Sim};

use crate::{
    check::{Run, check},
    client::{Device, Shared},
    script::PEOPLE,
    world::{World, subscriber},
};

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    /// Functions die.
    pub(crate) deaths: bool,
    /// The store refuses, loses answers, conflicts.
    pub(crate) store: bool,
    /// Posts are lost, throttled, of unknown outcome.
    pub(crate) posts: bool,
    /// Jobs come twice.
    pub(crate) twice: bool,
}

impl Profile {
    /// Nothing, each alone, everything.
    fn of(seed: u64) -> Self {
        let none = Self::default();
        match seed % 6 {
            0 => none,
            1 => Self {
                deaths: true,
                ..none
            },
            2 => Self {
                store: true,
                ..none
            },
            3 => Self {
                posts: true,
                ..none
            },
            4 => Self {
                twice: true,
                ..none
            },
            _ => Self {
                deaths: true,
                store: true,
                posts: true,
                twice: true,
            },
        }
    }

    pub(crate) fn is_faulty(self) -> bool {
        self != Self::default()
    }
}

/// Devices of each subscriber.
const DEVICES: usize = 2;
/// What each device does.
const ACTIONS: u64 = 12;

/// Runs one seed; what does not hold at its end.
pub(crate) fn run(sim: &Sim, prepare: impl Fn(&World)) -> Result<(), String> {
    let profile = Profile::of(sim.seed());
    let world = World::new(sim);
    prepare(&world);
    let shared = Rc::new(Shared::default());
    let mortality = if profile.deaths { 4 } else { 0 };
    shared.mortality.set(mortality);
    world.work(mortality, if profile.twice { 300 } else { 0 });
    world.make_trouble(profile);

    // The second domain is small: it is there to be kept apart.
    let people = [("d", &PEOPLE[..], DEVICES), ("e", &PEOPLE[..2], 1)];
    let mut devices = Vec::new();
    for (domain, people, count) in people {
        for id in people {
            for _ in 0..count {
                let device = Rc::new(Device::new(&world, &shared, subscriber(domain, id)));
                sim.spawn(Rc::clone(&device).live(ACTIONS));
                devices.push(device);
            }
        }
    }
    for _ in 0..120 {
        if shared.done.get() == devices.len() {
            break;
        }
        sim.run_for(Duration::from_secs(10));
    }
    if shared.done.get() < devices.len() {
        return Err(format!("only {} clients came to an end", shared.done.get()));
    }
    world.heal();
    shared.mortality.set(0);
    // Leases and gates end, jobs are repeated, the sweep comes by.
    for _ in 0..3 {
        sim.run_for(Duration::from_secs(65));
        world.sweep();
    }
    sim.run_for(Duration::from_secs(10));
    shared.over.set(true);
    sim.run();
    let run = Run {
        world: &world,
        shared: &shared,
        devices: &devices,
        profile,
    };
    let checked = check(&run);
    if checked.is_err() && std::env::var("SEED").is_ok() {
        eprintln!("{}", run.story());
    }
    checked
}

impl World {
    fn make_trouble(&self, profile: Profile) {
        let store = self.service.store.faults();
        let posts = self.sockets().faults();
        if self.sim.seed().is_multiple_of(2) {
            store.set_latency(Duration::from_millis(30));
            posts.set_latency(Duration::from_millis(50));
        }
        if self.sim.seed() % 12 == 10 {
            // So slow that places are closed as holes before their writers come to them.
            store.set_latency(Duration::from_millis(1_200));
        }
        if profile.store {
            store.set_rates(Rates {
                conflict: 10,
                refused: 10,
                unknown_applied: 10,
                unknown_not_applied: 10,
            });
            self.service.store.cap_pages(Some(3));
        }
        if profile.posts {
            posts.set_rates(Rates {
                conflict: 0,
                refused: 20,
                unknown_applied: 15,
                unknown_not_applied: 15,
            });
        }
    }

    fn heal(&self) {
        self.service.store.faults().heal();
        self.service.store.cap_pages(None);
        self.sockets().faults().heal();
        self.service.workers.faults().heal();
    }
}
