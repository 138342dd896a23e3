//! Memory of an idle connection, and of the stack without connections.

use std::time::Duration;

use anyhow::Result;

use crate::report::{Bound, Measured};
use crate::stack::Stack;

use super::{Plan, is_slow};

const BASE: &str = "MB before the first connection";
const EACH: &str = "KiB of a connection";

/// Measures the line. There are no rounds, because memory does not depend on the machine's load.
pub(super) async fn memory(plan: &Plan) -> Result<Measured> {
    let mut measured = Measured::new("memory", "the gateway with its engine");
    let mut stacks = vec![Stack::ours().await?, Stack::thin()?, Stack::echo()?];
    if let Some(peers) = &plan.peers {
        stacks.push(peers.sockjs()?);
        stacks.push(peers.socket_io()?);
        stacks.push(peers.serverless_offline().await?);
        stacks.push(peers.ministack().await?);
    }
    for stack in stacks {
        let most = if is_slow(&stack) {
            plan.connections.min(500)
        } else {
            plan.connections
        };
        // The first connections cause one-time allocations, which must not count per connection.
        let warm = stack.strangers(20).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let base = resident(&stack);
        let sockets = stack.strangers(most).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        measured.add(stack.name, BASE, base / 1024.0);
        measured.add(stack.name, EACH, (resident(&stack) - base) / most as f64);
        drop((warm, sockets));
    }
    measured.figure(("messaging", EACH), Bound::AtMost(13.0));
    measured.ratio(("messaging", EACH), ("echo", EACH), Bound::AtMost(2.0));
    measured.figure(("messaging", BASE), Bound::AtMost(100.0));
    Ok(measured)
}

/// Returns a stack's resident KiB. A peer counts with all its workers. Messaging counts without its functions, which
/// do not exist between messages on AWS.
fn resident(stack: &Stack) -> f64 {
    if stack.as_ours().is_some() || stack.name == "thin" {
        stack.process.resident()
    } else {
        stack.process.resident_with_all()
    }
}
