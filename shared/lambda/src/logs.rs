//! The log of a function.

use lambda_runtime::{
    Diagnostic,
    tracing::subscriber::{EnvFilter, filter::LevelFilter},
};

use crate::answer::is_refusal;

/// Where the runtime writes its own line about each failed invocation: a level `ERROR` line with the error's `Debug` text
/// (`lambda_runtime` 1.5, `layers/panic.rs`).
const RUNTIMES_LINE: &str = "lambda_runtime::layers::panic";

/// Starts logging JSON lines with the invocation's ids, at the level of `AWS_LAMBDA_LOG_LEVEL`.
///
/// The runtime's line about a failed invocation is off. [`serve`](crate::serve()) writes it instead, because a refused
/// handshake is no error of the service.
pub fn init_logs() {
    let level = std::env::var("AWS_LAMBDA_LOG_LEVEL").ok();
    let level = level.and_then(|it| it.parse::<LevelFilter>().ok());
    let mut filter = EnvFilter::builder()
        .with_default_directive(level.unwrap_or(LevelFilter::INFO).into())
        .from_env_lossy();
    if let Ok(off) = format!("{RUNTIMES_LINE}=off").parse() {
        filter = filter.add_directive(off);
    }
    let subscriber = lambda_runtime::tracing::subscriber::fmt()
        .with_target(false)
        .without_time()
        .with_env_filter(filter);
    // Lambda and the local gateway ask for JSON. A person in a terminal does not.
    if std::env::var("AWS_LAMBDA_LOG_FORMAT").is_ok_and(|it| it.eq_ignore_ascii_case("json")) {
        subscriber.json().init();
    } else {
        subscriber.init();
    }
}

/// Writes the line about an invocation that fails with `error`.
pub(crate) fn report(error: &Diagnostic) {
    let Diagnostic {
        error_type,
        error_message,
    } = error;
    if is_refusal(error) {
        tracing::info!("handshake refused");
    } else {
        tracing::error!(error_type, error_message, "invocation failed");
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;
    use crate::unauthorized;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the line about a failed invocation, and its length.
    fn line_of(error: &Diagnostic) -> (Value, usize) {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = lambda_runtime::tracing::subscriber::fmt()
            .json()
            .without_time()
            .with_target(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || report(error));
        let bytes = lines.0.lock().unwrap();
        (serde_json::from_slice(&bytes).unwrap(), bytes.len())
    }

    #[test]
    fn refused_handshake_is_short_info_line() {
        let (line, length) = line_of(&unauthorized());
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["fields"]["message"], "handshake refused");
        assert!(length < 100, "{line}");
    }

    #[test]
    fn failed_invocation_is_error_line() {
        let (line, _) = line_of(&Diagnostic {
            error_type: "Fault".to_owned(),
            error_message: "not done: throttled".to_owned(),
        });
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["fields"]["message"], "invocation failed");
        assert_eq!(line["fields"]["error_message"], "not done: throttled");
    }
}
