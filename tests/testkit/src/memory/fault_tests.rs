//! Tests of the planned faults and their effects.

use core::time::Duration;
use std::collections::BTreeSet;

use futures::executor::block_on;
use protocol::{ConnectionId, Domain, LogId, Subscriber, SubscriberId};
use service::ports::{
    Channels as _, Framing, Job, Logs as _, Outcome, Posted, Probe, Pushes as _, Workers as _,
};
use sockjs::codes;

use super::*;
use crate::sim::{BEGIN, Sim};

fn log() -> LogId {
    let ada = Subscriber {
        domain: Domain::parse("d").unwrap(),
        id: SubscriberId::parse("ada").unwrap(),
    };
    LogId::direct(&ada, &SubscriberId::parse("bob").unwrap())
}

async fn take(memory: &Memory, holder: &str) -> Result<bool, Fault> {
    let lease = service::ports::Lease {
        holder: holder.to_owned(),
        until: BEGIN,
    };
    let taken = memory.take_lease(&log(), None, &lease).await?;
    Ok(taken.is_some())
}

#[test]
fn call_fails_before_or_after_applying() {
    block_on(async {
        for (failure, applied) in [
            (Failure::Conflict, false),
            (Failure::Refused, false),
            (Failure::UnknownNotApplied, false),
            (Failure::UnknownApplied, true),
        ] {
            let memory = Memory::simple(BEGIN);
            memory.create_direct(&log(), BEGIN).await.unwrap();
            memory.faults().next("take_lease", failure);
            let fault = take(&memory, "one").await.unwrap_err();
            let unknown = matches!(
                failure,
                Failure::UnknownApplied | Failure::UnknownNotApplied
            );
            assert_eq!(matches!(fault, Fault::Unknown(_)), unknown, "{failure:?}");
            let head = memory.head(&log()).await.unwrap().unwrap();
            assert_eq!(head.lease.is_some(), applied, "{failure:?}");
            assert_eq!(take(&memory, "two").await.unwrap(), !applied);
            assert_eq!(memory.faults().injected(), 1);
            assert_eq!(memory.faults().calls("take_lease"), 2);
        }
    });
}

#[test]
fn multi_step_call_fails_between_steps() {
    block_on(async {
        let memory = Memory::simple(BEGIN);
        memory.faults().after("create_direct", 1, Failure::Refused);
        assert!(memory.create_direct(&log(), BEGIN).await.is_err());
        assert_eq!(memory.head(&log()).await.unwrap(), None);
        let ada = Subscriber {
            domain: log().domain().clone(),
            id: SubscriberId::parse("ada").unwrap(),
        };
        let peers = memory.conversations(&ada, None, 9).await.unwrap();
        assert_eq!(peers.items.len(), 1, "one row was written");
    });
}

#[test]
fn random_conflicts_spare_reads() {
    block_on(async {
        let memory = Memory::simple(BEGIN);
        memory.create_direct(&log(), BEGIN).await.unwrap();
        memory.faults().set_rates(Rates {
            conflict: 1_000,
            ..Rates::default()
        });
        assert!(memory.head(&log()).await.is_ok());
        let taken = take(&memory, "one").await;
        assert!(matches!(taken, Err(Fault::Conflict)), "{taken:?}");
        memory.faults().heal();
        assert!(take(&memory, "one").await.unwrap());
    });
}

#[test]
fn killed_writer_outcome_depends_on_seed() {
    let written = |seed| {
        let sim = Sim::new(seed);
        let memory = Memory::new(sim.clock(), sim.faults());
        let store = memory.clone();
        let made = sim.block_on(async move { store.create_direct(&log(), BEGIN).await });
        made.unwrap().unwrap();
        let store = memory.clone();
        let task = sim.spawn_mortal(400, async move { take(&store, "one").await });
        sim.run();
        let killed = task.was_killed();
        let head = sim.block_on(async move { memory.head(&log()).await });
        (killed, head.unwrap().unwrap().unwrap().lease.is_some())
    };
    let seen: BTreeSet<(bool, bool)> = (0..100).map(written).collect();
    assert_eq!(seen, [(true, false), (true, true), (false, true)].into());
}

#[test]
fn index_lags_but_head_does_not() {
    block_on(async {
        let clock = Clock::manual(BEGIN);
        let memory = Memory::new(clock.clone(), Faults::new(clock.clone(), Random::new(0)));
        memory.set_index_lag(Duration::from_secs(1));
        memory.create_direct(&log(), BEGIN).await.unwrap();
        let allocation = service::ports::Allocation {
            count: 1,
            at: BEGIN,
            lease: service::ports::Lease {
                holder: "one".to_owned(),
                until: BEGIN,
            },
            close: false,
            removal: false,
        };
        memory.allocate(&log(), &allocation).await.unwrap();
        assert_eq!(memory.head(&log()).await.unwrap().unwrap().sequence, 1);
        for (listed, wait) in [(0, 999), (0, 1), (1, 0)] {
            let mut found = 0;
            for shard in 0..16 {
                found += memory.undrained(shard, None, 9).await.unwrap().items.len();
            }
            assert_eq!(found, listed);
            clock.advance(Duration::from_millis(wait));
        }
    });
}

