//! What the system reports about processes and the machine: CPU, memory, and the load of other processes.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

/// Ticks of `/proc/*/stat` in a second: `USER_HZ`, 100 on every Linux that this runs on.
const TICKS: f64 = 100.0;

/// CPU seconds of the whole machine since it started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Machine {
    /// Neither idle nor steal.
    busy: f64,
    /// Taken by the hypervisor.
    steal: f64,
    all: f64,
}

/// How busy the machine was between two samples.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    /// The load average of the last minute.
    pub(crate) average: f64,
    /// Share of all CPU time that the hypervisor took.
    pub(crate) steal: f64,
    /// Share of all CPU time that processes other than ours used.
    pub(crate) others: f64,
}

impl Machine {
    pub(crate) fn now() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().context("/proc/stat is empty")?;
        let fields: Vec<f64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|it| it.parse().ok())
            .collect();
        let [user, nice, system, idle, wait, irq, soft, steal] = fields[..] else {
            anyhow::bail!("/proc/stat has another form")
        };
        let busy = user + nice + system + irq + soft;
        Ok(Self {
            busy: busy / TICKS,
            steal: steal / TICKS,
            all: (busy + idle + wait + steal) / TICKS,
        })
    }

    /// Returns the machine's load since `self`. `ours` is the benchmark's own CPU time in seconds.
    pub(crate) fn since(self, ours: f64) -> Result<Load> {
        let now = Self::now()?;
        let all = (now.all - self.all).max(f64::EPSILON);
        let average = fs::read_to_string("/proc/loadavg")?;
        let average = average.split(' ').next().unwrap_or_default();
        Ok(Load {
            average: average.parse().unwrap_or(0.0),
            steal: (now.steal - self.steal) / all,
            others: ((now.busy - self.busy - ours) / all).max(0.0),
        })
    }
}

/// Returns a process and all its descendants.
pub(crate) fn tree(root: u32) -> BTreeSet<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.parent)))
        .collect();
    let mut tree = BTreeSet::from([root]);
    loop {
        let more: Vec<u32> = parents
            .iter()
            .filter(|(pid, parent)| tree.contains(parent) && !tree.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return tree;
        }
        tree.extend(more);
    }
}

/// Returns the CPU seconds of processes, including children that ended and were waited for.
pub(crate) fn cpu(pids: &BTreeSet<u32>) -> f64 {
    pids.iter()
        .filter_map(|pid| stat(*pid))
        .map(|it| it.cpu)
        .sum()
}

/// Returns the CPU nanoseconds of a process: the sum over its live threads.
pub(crate) fn cpu_nanos(pid: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    threads
        .into_iter()
        .flatten()
        .filter_map(|thread| {
            let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<f64>().ok()
        })
        .sum()
}

/// Returns a process's name: its executable, cut to fifteen characters.
pub(crate) fn name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

/// Returns a process's resident memory in KiB.
pub(crate) fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|it| it.trim().strip_suffix(" kB"))
        .and_then(|it| it.parse().ok())
        .unwrap_or(0.0)
}

struct Stat {
    parent: u32,
    cpu: f64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything.
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        cpu: (number(11)? + number(12)? + number(13)? + number(14)?) / TICKS,
    })
}
