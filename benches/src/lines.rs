//! The lines of the table. Each is measured in turns: one round of every subject, then the next round.

mod fan_out;
mod functions;
mod handshakes;
mod memory;
mod messages;
mod ping;
mod posts;
mod start;
mod units;

use anyhow::Result;
use std::sync::Arc;

use crate::proc::{self, Machine};
use crate::report::Measured;
use crate::stack::{Peers, Stack};

/// The settings of a run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Rounds of each subject.
    pub(crate) rounds: usize,
    /// The peers. `None` leaves them out.
    pub(crate) peers: Option<Peers>,
    /// Connections that the line about memory opens.
    pub(crate) connections: usize,
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Line {
    /// One message to 100 and to 1,000 receivers
    FanOut,
    /// The same to 100 with eight messages in flight
    InFlight,
    /// The shortest exchange, everything on one core
    Ping,
    /// From `channel-message` to `delivery` and to the receiver
    Message,
    /// Committed channel messages per second
    Throughput,
    /// Handshakes per second, with authorizer and `$connect`
    Handshakes,
    /// Memory of an idle connection
    Memory,
    /// From a function's start to its first `next`
    Start,
    /// PostToConnection, 16 in flight
    Posts,
    /// Request units of a client message
    Units,
    /// CPU and memory of an invocation of each function
    Functions,
}

impl Line {
    /// Measures the line.
    pub(crate) async fn measure(self, plan: &Plan) -> Result<Measured> {
        let (machine, ours) = (Machine::now()?, own_cpu());
        let measured = match self {
            Self::FanOut => fan_out::fan_out(plan).await,
            Self::InFlight => fan_out::in_flight(plan).await,
            Self::Ping => ping::ping(plan).await,
            Self::Message => messages::latency(plan).await,
            Self::Throughput => messages::throughput(plan).await,
            Self::Handshakes => handshakes::handshakes(plan).await,
            Self::Memory => memory::memory(plan).await,
            Self::Start => start::start(plan).await,
            Self::Posts => posts::posts(plan).await,
            Self::Units => units::units(plan).await,
            Self::Functions => functions::functions(plan).await,
        }?;
        // All started processes have ended and were waited for, so their CPU time counts as this process's.
        Ok(measured.with_load(machine.since(own_cpu() - ours)?))
    }
}

fn own_cpu() -> f64 {
    proc::cpu(&[std::process::id()].into())
}

/// Starts every stack that forwards messages, with the peers unless the plan leaves them out.
async fn everything(plan: &Plan) -> Result<Vec<Arc<Stack>>> {
    let mut stacks = vec![Arc::new(Stack::ours().await?), Arc::new(Stack::thin()?)];
    if let Some(peers) = &plan.peers {
        stacks.push(Arc::new(peers.serverless_offline().await?));
        stacks.push(Arc::new(peers.ministack().await?));
        stacks.push(Arc::new(peers.socket_io()?));
    }
    Ok(stacks)
}

/// Returns true if the stack takes milliseconds where others take microseconds. Slow stacks get fewer messages.
fn is_slow(stack: &Stack) -> bool {
    matches!(stack.name, "serverless-offline" | "ministack")
}
