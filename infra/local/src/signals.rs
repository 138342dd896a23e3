//! Ctrl-C and SIGTERM.

use tokio::signal::unix::{SignalKind, signal};

/// The exit code that a shell shows for a process that ended on Ctrl-C.
pub const EXIT_CODE: u8 = 130;

/// Waits for Ctrl-C or SIGTERM.
pub async fn stop() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        // Without handlers, the signals end the process by default.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
