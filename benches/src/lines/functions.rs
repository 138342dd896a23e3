//! CPU and memory of an invocation of each function that a client waits for. Their memory sizes are chosen by these figures.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::proc;
use crate::process::Process;
use crate::report::Measured;
use crate::stack::{Ours, Stack};

use super::Plan;

const CPU: &str = "ms of CPU an invocation";
const MEMORY: &str = "MB resident";
/// Invocations of a round.
const TIMES: usize = 200;
/// Receivers of the larger channel.
const MANY: usize = 100;
/// How long the work after a connect or disconnect may take.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// Measures the CPU of one function's instances.
struct Meter<'a> {
    process: &'a Process,
    function: &'static str,
    before: f64,
}

impl<'a> Meter<'a> {
    fn of(process: &'a Process, function: &'static str) -> Self {
        let mut meter = Self {
            process,
            function,
            before: 0.0,
        };
        meter.before = meter.cpu();
        meter
    }

    fn instances(&self) -> impl Iterator<Item = u32> {
        let tree = proc::tree(self.process.id()).into_iter();
        tree.filter(|pid| proc::name(*pid) == self.function)
    }

    fn cpu(&self) -> f64 {
        self.instances().map(proc::cpu_nanos).sum::<f64>() / 1e6
    }

    /// Records what `times` invocations took.
    fn note(&self, measured: &mut Measured, subject: &'static str, times: usize) {
        measured.add(subject, CPU, (self.cpu() - self.before) / times as f64);
        let memory = self.instances().map(proc::resident).fold(0.0, f64::max);
        measured.add(subject, MEMORY, memory / 1024.0);
    }
}

/// Measures the line. The first round only warms up, because a start is no part of an invocation.
pub(super) async fn functions(plan: &Plan) -> Result<Measured> {
    let mut measured = Measured::new("functions", "CPU of an invocation");
    let mut warm = Measured::new("functions", "warming up");
    let stack = Stack::ours().await?;
    let ours = stack.as_ours().context("the stack is not Messaging")?;
    for round in 0..=plan.rounds {
        let into = if round == 0 { &mut warm } else { &mut measured };
        back_end(ours, &stack.process, into).await?;
        come_and_go(&stack, into).await?;
        talk(&stack, 1, "message, one receiver", into).await?;
        talk(&stack, MANY, "message, 100 receivers", into).await?;
    }
    Ok(measured)
}

async fn back_end(ours: &Ours, process: &Process, measured: &mut Measured) -> Result<()> {
    let domain = ours.fresh_domain();
    let api = Meter::of(process, "api");
    for _ in 0..TIMES {
        ours.token(&domain, "s0").await?;
    }
    api.note(measured, "api, a token", TIMES);
    Ok(())
}

async fn come_and_go(stack: &Stack, measured: &mut Measured) -> Result<()> {
    let meter = |function| Meter::of(&stack.process, function);
    let (authorizer, connect) = (meter("authorizer"), meter("connect"));
    let (worker, disconnect) = (meter("worker"), meter("disconnect"));
    let sockets = stack.strangers(TIMES).await?;
    tokio::time::sleep(AFTERWARDS).await;
    authorizer.note(measured, "authorizer", TIMES);
    connect.note(measured, "connect", TIMES);
    worker.note(measured, "worker, a connection", TIMES);
    drop(sockets);
    tokio::time::sleep(AFTERWARDS).await;
    disconnect.note(measured, "disconnect", TIMES);
    Ok(())
}

async fn talk(
    stack: &Stack,
    receivers: usize,
    subject: &'static str,
    measured: &mut Measured,
) -> Result<()> {
    let mut room = stack.room(1, receivers).await?;
    tokio::time::sleep(AFTERWARDS).await;
    let message = Meter::of(&stack.process, "message");
    for number in 0..TIMES {
        let text = stack.message(&room, number as u64);
        let sender = room.senders.first_mut().context("the room has no sender")?;
        sender.send(text).await?;
        sender.next_with("\"ack\"").await?;
    }
    // The pushes of the last message may still be in flight.
    tokio::time::sleep(AFTERWARDS).await;
    message.note(measured, subject, TIMES);
    Ok(())
}
