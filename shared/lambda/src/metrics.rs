//! Metrics: what an invocation measured, as one line in CloudWatch's embedded metric format, which CloudWatch makes
//! metrics of without a call from here. The local gateway reads the same line.
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

/// Values at most of one metric in a line (the format's limit).
const VALUES: usize = 100;

task_local! {
    /// What the current invocation measured.
    static CURRENT: RefCell<Measured>;
}

/// What no invocation has told: a process begins with its cold start, and a stream goes on after its invocation's line.
static UNTOLD: LazyLock<Mutex<Measured>> = LazyLock::new(|| {
    let mut first = Measured::default();
    first.count("ColdStarts");
    Mutex::new(first)
});

/// Where the metrics belong; none are told without.
static NAMESPACE: LazyLock<Option<String>> = LazyLock::new(|| {
    let name = std::env::var("METRICS_NAMESPACE").ok();
    name.filter(|name| !name.is_empty())
});

/// Carries out an invocation, and then tells what it measured, and what was left untold before.
pub async fn measured<F: Future>(request: &str, work: F) -> F::Output {
    // On the heap: an invocation is one large future, which nobody need carry around.
    let work = Box::pin(async move {
        let output = work.await;
        (output, CURRENT.with(RefCell::take))
    });
    let (output, measured) = CURRENT.scope(RefCell::default(), work).await;
    if let Some(namespace) = &*NAMESPACE {
        tell(namespace, request, measured);
    }
    output
}

/// Remembers something for the line of this invocation.
pub(crate) fn note(measure: Measure) {
    if NAMESPACE.is_none() {
        return;
    }
    let noted = CURRENT.try_with(|it| it.borrow_mut().note(measure));
    if noted.is_err() {
        untold().note(measure);
    }
}

fn tell(namespace: &str, request: &str, mut measured: Measured) {
    measured.add(core::mem::take(&mut *untold()));
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    if let Some(line) = measured.line(namespace, now.as_millis(), request) {
        // Whoever cannot write a line has nobody to tell that to.
        let _ = std::io::stdout().write_all(format!("{line}\n").as_bytes());
    }
}

fn untold() -> MutexGuard<'static, Measured> {
    UNTOLD.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Adds what another one has.
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

    #[tokio::test]
    async fn invocations_at_once_have_lines_of_their_own() {
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
    fn what_was_left_untold_is_added() {
        let (mut line, mut untold) = (Measured::default(), Measured::default());
        line.note(Measure::Parked);
        untold.count("ColdStarts");
        untold.note(Measure::Parked);
        untold.note(Measure::Gate(Duration::from_millis(7)));
        line.add(untold);
        assert_eq!(
            line.counts,
            BTreeMap::from([("ColdStarts", 1), ("Parked", 2)])
        );
        assert_eq!(line.millis, BTreeMap::from([("GateWait", vec![7])]));
    }
}
