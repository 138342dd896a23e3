//! A bound that does not depend on the machine's load: the CPU of a post relative to the floor's in the same run.
//! The test measures an unoptimised build, so its bounds differ from those in docs/performance.md.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

const METRIC: &str = "µs of the client's CPU a post";

/// The result of one line of the benchmarks.
struct Line(Value);

impl Line {
    fn measure(name: &str, arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let json = folder.path().join("result.json");
        let output = Command::new(env!("CARGO_BIN_EXE_benches"))
            .args(["--no-build", "--no-peers", "--only", name, "--json"])
            .arg(&json)
            .args(arguments)
            .output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{errors}");
        eprint!("{}", String::from_utf8_lossy(&output.stdout));
        Self::read(&json)
    }

    fn read(json: &Path) -> Result<Self> {
        let lines: Value = serde_json::from_slice(&std::fs::read(json)?)?;
        Ok(Self(
            lines.get(0).context("the result has no line")?.clone(),
        ))
    }

    /// Returns the median of the ratios of two subjects over the rounds. Load on the machine slows both subjects of a round.
    fn ratio(&self, subject: &str, other: &str) -> Result<f64> {
        let what = format!("{subject} / {other}, {METRIC}");
        let goals = self.0.get("goals").and_then(Value::as_array);
        let found = goals
            .into_iter()
            .flatten()
            .find(|it| it.get("what").is_some_and(|it| *it == what));
        let median = found.and_then(|it| it.pointer("/spread/median")?.as_f64());
        median.with_context(|| format!("no {what} in {}", self.0))
    }
}

/// Fails if `value` is more than `most`.
fn at_most(what: &str, value: f64, most: f64) -> Result<()> {
    ensure!(value <= most, "{what}: {value:.2} is more than {most:.2}");
    Ok(())
}

#[test]
fn post_cpu_is_bounded() -> Result<()> {
    let line = Line::measure("posts", &["--rounds", "5"])?;
    let bare = line.ratio("messaging", "bare")?;
    at_most("against bare hyper", bare, 4.0)?;
    let sdk = line.ratio("messaging", "Rust SDK")?;
    at_most("against the SDK", sdk, 0.5)?;
    let framed = line.ratio("messaging, as SockJS", "messaging")?;
    at_most("SockJS-framed against raw", framed, 1.3)
}
