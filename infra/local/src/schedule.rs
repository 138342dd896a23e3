//! Schedules: invokes functions on a timer, as EventBridge does.

mod expression;

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use tokio::task::JoinSet;

use self::expression::Expression;
use crate::lambda::Lambda;
use crate::template::{ACCOUNT, STACK, Schedule};

/// The running schedules. They stop when dropped.
#[derive(Debug)]
pub struct Schedules {
    _timers: JoinSet<()>,
}

/// Why a schedule cannot run.
#[derive(Debug, thiserror::Error)]
#[error("the schedule {name} has the expression `{expression}`: {problem}")]
pub struct ScheduleError {
    /// The event's name in the template.
    pub name: String,
    pub expression: String,
    pub problem: String,
}

impl Schedules {
    /// Starts a timer for each schedule.
    ///
    /// # Errors
    /// Fails if an expression is not a supported `rate(…)` or `cron(…)`.
    pub fn start(
        schedules: &[Schedule],
        region: &str,
        lambda: &Lambda,
    ) -> Result<Self, ScheduleError> {
        let mut timers = JoinSet::new();
        for schedule in schedules {
            let of_rule = schedule.source == "aws.events";
            let expression = Expression::parse(&schedule.expression, of_rule);
            let expression = expression.map_err(|problem| ScheduleError {
                name: schedule.name.clone(),
                expression: schedule.expression.clone(),
                problem,
            })?;
            timers.spawn(keep(
                expression,
                schedule.clone(),
                region.to_owned(),
                lambda.clone(),
            ));
        }
        Ok(Self { _timers: timers })
    }
}

async fn keep(expression: Expression, schedule: Schedule, region: String, lambda: Lambda) {
    let mut last = Timestamp::now();
    while let Some(next) = expression.after(last) {
        let wait = Duration::try_from(next.duration_since(Timestamp::now())).unwrap_or_default();
        tokio::time::sleep(wait).await;
        lambda.invoke_event(&schedule.function, payload(&schedule, &region, next));
        last = resumed(&expression, next, Timestamp::now());
    }
}

/// Returns the time from which the next run is computed. Runs that were missed while the machine slept are skipped.
fn resumed(expression: &Expression, last: Timestamp, now: Timestamp) -> Timestamp {
    match expression.after(last) {
        Some(next) if next < now => now,
        _ => last,
    }
}

/// Returns the template's input, or the event that EventBridge generates.
fn payload(schedule: &Schedule, region: &str, time: Timestamp) -> Bytes {
    if let Some(input) = &schedule.input {
        return input.clone().into();
    }
    let name = format!("{STACK}-{}{}", schedule.function, schedule.name);
    // The detail is a string for the scheduler and an object for a rule.
    let (resource, detail) = if schedule.source == "aws.scheduler" {
        (
            format!("arn:aws:scheduler:{region}:{ACCOUNT}:schedule/default/{name}"),
            json!("{}"),
        )
    } else {
        (
            format!("arn:aws:events:{region}:{ACCOUNT}:rule/{name}"),
            json!({}),
        )
    };
    json!({
        "version": "0",
        "id": crate::lambda::request_id(),
        "detail-type": "Scheduled Event",
        "source": schedule.source,
        "account": ACCOUNT,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "region": region,
        "resources": [resource],
        "detail": detail,
    })
    .to_string()
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(input: Option<&str>) -> Schedule {
        Schedule {
            name: "EveryMinute".to_owned(),
            function: "ExpireFunction".to_owned(),
            expression: "rate(1 minute)".to_owned(),
            input: input.map(str::to_owned),
            source: "aws.events",
        }
    }

    #[test]
    fn missed_runs_are_skipped() {
        let minutely = Expression::parse("rate(1 minute)", true).unwrap();
        let at = |time: &str| time.parse::<Timestamp>().unwrap();
        let last = at("2026-01-31T12:00:00Z");
        let woken = at("2026-01-31T20:00:30Z");
        assert_eq!(resumed(&minutely, last, at("2026-01-31T12:00:01Z")), last);
        assert_eq!(resumed(&minutely, last, woken), woken);
    }

    #[test]
    fn event_is_generated_without_input() {
        let time = "2026-01-31T12:00:00Z".parse().unwrap();
        let event: serde_json::Value =
            serde_json::from_slice(&payload(&schedule(None), "us-east-1", time)).unwrap();
        assert_eq!(event["time"], "2026-01-31T12:00:00Z");
        assert_eq!(
            event["resources"][0],
            "arn:aws:events:us-east-1:123456789012:rule/messaging-ExpireFunctionEveryMinute"
        );
        assert_eq!(
            payload(&schedule(Some("{\"a\":1}")), "us-east-1", time),
            "{\"a\":1}"
        );
    }
}
