//! Processes that a benchmark starts. Each leads a process group, so that its children end with it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::proc;

/// How long a process has to exit after SIGTERM.
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
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child })
    }

    /// Starts a process and reads its standard output up to a line with `mark`. Returns the text after the mark and
    /// discards the remaining output.
    pub(crate) fn start_until(command: &mut Command, mark: &str) -> Result<(Self, String)> {
        let mut process = Self::start(command.stdout(Stdio::piped()))?;
        let output = process
            .child
            .stdout
            .take()
            .context("standard output is not piped")?;
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

    /// CPU microseconds of the process and its running descendants.
    pub(crate) fn cpu(&self) -> f64 {
        let nanos = proc::tree(self.id()).into_iter().map(proc::cpu_nanos);
        nanos.sum::<f64>() / 1e3
    }

    /// Resident KiB of the process alone.
    pub(crate) fn resident(&self) -> f64 {
        proc::resident(self.id())
    }

    /// Resident KiB of the process and its descendants.
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
        // The group also contains children that outlived their leader.
        self.signal("-KILL", &format!("-{id}"));
        let _ = self.child.wait();
    }
}

/// Confines a process and its descendants to some cores. `cores` is a list in the format of `taskset`.
pub(crate) fn confine(root: u32, cores: &str) -> Result<()> {
    for pid in proc::tree(root) {
        let status = Command::new("taskset")
            .args(["-a", "-c", "-p", cores, &pid.to_string()])
            .stdout(Stdio::null())
            .status()
            .context("cannot run taskset")?;
        if !status.success() {
            bail!("cannot confine process {pid} to cores {cores}");
        }
    }
    Ok(())
}
