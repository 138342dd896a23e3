//! The functions' output: shown as it comes, with the last lines kept for a crash report. Metrics are collected and
//! shown in a short form.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::metrics::Metrics;

/// The number of lines kept for a crash report.
const KEPT: usize = 40;

/// The output of one instance.
#[derive(Debug, Clone)]
pub(super) struct Output {
    label: String,
    verbose: bool,
    metrics: Metrics,
    last: Arc<Mutex<VecDeque<String>>>,
}

impl Output {
    pub(super) fn new(label: &str, verbose: bool, metrics: Metrics) -> Self {
        Self {
            label: label.to_owned(),
            verbose,
            metrics,
            last: Arc::default(),
        }
    }

    /// Reads `stream` to its end, collects its metrics and prints its other lines.
    pub(super) async fn follow(self, stream: impl AsyncRead + Unpin) {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line).await, Ok(1..)) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if let Some(measured) = self.metrics.take(&text) {
                if self.verbose {
                    note(&self.label, &measured);
                }
                continue;
            }
            if self.verbose || is_alarming(&text) {
                note(&self.label, &text);
            }
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.len() == KEPT {
                last.pop_front();
            }
            last.push_back(text);
        }
    }

    /// Reports that the instance died and prints its last lines that have not been shown yet.
    pub(super) fn report(&self, what: &str) {
        note(&self.label, what);
        if !self.verbose {
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            for line in last.iter().filter(|line| !is_alarming(line)) {
                note(&self.label, line);
            }
        }
    }
}

/// Prints one line to standard error, after the function's label.
pub(super) fn note(label: &str, text: &str) {
    eprintln!("[{label}] {text}");
}

/// Returns true for errors and panics, which are always shown. The JSON and the plain format of `tracing` both name the
/// level.
fn is_alarming(line: &str) -> bool {
    line.contains("panicked at")
        || line.contains("\"ERROR\"")
        || line.contains("ERROR ")
        || line.starts_with("Error:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_and_panics_are_alarming() {
        assert!(is_alarming(
            r#"{"timestamp":"…","level":"ERROR","fields":{"message":"no table"}}"#
        ));
        assert!(is_alarming("thread 'main' panicked at src/main.rs:1:1:"));
        assert!(is_alarming("2026-01-01T00:00:00Z ERROR store: no table"));
        assert!(!is_alarming(
            r#"{"timestamp":"…","level":"INFO","fields":{"message":"connected"}}"#
        ));
    }
}
