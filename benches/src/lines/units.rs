//! Request units of a channel message, with few and with many unrelated connections.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::report::{Bound, Measured};
use crate::socket::Socket;
use crate::stack::{Ours, Stack};

use super::Plan;

const MESSAGES: u64 = 50;
const FEW: &str = "write units a message, few connections elsewhere";
const MANY: &str = "write units a message, many connections elsewhere";
const FEW_READ: &str = "read units a message, few connections elsewhere";
const MANY_READ: &str = "read units a message, many connections elsewhere";

/// Measures the line. There are no rounds, because the units are constant.
pub(super) async fn units(plan: &Plan) -> Result<Measured> {
    let mut measured = Measured::new("units", "a channel message, one receiver");
    let stack = Stack::ours().await?;
    let ours = stack.as_ours().context("the stack is not Messaging")?;
    let mut room = stack.room(1, 1).await?;
    let sender = room.senders.first_mut().context("the room has no sender")?;
    // "Few" is a hundredth of "many": 100 and 10,000 in the table.
    let few = plan.connections.div_ceil(100);
    let _few = stack.strangers(few).await?;
    let [write, read] = cost(ours, sender).await?;
    measured.add("messaging", FEW, write);
    measured.add("messaging", FEW_READ, read);
    let _many = stack.strangers(plan.connections - few).await?;
    let [write, read] = cost(ours, sender).await?;
    measured.add("messaging", MANY, write);
    measured.add("messaging", MANY_READ, read);
    let exactly = |from: &'static str| ("messaging", from);
    measured.ratio(exactly(MANY), exactly(FEW), Bound::AtMost(1.0));
    measured.ratio(exactly(MANY_READ), exactly(FEW_READ), Bound::AtMost(1.0));
    Ok(measured)
}

async fn cost(ours: &Ours, sender: &mut Socket) -> Result<[f64; 2]> {
    // The work that follows connecting ends meanwhile.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = ours.units().await?;
    for number in 0..MESSAGES {
        let text = json!({"type": "channel-message", "id": number.to_string(), "channel-id": "room", "content": "Good morning!"});
        sender.send(text.to_string()).await?;
        sender.next_with("\"ack\"").await?;
        // The drain returns its lease after the `ack`. An earlier message would share the lease.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = ours.units().await?;
    let spent = |name: &str| {
        let of = |units: &Value| units.get(name).and_then(Value::as_f64).unwrap_or(0.0);
        (of(&after) - of(&before)) / MESSAGES as f64
    };
    Ok([spent("write"), spent("read")])
}
