//! Every process there is: counted, so that the end can wait for the last, and known to a guard that outlives a crash.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// A function that waits for an invocation ends when the gateway is killed, because its Runtime API is gone; one that
/// is at work would not. The guard's input ends with the gateway, however that ends, and then it kills what is left:
/// process groups, since each function leads its own.
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
            // Ctrl-C in the terminal must not take it away before its time.
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

    /// No process starts any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(super) fn enter(&self, pid: u32) {
        self.tell('+', pid);
        self.processes.send_modify(|processes| *processes += 1);
    }

    pub(super) fn leave(&self, pid: u32) {
        self.tell('-', pid);
        self.processes
            .send_modify(|processes| *processes = processes.saturating_sub(1));
    }

    /// Returns when no process is left.
    pub(super) async fn empty(&self) {
        // It fails only when the sender is gone, and that is `self`.
        let _ = self
            .processes
            .subscribe()
            .wait_for(|processes| *processes == 0)
            .await;
    }

    fn tell(&self, change: char, pid: u32) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(input) = &mut guard.input {
            // Without its guard the gateway works on; only a crash would then leave functions at work behind.
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
