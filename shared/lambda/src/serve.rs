//! The invocation loop of a function. It handles one invocation at a time, or several at once if so configured.

use std::rc::Rc;

use lambda_runtime::{Diagnostic, Error, LambdaEvent, run_concurrent, service_fn};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};
use tracing::{Instrument as _, Span};

use crate::{logs::report, metrics::measured};

/// Handles each event with `handle` and the shared `service`, which the process creates once.
///
/// Lambda gives a process one invocation at a time. `AWS_LAMBDA_MAX_CONCURRENCY` makes the process request so many at once;
/// Lambda's managed instances and the local gateway's `--concurrency` set it. All handlers run on the calling thread. The
/// runtime's loops only pass events to it and responses back.
///
/// # Errors
/// Fails if the Runtime API cannot be reached.
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
            // The runtime enters the span of this invocation only inside this closure.
            let _ = events.send((event, reply, Span::current()));
            // A missing reply means that the handler panicked. The panic has its own log line.
            answer.await.unwrap_or_else(|_| Err(panicked()))
        }
    }));
    let working = async {
        while let Some((event, reply, span)) = queue.recv().await {
            let LambdaEvent { payload, context } = event;
            // Called within the span, so that it is the parent of the handler's spans.
            let work = span.in_scope(|| handle(Rc::clone(&service), payload));
            let answering = async move {
                // If the receiver is dropped, the runtime's loop has ended and the process ends too.
                let done = measured(&context.request_id, work).await;
                let _ = reply.send(done.inspect_err(report));
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
