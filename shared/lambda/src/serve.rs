//! The loop around a function: invocation after invocation, or several at once where its process is told to.

use std::rc::Rc;

use lambda_runtime::{Diagnostic, Error, LambdaEvent, run_concurrent, service_fn};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};
use tracing::{Instrument as _, Span};

use crate::metrics::measured;

/// Answers each event by `handle`, with what the process has made once. Lambda gives a process one invocation at a time; with
/// `AWS_LAMBDA_MAX_CONCURRENCY`, which Lambda's managed instances and the local gateway's `--concurrency` set, it asks for so
/// many at once. All of it stays on this thread: the runtime's loops only carry events to it and answers back.
///
/// # Errors
/// When the Runtime API cannot be reached.
pub async fn serve<S, E, R, F>(service: S, handle: impl Fn(Rc<S>, E) -> F) -> Result<(), Error>
where
    S: 'static,
    E: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    F: Future<Output = Result<R, Diagnostic>> + 'static,
{
    let service = Rc::new(service);
    let (events, mut queue) = mpsc::unbounded_channel();
    let asking = run_concurrent(service_fn(move |event: LambdaEvent<E>| {
        let events = events.clone();
        async move {
            let (reply, answer) = oneshot::channel();
            // The runtime's span of this invocation is entered only in here.
            let _ = events.send((event, reply, Span::current()));
            // Without a reply it panicked, which its own line tells.
            answer.await.unwrap_or_else(|_| Err(panicked()))
        }
    }));
    let working = async {
        while let Some((event, reply, span)) = queue.recv().await {
            let LambdaEvent { payload, context } = event;
            // Within the span, since that is the parent of those that it makes.
            let work = span.in_scope(|| handle(Rc::clone(&service), payload));
            let answering = async move {
                // Whoever asks no more has ended, and the process with it.
                let _ = reply.send(measured(&context.request_id, work).await);
            };
            spawn_local(answering.instrument(span));
        }
    };
    let serving = async {
        tokio::select! {
            ended = asking => ended,
            () = working => Ok(()),
        }
    };
    LocalSet::new().run_until(serving).await
}

fn panicked() -> Diagnostic {
    Diagnostic {
        error_type: "Panic".to_owned(),
        error_message: "the invocation panicked".to_owned(),
    }
}
