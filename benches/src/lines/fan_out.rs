//! Fan-out with one and with eight messages in flight.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::report::{Bound, Measured};
use crate::stack::Stack;
use crate::talk::Talk;

use super::{Plan, everything, is_slow};

/// How long a stack has to forget closed connections.
const LEAVING: Duration = Duration::from_secs(3);
/// Messages before the first round, which start functions and fill caches.
const WARM_UP: u64 = 3;

/// Names of one size's metrics.
struct Size {
    receivers: usize,
    /// Messages of a round: of a usual subject and of a slow one.
    messages: [u64; 2],
    rate: &'static str,
    cpu: &'static str,
    spread: &'static str,
    lost: &'static str,
    goals: [f64; 2],
}

const SIZES: [Size; 2] = [
    Size {
        receivers: 100,
        messages: [100, 10],
        rate: "deliveries/s to 100",
        cpu: "µs of its CPU a delivery to 100",
        spread: "p99/p50 to the last of 100",
        lost: "lost on the way to 100",
        goals: [10.0, 0.35],
    },
    Size {
        receivers: 1000,
        messages: [20, 3],
        rate: "deliveries/s to 1,000",
        cpu: "µs of its CPU a delivery to 1,000",
        spread: "p99/p50 to the last of 1,000",
        lost: "lost on the way to 1,000",
        goals: [8.0, 0.45],
    },
];

pub(super) async fn fan_out(plan: &Plan) -> Result<Measured> {
    let mut measured = Measured::new("fan-out", "one message in flight");
    let mut stacks = everything(plan).await?;
    for size in &SIZES {
        let mut talks = begin(&stacks, size.receivers).await?;
        for _ in 0..plan.rounds {
            for (stack, talk) in stacks.iter().zip(&mut talks) {
                let [many, few] = size.messages;
                let messages = if is_slow(stack) { few } else { many };
                let cpu = stack.cpu();
                let heard = talk.say(stack, messages, 1).await?;
                let deliveries = messages as f64 * size.receivers as f64;
                measured.add(stack.name, size.cpu, (stack.cpu() - cpu) / deliveries);
                measured.add(stack.name, size.rate, heard.rate);
                measured.add(stack.name, size.lost, heard.lost);
                if heard.p50 > 0.0 {
                    measured.add(stack.name, size.spread, heard.p99 / heard.p50);
                }
            }
        }
        let ours = ("messaging", size.rate);
        let [serverless, thin] = size.goals;
        let serverless = Bound::AtLeast(serverless);
        measured.ratio(ours, ("serverless-offline", size.rate), serverless);
        measured.ratio(ours, ("thin", size.rate), Bound::AtLeast(thin));
        let cpu = ("messaging", size.cpu);
        measured.ratio(cpu, ("thin", size.cpu), Bound::AtMost(1.0 / thin));
        measured.figure(("messaging", size.spread), Bound::AtMost(2.0));
        measured.figure(("messaging", size.lost), Bound::AtMost(0.0));
        drop(talks);
        // ministack takes minutes to connect a thousand clients and seconds for each message.
        stacks.retain(|it| it.name != "ministack");
        tokio::time::sleep(LEAVING).await;
    }
    Ok(measured)
}

pub(super) async fn in_flight(plan: &Plan) -> Result<Measured> {
    let mut measured = Measured::new("in-flight", "to 100, eight messages in flight");
    let stacks = [Arc::new(Stack::ours().await?), Arc::new(Stack::thin()?)];
    let mut talks = begin(&stacks, 100).await?;
    // All rounds together have at least 10^5 deliveries.
    let messages = 1000_u64.div_ceil(plan.rounds as u64).max(8);
    for _ in 0..plan.rounds {
        for (stack, talk) in stacks.iter().zip(&mut talks) {
            let one = talk.say(stack, messages, 1).await?;
            let eight = talk.say(stack, messages, 8).await?;
            measured.add(stack.name, "deliveries/s, 1 in flight", one.rate);
            measured.add(stack.name, "deliveries/s, 8 in flight", eight.rate);
            measured.add(stack.name, "out of order", eight.disorder);
            measured.add(stack.name, "lost", one.lost + eight.lost);
        }
    }
    measured.ratio(
        ("messaging", "deliveries/s, 8 in flight"),
        ("messaging", "deliveries/s, 1 in flight"),
        Bound::AtLeast(0.8),
    );
    measured.figure(("messaging", "out of order"), Bound::AtMost(0.0));
    measured.figure(("messaging", "lost"), Bound::AtMost(0.0));
    Ok(measured)
}

async fn begin(stacks: &[Arc<Stack>], receivers: usize) -> Result<Vec<Talk>> {
    let mut talks = Vec::new();
    for stack in stacks {
        let mut talk = Talk::begin(stack, receivers).await?;
        talk.say(stack, WARM_UP, 1).await?;
        talks.push(talk);
    }
    Ok(talks)
}
