//! What does not depend on how busy the machine is, held on every change: the CPU of a post against the floor's in the
//! same run. Unoptimised builds are measured, so the bounds are not those of docs/performance.md.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// One line of the benchmarks, measured.
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
        Ok(Self(lines.get(0).context("one line")?.clone()))
    }

    fn median(&self, subject: &str, metric: &str) -> Result<f64> {
        let samples = self.0.get("samples").and_then(Value::as_array);
        let found = samples.into_iter().flatten().find(|it| {
            it.get("subject").is_some_and(|it| it == subject)
                && it.get("metric").is_some_and(|it| it == metric)
        });
        let median = found.and_then(|it| it.pointer("/spread/median")?.as_f64());
        median.with_context(|| format!("no {metric} of {subject} in {}", self.0))
    }
}

/// Fails where `value` is more than `most`.
fn at_most(what: &str, value: f64, most: f64) -> Result<()> {
    ensure!(value <= most, "{what}: {value:.2} is more than {most:.2}");
    Ok(())
}

#[test]
fn a_post_costs_a_bounded_multiple_of_a_bare_one() -> Result<()> {
    let line = Line::measure("posts", &["--rounds", "5"])?;
    let metric = "µs of the client's CPU a post";
    let ours = line.median("messaging", metric)?;
    at_most(
        "against bare hyper",
        ours / line.median("bare", metric)?,
        4.0,
    )?;
    at_most(
        "against the SDK",
        ours / line.median("Rust SDK", metric)?,
        0.5,
    )?;
    let framed = line.median("messaging, as SockJS", metric)?;
    at_most("framed as SockJS against raw", framed / ours, 1.3)
}
