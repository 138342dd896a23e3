//! Counts the processes of all functions. Shutdown can so wait for the last one, and a guard that outlives a crash of
//! the gateway can kill them.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// The guard's shell script. If the gateway is killed, an idle function ends, because its Runtime API is gone. A busy
/// function would not end. The guard's input ends when the gateway ends, for any reason. The guard then kills the
/// remaining processes by process group, since each function leads its own group.
const GUARD: &str = r#"
pids=" "
while read -r change pid; do
    case $change in
        +) pids="$pids$pid " ;;
        -) pids="${pids%% $pid *} ${pids#* $pid }" ;;
    esac
done
for pid in $pids; do
    kill -s KILL -- "-$pid" 2> /dev/null
done
"#;

/// The processes of all functions.
#[derive(Debug)]
pub(super) struct Census {
    closed: AtomicBool,
    processes: watch::Sender<usize>,
    guard: Mutex<Guard>,
}

#[derive(Debug)]
struct Guard {
    process: Child,
    input: Option<ChildStdin>,
}

impl Census {
    /// Starts the guard.
    pub(super) fn new() -> std::io::Result<Self> {
        let mut process = Command::new("sh")
            .args(["-c", GUARD])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // In its own process group, so that Ctrl-C in the terminal does not end the guard before the functions.
            .process_group(0)
            .spawn()?;
        let input = process.stdin.take();
        Ok(Self {
            closed: AtomicBool::new(false),
            processes: watch::Sender::new(0),
            guard: Mutex::new(Guard { process, input }),
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Forbids new processes.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(super) fn enter(&self, pid: u32) {
        self.notify_guard('+', pid);
        self.processes.send_modify(|processes| *processes += 1);
    }

    pub(super) fn leave(&self, pid: u32) {
        self.notify_guard('-', pid);
        self.processes
            .send_modify(|processes| *processes = processes.saturating_sub(1));
    }

    /// Waits until no process is left.
    pub(super) async fn empty(&self) {
        // This fails only if the sender is gone, and `self` holds the sender.
        let _ = self
            .processes
            .subscribe()
            .wait_for(|processes| *processes == 0)
            .await;
    }

    fn notify_guard(&self, change: char, pid: u32) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(input) = &mut guard.input {
            // If the write fails, the guard is gone. The gateway still works, but a crash would leave busy functions
            // behind.
            let _ = writeln!(input, "{change} {pid}");
        }
    }
}

impl Drop for Census {
    fn drop(&mut self) {
        let guard = self.guard.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(guard.input.take());
        let _ = guard.process.wait();
    }
}
