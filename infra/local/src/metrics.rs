//! Adds up the metrics that functions write in CloudWatch's embedded metric format, and shows them in Prometheus's
//! format.
//!
//! The format:
//! docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
//! (2026-08). A summary in Prometheus has a count of values and their sum.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

/// The text that occurs in every line of the format. A line with it that does not parse is not a metric.
const MARK: &str = "\"_aws\"";

/// The sums of all metrics since the start. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    sums: Arc<Mutex<BTreeMap<Series, Sum>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    name: String,
    labels: String,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    count: u64,
    sum: f64,
}

impl Metrics {
    /// Adds the metrics of a line of a function's output. Returns their short form, or `None` if the line has no
    /// metrics.
    pub(crate) fn take(&self, line: &str) -> Option<String> {
        if !line.contains(MARK) {
            return None;
        }
        let document: Value = serde_json::from_str(line).ok()?;
        let directives = document.pointer("/_aws/CloudWatchMetrics")?.as_array()?;
        let mut shown: Vec<String> = Vec::new();
        for directive in directives {
            for dimensions in directive.get("Dimensions")?.as_array()? {
                let labels = labels(&document, dimensions)?;
                for metric in directive.get("Metrics")?.as_array()? {
                    let name = metric.get("Name")?.as_str()?;
                    let values = values(document.get(name)?);
                    self.add(directive, name, metric, &labels, &values);
                    let total = values.iter().sum::<f64>();
                    let sample = format!("{name}{labels}={total}");
                    if !shown.contains(&sample) {
                        shown.push(sample);
                    }
                }
            }
        }
        Some(shown.join(" "))
    }

    fn add(&self, directive: &Value, name: &str, metric: &Value, labels: &str, values: &[f64]) {
        let text =
            |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        // Remove the stack's name from the end of the namespace, because there is only one stack here.
        let namespace = text(directive.get("Namespace"));
        let namespace = namespace.split('/').next().unwrap_or_default().to_owned();
        let unit = match text(metric.get("Unit")).as_str() {
            "Milliseconds" => "_milliseconds",
            "Bytes" => "_bytes",
            _ => "",
        };
        let series = Series {
            name: format!("{}_{}{unit}", snake(&namespace), snake(name)),
            labels: labels.to_owned(),
        };
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = sums.entry(series).or_default();
        for value in values {
            sum.count += 1;
            sum.sum += value;
        }
    }

    /// Returns all metrics in Prometheus's text format.
    #[must_use]
    pub fn text(&self) -> String {
        let sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        let mut last = "";
        for (Series { name, labels }, Sum { count, sum }) in &*sums {
            if last != name {
                let _ = writeln!(text, "# TYPE {name} summary");
                last = name;
            }
            let _ = writeln!(text, "{name}_sum{labels} {sum}");
            let _ = writeln!(text, "{name}_count{labels} {count}");
        }
        text
    }
}

/// Returns the labels, for example `{type="ping"}`. Without dimensions the text is empty.
fn labels(document: &Value, dimensions: &Value) -> Option<String> {
    let mut labels = Vec::new();
    for dimension in dimensions.as_array()? {
        let name = dimension.as_str()?;
        let value = document.get(name)?.as_str()?;
        let value = value.replace('\\', r"\\").replace('"', "\\\"");
        labels.push(format!(
            "{}=\"{}\"",
            snake(name),
            value.replace('\n', r"\n")
        ));
    }
    Some(match labels.is_empty() {
        true => String::new(),
        false => format!("{{{}}}", labels.join(",")),
    })
}

/// Returns the numbers of a metric, which has one value or an array.
fn values(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().filter_map(Value::as_f64).collect(),
        one => one.as_f64().into_iter().collect(),
    }
}

/// Converts `FanoutSize` to `fanout_size`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.push(match letter {
            letter if letter.is_ascii_alphanumeric() => letter.to_ascii_lowercase(),
            _ => '_',
        });
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"_aws":{"Timestamp":1,"CloudWatchMetrics":[
        {"Namespace":"Messaging/prod","Dimensions":[["type"]],"Metrics":[{"Name":"Messages","Unit":"Count"}]},
        {"Namespace":"Messaging/prod","Dimensions":[[]],"Metrics":[{"Name":"GateWait","Unit":"Milliseconds"}]}]},
        "type":"ping","Messages":1,"GateWait":[3,4.5]}"#;

    #[test]
    fn values_sum_by_name_and_dimension() {
        let metrics = Metrics::default();
        assert_eq!(
            metrics.take(LINE).unwrap(),
            r#"Messages{type="ping"}=1 GateWait=7.5"#
        );
        metrics.take(&LINE.replace("ping", "he\\\"llo")).unwrap();
        assert_eq!(
            metrics.text(),
            "# TYPE messaging_gate_wait_milliseconds summary\n\
             messaging_gate_wait_milliseconds_sum 15\n\
             messaging_gate_wait_milliseconds_count 4\n\
             # TYPE messaging_messages summary\n\
             messaging_messages_sum{type=\"he\\\"llo\"} 1\n\
             messaging_messages_count{type=\"he\\\"llo\"} 1\n\
             messaging_messages_sum{type=\"ping\"} 1\n\
             messaging_messages_count{type=\"ping\"} 1\n"
        );
    }

    #[test]
    fn other_lines_are_ignored() {
        let metrics = Metrics::default();
        for line in [
            "",
            "hello",
            r#"{"level":"INFO"}"#,
            r#"{"_aws":{}}"#,
            r#"{"_aws""#,
        ] {
            assert!(metrics.take(line).is_none(), "{line}");
        }
        assert_eq!(metrics.text(), "");
    }
}
