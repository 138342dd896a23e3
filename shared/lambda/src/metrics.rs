//! Metrics. Each invocation writes its measurements as one line in CloudWatch's embedded metric format, from which
//! CloudWatch creates metrics without an API call. The local gateway reads the same line.
//!
//! The format: docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
//! (2026-08).

use core::cell::RefCell;
use core::time::Duration;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use service::ports::{Measure, Outcome};
use tokio::task_local;

/// The maximum of values of one metric in a line (the format's limit).
const VALUES: usize = 100;

task_local! {
    /// The measurements of the current invocation.
    static CURRENT: RefCell<Measured>;
}

/// Measurements that no invocation has written yet. They include the cold start of the process, and those of a stream
/// that continues after the line of its invocation.
static PENDING: LazyLock<Mutex<Measured>> = LazyLock::new(|| {
    let mut first = Measured::default();
    first.count("ColdStarts");
    Mutex::new(first)
});

/// The namespace of the metrics. Without one no metrics are written.
static NAMESPACE: LazyLock<Option<String>> = LazyLock::new(|| {
    let name = std::env::var("METRICS_NAMESPACE").ok();
    name.filter(|name| !name.is_empty())
});

/// Runs an invocation, then writes its measurements and the pending ones.
pub async fn measured<F: Future>(request: &str, work: F) -> F::Output {
    // Boxed because an invocation is one large future, which would otherwise be moved around.
    let work = Box::pin(async move {
        let output = work.await;
        (output, CURRENT.with(RefCell::take))
    });
    let (output, measured) = CURRENT.scope(RefCell::default(), work).await;
    if let Some(namespace) = &*NAMESPACE {
        write_line(namespace, request, measured);
    }
    output
}

/// Records a measurement for the line of this invocation.
pub(crate) fn note(measure: Measure) {
    if NAMESPACE.is_none() {
        return;
    }
    let noted = CURRENT.try_with(|it| it.borrow_mut().note(measure));
    if noted.is_err() {
        pending().note(measure);
    }
}

fn write_line(namespace: &str, request: &str, mut measured: Measured) {
    measured.add(core::mem::take(&mut *pending()));
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    if let Some(line) = measured.line(namespace, now.as_millis(), request) {
        // A failed write to stdout cannot be reported anywhere.
        let _ = std::io::stdout().write_all(format!("{line}\n").as_bytes());
    }
}

fn pending() -> MutexGuard<'static, Measured> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Measurements by metric name.
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
            Measure::AuthorizerFault => self.count("AuthorizerFaults"),
            Measure::Post(outcome) => self.count(match outcome {
                Outcome::Delivered => "PostsDelivered",
                Outcome::Gone => "PostsGone",
                Outcome::Throttled => "PostsThrottled",
                Outcome::TooLarge => "PostsTooLarge",
                Outcome::Unknown => "PostsUnknown",
            }),
            Measure::Fanout { connections, took } => {
                let size = u64::try_from(connections).unwrap_or(u64::MAX);
                push(&mut self.sizes, "FanoutSize", size);
                push(&mut self.millis, "FanoutDuration", millis(took));
            }
            Measure::Gate(wait) => push(&mut self.millis, "GateWait", millis(wait)),
            Measure::DrainAge(age) => push(&mut self.millis, "DrainAge", millis(age)),
        }
    }

    fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    /// Adds the measurements of `other`.
    fn add(&mut self, other: Self) {
        self.message = self.message.or(other.message);
        for (name, count) in other.counts {
            *self.counts.entry(name).or_default() += count;
        }
        for (mine, others) in [
            (&mut self.millis, other.millis),
            (&mut self.sizes, other.sizes),
        ] {
            for (name, values) in others {
                for value in values {
                    push(mine, name, value);
                }
            }
        }
    }

    /// Returns the line, or `None` if there are no measurements.
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

/// Adds a value, unless the metric already has as many as a line may contain.
fn push(values: &mut BTreeMap<&'static str, Vec<u64>>, name: &'static str, value: u64) {
    let values = values.entry(name).or_default();
    if values.len() < VALUES {
        values.push(value);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_has_units_and_bounded_values() {
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
    fn empty_measurements_write_no_line() {
        assert!(Measured::default().line("n", 1, "r").is_none());
    }

    #[tokio::test]
    async fn concurrent_invocations_have_separate_lines() {
        let invocation = |message: &'static str, posts: u64| async move {
            measured("r", async move {
                for _ in 0..posts {
                    CURRENT.with(|it| it.borrow_mut().note(Measure::Post(Outcome::Delivered)));
                    tokio::task::yield_now().await;
                }
                CURRENT.with(|it| it.borrow_mut().note(Measure::Message(message)));
                CURRENT.with(|it| (it.borrow().message, it.borrow().counts.clone()))
            })
            .await
        };
        let (ping, hello) = tokio::join!(invocation("ping", 2), invocation("hello", 3));
        assert_eq!(
            ping,
            (Some("ping"), BTreeMap::from([("PostsDelivered", 2)]))
        );
        assert_eq!(
            hello,
            (Some("hello"), BTreeMap::from([("PostsDelivered", 3)]))
        );
    }

    #[test]
    fn pending_measurements_are_added() {
        let (mut line, mut pending) = (Measured::default(), Measured::default());
        line.note(Measure::Parked);
        pending.count("ColdStarts");
        pending.note(Measure::Parked);
        pending.note(Measure::Gate(Duration::from_millis(7)));
        line.add(pending);
        assert_eq!(
            line.counts,
            BTreeMap::from([("ColdStarts", 1), ("Parked", 2)])
        );
        assert_eq!(line.millis, BTreeMap::from([("GateWait", vec![7])]));
    }
}
