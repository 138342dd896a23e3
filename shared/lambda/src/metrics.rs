//! Metrics: what an invocation measured, as one line in CloudWatch's embedded metric format, which CloudWatch makes
//! metrics of without a call from here. The local gateway reads the same line.
//!
//! The format: docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
//! (2026-08). A process has one invocation at a time, so what was measured since the last line is its own.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use lambda_runtime::LambdaEvent;
use serde_json::{Map, Value, json};
use service::ports::{Measure, Outcome};

/// Values at most of one metric in a line (the format's limit).
const VALUES: usize = 100;

/// What the current invocation measured; a process begins with its cold start.
static MEASURED: LazyLock<Mutex<Measured>> = LazyLock::new(|| {
    let mut first = Measured::default();
    first.count("ColdStarts");
    Mutex::new(first)
});

/// Where the metrics belong; none are told without.
static NAMESPACE: LazyLock<Option<String>> = LazyLock::new(|| {
    let name = std::env::var("METRICS_NAMESPACE").ok();
    name.filter(|name| !name.is_empty())
});

/// Carries out an invocation, and then tells what it measured.
pub async fn measured<E, F: Future>(event: LambdaEvent<E>, work: impl FnOnce(E) -> F) -> F::Output {
    // On the heap: an invocation is one large future, which nobody need carry around.
    let output = Box::pin(work(event.payload)).await;
    tell(&event.context.request_id);
    output
}

/// Remembers something for the line of this invocation.
pub(crate) fn note(measure: Measure) {
    if NAMESPACE.is_some() {
        let mut measured = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
        measured.note(measure);
    }
}

fn tell(request: &str) {
    let Some(namespace) = &*NAMESPACE else {
        return;
    };
    let mut measured = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    if let Some(line) = core::mem::take(&mut *measured).line(namespace, now.as_millis(), request) {
        // Whoever cannot write a line has nobody to tell that to.
        let _ = std::io::stdout().write_all(format!("{line}\n").as_bytes());
    }
}

/// What was measured, by the metrics' names.
#[derive(Debug, Default)]
struct Measured {
    message: Option<&'static str>,
    counts: BTreeMap<&'static str, u64>,
    millis: BTreeMap<&'static str, Vec<u64>>,
    sizes: BTreeMap<&'static str, Vec<u64>>,
}

impl Measured {
    fn note(&mut self, measure: Measure) {
        match measure {
            Measure::Message(message_type) => self.message = Some(message_type),
            Measure::Conflict => self.count("CommitConflicts"),
            Measure::Parked => self.count("Parked"),
            Measure::Post(outcome) => self.count(match outcome {
                Outcome::Delivered => "PostsDelivered",
                Outcome::Gone => "PostsGone",
                Outcome::Throttled => "PostsThrottled",
                Outcome::TooLarge => "PostsTooLarge",
                Outcome::Unknown => "PostsUnknown",
            }),
            Measure::Fanout { connections, took } => {
                push(&mut self.sizes, "FanoutSize", connections.try_into());
                push(
                    &mut self.millis,
                    "FanoutDuration",
                    took.as_millis().try_into(),
                );
            }
            Measure::Gate(wait) => push(&mut self.millis, "GateWait", wait.as_millis().try_into()),
            Measure::DrainAge(age) => {
                push(&mut self.millis, "DrainAge", age.as_millis().try_into());
            }
        }
    }

    fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    /// The line; none if nothing was measured.
    fn line(self, namespace: &str, now: u128, request: &str) -> Option<String> {
        let mut fields = Map::new();
        let mut plain = Vec::new();
        let mut metric = |name: &str, unit: &str, value: Value| {
            plain.push(json!({ "Name": name, "Unit": unit }));
            fields.insert(name.to_owned(), value);
        };
        for (name, count) in self.counts {
            metric(name, "Count", count.into());
        }
        for (name, values) in self.sizes {
            metric(name, "Count", values.into());
        }
        for (name, values) in self.millis {
            metric(name, "Milliseconds", values.into());
        }
        let mut directives = Vec::new();
        if !plain.is_empty() {
            directives
                .push(json!({ "Namespace": namespace, "Dimensions": [[]], "Metrics": plain }));
        }
        if let Some(message) = self.message {
            let metrics = [json!({ "Name": "Messages", "Unit": "Count" })];
            directives.push(
                json!({ "Namespace": namespace, "Dimensions": [["type"]], "Metrics": metrics }),
            );
            fields.insert("type".to_owned(), message.into());
            fields.insert("Messages".to_owned(), 1.into());
        }
        if directives.is_empty() {
            return None;
        }
        let timestamp = u64::try_from(now).unwrap_or_default();
        fields.insert("requestId".to_owned(), request.into());
        fields.insert(
            "_aws".to_owned(),
            json!({ "Timestamp": timestamp, "CloudWatchMetrics": directives }),
        );
        Some(Value::Object(fields).to_string())
    }
}

/// Adds a value, unless there are as many as a line takes.
fn push<E>(
    values: &mut BTreeMap<&'static str, Vec<u64>>,
    name: &'static str,
    value: Result<u64, E>,
) {
    let values = values.entry(name).or_default();
    if values.len() < VALUES {
        values.push(value.unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    #[test]
    fn a_line_has_each_metric_with_its_unit_and_no_more_values_than_it_may() {
        let mut measured = Measured::default();
        measured.note(Measure::Message("ping"));
        for _ in 0..2 {
            measured.note(Measure::Post(Outcome::Delivered));
        }
        for _ in 0..200 {
            measured.note(Measure::Gate(Duration::from_millis(7)));
        }
        let line = measured
            .line("Messaging/prod", 1_700_000_000_000, "r")
            .unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["type"], "ping");
        assert_eq!(line["PostsDelivered"], 2);
        assert_eq!(line["GateWait"].as_array().unwrap().len(), VALUES);
        assert_eq!(line["requestId"], "r");
        let directives = &line["_aws"]["CloudWatchMetrics"];
        assert_eq!(directives[0]["Dimensions"], json!([[]]));
        assert_eq!(
            directives[0]["Metrics"][1],
            json!({ "Name": "GateWait", "Unit": "Milliseconds" })
        );
        assert_eq!(directives[1]["Dimensions"], json!([["type"]]));
    }

    #[test]
    fn who_measured_nothing_says_nothing() {
        assert!(Measured::default().line("n", 1, "r").is_none());
    }
}