#[test]
fn open_sockets_receive_posts() {
    block_on(async {
        let clock = Clock::automatic(BEGIN);
        let sockets = Sockets::new(Faults::new(clock, Random::new(0)));
        let id = ConnectionId("c".to_owned());
        let post = async |message: &str| sockets.post(&id, Framing::Raw, &[message]).await.outcome;
        let drop = async || {
            sockets
                .drop_connection(&id, Framing::Raw, codes::SHUTDOWN)
                .await
        };
        assert_eq!(post("early").await, Outcome::Gone);
        assert_eq!(sockets.probe(&id).await, Probe::Gone);
        sockets.open(&id);
        assert_eq!(sockets.probe(&id).await, Probe::Up);
        assert_eq!(post("1").await, Outcome::Delivered);
        for (forced, outcome) in [
            (Forced::Gone, Outcome::Gone),
            (Forced::Throttled, Outcome::Throttled),
            (Forced::UnknownLost, Outcome::Unknown),
            (Forced::UnknownDelivered, Outcome::Unknown),
            (Forced::DeliveredLost, Outcome::Delivered),
        ] {
            sockets.force_next(&id, forced);
            assert_eq!(post("2").await, outcome);
        }
        assert_eq!(post(&"x".repeat(200_000)).await, Outcome::TooLarge);
        assert_eq!(sockets.take_texts(&id), ["1", "2"]);
        assert!(!sockets.overlapped(&id));
        futures::future::join(post("3"), post("4")).await;
        assert!(sockets.overlapped(&id));

        sockets.stick(&id, true);
        assert!(!drop().await);
        assert_eq!(sockets.probe(&id).await, Probe::Unknown);
        sockets.stick(&id, false);
        assert!(drop().await);
        assert_eq!(post("late").await, Outcome::Gone);
    });
}

#[test]
fn sockjs_posts_share_one_frame() {
    block_on(async {
        let sockets = Sockets::new(Faults::new(Clock::automatic(BEGIN), Random::new(0)));
        let id = ConnectionId("c".to_owned());
        sockets.open(&id);
        let framed = Framing::Sockjs;
        let long = "\"".repeat(40_000);
        let all = ["1", "2", &long, &long];
        assert_eq!(sockets.open_session(&id).await, Outcome::Delivered);
        let mut rest = all.as_slice();
        let mut counts = Vec::new();
        while !rest.is_empty() {
            let Posted { count, outcome } = sockets.post(&id, framed, rest).await;
            assert_eq!(outcome, Outcome::Delivered);
            counts.push(count);
            rest = &rest[count..];
        }
        assert_eq!(counts, [3, 1]);
        // A message longer than a frame is tried alone, and refused.
        let longer = long.repeat(2);
        let Posted { count, outcome } = sockets.post(&id, framed, &[&longer, "3"]).await;
        assert_eq!((count, outcome), (1, Outcome::TooLarge));
        sockets.force_next(&id, Forced::Throttled);
        let Posted { count, outcome } = sockets.post(&id, framed, &["3", "4"]).await;
        assert_eq!((count, outcome), (2, Outcome::Throttled));
        let none = sockets.post(&id, framed, &[]).await;
        assert_eq!((none.count, none.outcome), (0, Outcome::Delivered));
        assert!(
            sockets
                .drop_connection(&id, framed, codes::TOKEN_INVALIDATED)
                .await
        );
        let frames: Vec<_> = sockets.frames(&id).into_iter().map(|it| it.text).collect();
        assert_eq!(frames.first().map(String::as_str), Some("o"));
        assert_eq!(
            frames.last().map(String::as_str),
            Some(r#"c[4401,"token-invalidated"]"#)
        );
        assert_eq!(sockets.take_texts(&id), all);
    });
}

#[test]
fn worker_waits_for_next_job() {
    let sim = Sim::new(1);
    let jobs = Jobs::new(sim.faults());
    let queue = jobs.clone();
    let worker = sim.spawn(async move { queue.next().await });
    sim.run();
    assert!(worker.is_running());
    let job = Job::Drain {
        log: log(),
        holder: None,
    };
    jobs.faults().next("start", Failure::UnknownApplied);
    let (queue, started) = (jobs.clone(), job.clone());
    let answer = sim.block_on(async move { queue.start(&started).await });
    assert!(matches!(answer, Some(Err(Fault::Unknown(_)))));
    sim.run();
    assert_eq!(worker.take(), Some(job));
    assert!(jobs.is_empty());
}
