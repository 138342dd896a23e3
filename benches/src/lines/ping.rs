//! The shortest exchange, with everything on one core.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::process::confine;
use crate::report::{Bound, Measured, quantile};
use crate::socket::Socket;
use crate::stack::Stack;

use super::{Plan, everything, is_slow};

const P50: &str = "µs";
const CPU: &str = "µs of its CPU";
const GATED: &str = "µs, `hello`";

pub(super) async fn ping(plan: &Plan) -> Result<Measured> {
    let mut measured = Measured::new("ping", "one client, everything on one core, p50");
    let mut stacks = everything(plan).await?;
    stacks.push(Arc::new(Stack::echo()?));
    let mut sockets = Vec::new();
    for stack in &stacks {
        let mut room = stack.room(1, 0).await?;
        let mut socket = room.senders.pop().context("the room has no sender")?;
        // The first messages start the functions.
        exchange(stack, &mut socket, 20).await?;
        sockets.push(socket);
        confine(stack.process.id(), "0")?;
    }
    confine(std::process::id(), "0")?;
    for _ in 0..plan.rounds {
        for (stack, socket) in stacks.iter().zip(&mut sockets) {
            let pings = if is_slow(stack) { 100 } else { 1000 };
            let cpu = stack.cpu();
            measured.add(stack.name, P50, exchange(stack, socket, pings).await?);
            measured.add(stack.name, CPU, (stack.cpu() - cpu) / pings as f64);
            if stack.as_ours().is_some() {
                let hello = r#"{"type":"hello","id":"p"}"#;
                let took = exchanged(socket, hello, r#""type":"ack""#, pings).await?;
                measured.add(stack.name, GATED, took);
            }
        }
    }
    confine(std::process::id(), "0-1023")?;
    measured.ratio(("messaging", P50), ("echo", P50), Bound::AtMost(45.0));
    measured.ratio(("messaging", P50), ("thin", P50), Bound::AtMost(6.0));
    measured.ratio(("messaging", GATED), ("echo", P50), Bound::AtMost(90.0));
    measured.ratio(("thin", P50), ("echo", P50), Bound::AtMost(8.0));
    Ok(measured)
}

async fn exchange(stack: &Stack, socket: &mut Socket, times: usize) -> Result<f64> {
    let (text, mark) = stack.ping();
    exchanged(socket, &text, mark, times).await
}

/// Returns the median of some exchanges, in microseconds.
async fn exchanged(socket: &mut Socket, text: &str, mark: &str, times: usize) -> Result<f64> {
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        let begun = Instant::now();
        socket.send(text).await?;
        socket.next_with(mark).await?;
        took.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(quantile(&took, 0.5))
}
