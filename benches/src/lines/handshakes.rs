//! Handshakes per second. A refused handshake is an error.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};

use crate::report::{Bound, Measured};
use crate::socket::Socket;
use crate::stack::Stack;

use super::{Plan, everything, is_slow};

const RATE: &str = "handshakes/s";
/// Concurrent handshakes.
const AT_ONCE: usize = 16;

pub(super) async fn handshakes(plan: &Plan) -> Result<Measured> {
    let mut measured = Measured::new("handshakes", "an authorizer and $connect before each");
    let mut stacks = everything(plan).await?;
    stacks.retain(|it| it.name != "socket.io");
    stacks.push(Arc::new(Stack::ours_at_once().await?));
    // All rounds together have at least 2,000 handshakes.
    let many = 2000_usize.div_ceil(plan.rounds);
    for stack in &stacks {
        round(stack, 20).await?;
    }
    for _ in 0..plan.rounds {
        for stack in &stacks {
            let count = if is_slow(stack) { 40 } else { many };
            measured.add(stack.name, RATE, round(stack, count).await?);
        }
    }
    let ours = ("messaging", RATE);
    measured.ratio(ours, ("serverless-offline", RATE), Bound::AtLeast(10.0));
    measured.ratio(ours, ("thin", RATE), Bound::AtLeast(0.05));
    Ok(measured)
}

/// Opens `count` connections and closes them. Returns the handshakes per second. Fails if one is refused.
async fn round(stack: &Stack, count: usize) -> Result<f64> {
    let mut tokens = vec![String::new(); count];
    if let Some(ours) = stack.as_ours() {
        tokens = ours.tokens(&ours.fresh_domain(), count).await?;
    }
    let begun = Instant::now();
    let sockets: Vec<Socket> = stream::iter(&tokens)
        .map(|token| async move {
            match stack.as_ours() {
                Some(ours) => ours.connect_with(token).await,
                None => stack.connect("", 0).await,
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let rate = sockets.len() as f64 / begun.elapsed().as_secs_f64();
    drop(sockets);
    // The $disconnect of these connections must not run during the next round.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    Ok(rate)
}
