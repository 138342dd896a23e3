//! The process of an instance, from start to end.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::census::Census;
use super::instance::{Instance, Link, State};
use super::output::Output;
use super::runtime_api;
use super::wire::error_json;
use crate::metrics::Metrics;
use crate::template::Function;

/// How long the gateway reads the output of an ended process. A child of the process may hold the output open longer.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The parts that serve a process while it runs.
#[derive(Debug)]
pub(super) struct Life {
    instance: Arc<Instance>,
    link: Arc<Link>,
    child: Child,
    listener: TcpListener,
    arn: String,
    output: Output,
}

/// Starts a process with its own listener for the Runtime API. `AWS_LAMBDA_RUNTIME_API` is only a host and port, and
/// the requests do not identify the instance.
pub(super) fn start(
    function: &Function,
    executable: &Path,
    variables: &[(String, String)],
    verbose: bool,
    metrics: Metrics,
    tells_leaving: bool,
) -> std::io::Result<(Arc<Instance>, Life)> {
    static LAST_ID: AtomicU64 = AtomicU64::new(0);
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let id = LAST_ID.fetch_add(1, Ordering::Relaxed) + 1;
    // On Lambda, a function starts in the folder of its code.
    let folder = executable.parent().unwrap_or(Path::new("/"));
    let child = Command::new(executable)
        .current_dir(folder)
        .env_clear()
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .env("AWS_LAMBDA_RUNTIME_API", listener.local_addr()?.to_string())
        .env("AWS_LAMBDA_LOG_STREAM_NAME", log_stream(id))
        .env("LAMBDA_TASK_ROOT", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // In its own process group, so that Ctrl-C in the terminal reaches only the gateway. The gateway then ends its
        // functions.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    // A process has an id until it is waited for.
    let pid = child.id().unwrap_or_default();
    let (instance, link) = Instance::new(id, pid, function.timeout, tells_leaving);
    let instance = Arc::new(instance);
    let life = Life {
        instance: Arc::clone(&instance),
        link: Arc::new(link),
        child,
        listener,
        arn: function.arn.clone(),
        output: Output::new(&function.binary, verbose, metrics),
    };
    Ok((instance, life))
}

impl Life {
    /// Serves the process until it ends. Then fails its pending invocations with the error of the exit.
    pub(super) async fn last(mut self, census: &Census) {
        let mut tasks = JoinSet::new();
        let mut readers = JoinSet::new();
        if let Some(stdout) = self.child.stdout.take() {
            readers.spawn(self.output.clone().follow(stdout));
        }
        if let Some(stderr) = self.child.stderr.take() {
            readers.spawn(self.output.clone().follow(stderr));
        }
        tasks.spawn(runtime_api::serve(
            self.listener,
            Arc::clone(&self.link),
            self.arn,
        ));
        let (status, ended_by_us) = tokio::select! {
            status = self.child.wait() => (status, false),
            () = self.instance.stop.notified() => {
                // This fails only if the process has ended already.
                let _ = self.child.start_kill();
                (self.child.wait().await, true)
            }
        };
        // Read the last output before the report of the crash.
        let all_read = async { while readers.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_WORDS, all_read).await;
        let cause = status.map_or_else(|error| error.to_string(), cause);
        let starting = *self.link.state.borrow() == State::Starting;
        let error = self.link.init_error().unwrap_or_else(|| {
            let message = format!("Runtime exited with error: {cause}");
            error_json("Runtime.ExitError", &message)
        });
        if !ended_by_us && !census.is_closed() {
            let when = if starting {
                "crashed during its start"
            } else {
                "crashed"
            };
            self.output.report(&format!("{when}: {cause}"));
        }
        self.link.state.send_replace(State::Dead(error));
    }
}

/// Describes an exit status in Lambda's words.
fn cause(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(9)) => "signal: killed".to_owned(),
        (None, Some(signal)) => format!("signal: {signal}"),
        (None, None) => "unknown".to_owned(),
    }
}

/// Returns the log stream name in CloudWatch's form, `2026/01/31/[$LATEST]<instance>`.
fn log_stream(id: u64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or_default();
    let day = jiff::Timestamp::from_second(seconds)
        .map(|now| now.strftime("%Y/%m/%d").to_string())
        .unwrap_or_default();
    format!("{day}/[$LATEST]{id:032x}")
}
