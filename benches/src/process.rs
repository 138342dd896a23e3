//! Processes that a benchmark starts. Each leads a group, so that all of it ends with the benchmark.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::proc;

/// How long a process has to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// A started process.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("{command:?} does not start"))?;
        Ok(Self { child })
    }

    /// Starts it and reads its standard output up to a line that begins with `mark`, which is given without it. The rest
    /// of what it says is thrown away.
    pub(crate) fn start_until(command: &mut Command, mark: &str) -> Result<(Self, String)> {
        let mut process = Self::start(command.stdout(Stdio::piped()))?;
        let output = process.child.stdout.take().context("it was piped")?;
        let mut lines = BufReader::new(output).lines();
        let found = loop {
            match lines.next() {
                Some(line) => {
                    if let Some((_, rest)) = line?.split_once(mark) {
                        break rest.to_owned();
                    }
                }
                None => bail!("{command:?} ended before it was ready"),
            }
        };
        std::thread::spawn(move || for _ in lines {});
        Ok((process, found))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU microseconds of it and of all it started that still runs.
    pub(crate) fn cpu(&self) -> f64 {
        let nanos = proc::tree(self.id()).into_iter().map(proc::cpu_nanos);
        nanos.sum::<f64>() / 1e3
    }

    /// Resident KiB of it alone.
    pub(crate) fn resident(&self) -> f64 {
        proc::resident(self.id())
    }

    /// Resident KiB of it and all it started.
    pub(crate) fn resident_with_all(&self) -> f64 {
        proc::tree(self.id()).into_iter().map(proc::resident).sum()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    fn signal(&self, name: &str, whom: &str) {
        let _ = Command::new("kill")
            .args([name, "--", whom])
            .stderr(Stdio::null())
            .status();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let id = self.id().to_string();
        self.signal("-TERM", &id);
        let begun = Instant::now();
        while begun.elapsed() < GRACE && !self.has_ended() {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Also what the leader left behind.
        self.signal("-KILL", &format!("-{id}"));
        let _ = self.child.wait();
    }
}

/// Confines a process and all it started to some cores, in `taskset`'s words.
pub(crate) fn confine(root: u32, cores: &str) -> Result<()> {
    for pid in proc::tree(root) {
        let status = Command::new("taskset")
            .args(["-a", "-c", "-p", cores, &pid.to_string()])
            .stdout(Stdio::null())
            .status()
            .context("taskset cannot be run")?;
        if !status.success() {
            bail!("process {pid} cannot be confined to core {cores}");
        }
    }
    Ok(())
}
