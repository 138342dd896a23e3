//! One run of the simulation: subscribers in two domains, most with several devices, and the faults of the run.

use core::time::Duration;
use std::{collections::BTreeMap, rc::Rc};

use protocol::{ChannelKey, LogId};
use testkit::{memory::Rates, sim::Sim};

use crate::{
    check::{Run, check},
    client::Device,
    profile::{PROFILES, Profile},
    script::{CHANNELS, PEOPLE},
    shared::Shared,
    tally::Tally,
    world::{World, channel, subscriber},
};

/// Devices of each subscriber.
const DEVICES: usize = 2;
/// The number of actions of each device.
const ACTIONS: u64 = 14;
/// How often the invariants that hold at any time are checked.
const LOOK: Duration = Duration::from_millis(500);
/// After so many looks a log with unpushed events must have a lease holder.
const LEFT_ALONE: u32 = 8;

/// Runs one seed. Returns the counts of what was done, or the first invariant that broke.
pub(crate) fn run(sim: &Sim, prepare: impl Fn(&World)) -> Result<Tally, String> {
    let profile = Profile::of(sim.seed());
    let world = World::new(sim);
    prepare(&world);
    let shared = Rc::new(Shared::default());
    let mortality = if profile.deaths { 4 } else { 0 };
    shared.mortality.set(mortality);
    shared.wire.set(if profile.wire { 20 } else { 0 });
    world.work(mortality, if profile.twice { 300 } else { 0 });
    world.make_trouble(profile);
    world.expire_each_minute(&shared);
    watch(&world, &shared, profile);

    // The second domain is small. It only checks that the domains are kept apart.
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
    let outcome = to_the_end(&world, &shared, &devices, profile);

    // Count what was done, and the faults.
    let told = shared.connections.borrow();
    let told = told
        .iter()
        .map(|it| it.frames.borrow().len())
        .sum::<usize>();
    let mut tally = shared.tally.borrow().clone();
    for (what, count) in [
        ("frames to clients", told),
        ("functions killed", usize::try_from(sim.killed()).unwrap()),
        (
            "faults of the store",
            world.service.store.faults().injected(),
        ),
        ("faults of posts", world.sockets().faults().injected()),
        ("jobs", world.jobs_done().len()),
    ] {
        tally.add(what, u64::try_from(count).unwrap());
    }
    shared.over.set(true);
    sim.kill_all();
    outcome.map(|()| tally)
}

fn to_the_end(
    world: &World,
    shared: &Rc<Shared>,
    devices: &[Rc<Device>],
    profile: Profile,
) -> Result<(), String> {
    let sim = &world.sim;
    // Wait at most 40 minutes for the clients to finish their actions.
    for _ in 0..240 {
        if shared.done.get() == devices.len() {
            break;
        }
        sim.run_for(Duration::from_secs(10));
    }
    let run = Run {
        world,
        shared,
        devices,
        profile,
    };
    let outcome = if shared.done.get() < devices.len() {
        let broken = shared.broken.borrow().first().cloned();
        Err(broken.unwrap_or_else(|| "(2) some clients never finished".to_owned()))
    } else {
        // Stop all faults before the checks.
        world.heal();
        shared.mortality.set(0);
        shared.wire.set(0);
        // Let leases and gates end, jobs be repeated, and the sweep of the minute run.
        sim.run_for(Duration::from_secs(200));
        shared.over.set(true);
        sim.run();
        check(&run)
    };
    if outcome.is_err() && std::env::var("SEED").is_ok() {
        println!("{}", run.story());
    }
    outcome
}

/// Checks the invariants that must hold at any time.
fn watch(world: &World, shared: &Rc<Shared>, profile: Profile) {
    let (world, shared) = (world.clone(), Rc::clone(shared));
    let sim = world.sim.clone();
    sim.spawn(async move {
        let mut lying: BTreeMap<LogId, u32> = BTreeMap::new();
        let mut closing: BTreeMap<ChannelKey, u32> = BTreeMap::new();
        while !shared.over.get() {
            world.sim.clock().sleep(LOOK).await;
            let store = &world.service.store;
            // Invariant 14: the roster counts its rows, and an open channel with members has an administrator.
            for id in CHANNELS {
                let LogId::Channel(key) = channel("d", id) else {
                    continue;
                };
                let Some((roster, rows)) = store.rows(&key) else {
                    continue;
                };
                let administrators = rows.iter().filter(|it| it.administrator).count();
                let counts = (roster.members, roster.administrators);
                let there = (
                    u64::try_from(rows.len()).unwrap(),
                    u64::try_from(administrators).unwrap(),
                );
                if counts != there || (administrators == 0 && !rows.is_empty()) {
                    shared.broke(format!("(14) {id} counts {counts:?}, has {rows:?}"));
                }
            }
            // The other checks count looks, which needs prompt calls.
            if !profile.is_prompt() {
                continue;
            }
            for (log, head) in store.all_heads() {
                // Invariant 9: a log with unpushed events soon has a lease holder.
                let lies = head.sent < head.sequence && head.lease.is_none();
                let looks = lying.entry(log.clone()).or_default();
                *looks = if lies { *looks + 1 } else { 0 };
                if *looks == LEFT_ALONE {
                    shared.broke(format!(
                        "(9) {log} has unpushed events and no lease holder: {head:?}"
                    ));
                }
                let LogId::Channel(key) = &log else {
                    continue;
                };
                // A channel whose log is closed ends soon after.
                let looks = closing.entry(key.clone()).or_default();
                let half = !head.active && store.rows(key).is_some();
                *looks = if half { *looks + 1 } else { 0 };
                if *looks == 2 * LEFT_ALONE {
                    shared.broke(format!(
                        "(2) the log {log} is closed but the channel has not ended"
                    ));
                }
            }
        }
    });
}

impl World {
    fn make_trouble(&self, profile: Profile) {
        let store = self.service.store.faults();
        let posts = self.sockets().faults();
        let variant = self.sim.seed() / PROFILES;
        if variant.is_multiple_of(2) {
            store.set_latency(Duration::from_millis(30));
            posts.set_latency(Duration::from_millis(50));
        }
        if profile.slow {
            // So slow that slots are voided before their writers fill them.
            if variant % 3 == 1 {
                store.set_latency(Duration::from_millis(1_200));
            }
            store.set_spikes(8, Duration::from_secs(14));
            posts.set_spikes(20, Duration::from_millis(900));
        }
        if profile.store {
            store.set_rates(Rates {
                conflict: 10,
                refused: 10,
                unknown_applied: 10,
                unknown_not_applied: 10,
            });
            self.service.store.cap_pages(Some(3));
            self.service.store.set_index_lag(Duration::from_secs(2));
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
        self.service.store.set_index_lag(Duration::ZERO);
        self.sockets().faults().heal();
        self.service.workers.faults().heal();
    }
}
