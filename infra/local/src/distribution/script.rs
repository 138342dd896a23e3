//! CloudFront's JavaScript functions: compiled once and run for every request.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rquickjs::context::EvalOptions;
use rquickjs::{CatchResultExt as _, Context, Ctx, Function, Runtime};

/// The JavaScript wrapper that calls the handler. It compares and lists the query's pairs inside the engine, because
/// objects keep the order of their keys only there. It returns the query only if the handler changed it.
const AROUND: &str = r#"
(text) => {
    const pairs = (query) => Object.keys(query).flatMap((name) =>
        (query[name].multiValue || [query[name]]).map((one) => [name, one.value]));
    const event = JSON.parse(text);
    const before = JSON.stringify(pairs(event.request.querystring));
    const result = handler(event);
    if (result === null || typeof result !== 'object') {
        throw new TypeError('the handler returns neither a request nor a response');
    }
    if (result.statusCode !== undefined) {
        return JSON.stringify({ response: result });
    }
    const query = pairs(result.querystring);
    return JSON.stringify({ request: result, query: JSON.stringify(query) === before ? null : query });
}
"#;

/// The global under which the engine keeps the wrapper. It is not an identifier, so that no function can use it by
/// accident.
const NAME: &str = "the local gateway's call";

/// The limits of a run, so that a function that never ends fails. They are far above CloudFront's own (about a
/// millisecond and 2 MB).
const LONGEST: Duration = Duration::from_secs(1);
const LARGEST: usize = 32 * 1024 * 1024;

/// A compiled function.
pub(super) struct Script {
    context: Context,
    begun: Arc<Mutex<Instant>>,
}

impl Script {
    /// Compiles a function. Fails with the engine's error if the source is invalid.
    pub(super) fn compile(source: &str) -> Result<Self, String> {
        let failed = |error: rquickjs::Error| error.to_string();
        let runtime = Runtime::new().map_err(failed)?;
        runtime.set_memory_limit(LARGEST);
        let begun = Arc::new(Mutex::new(Instant::now()));
        let started = Arc::clone(&begun);
        runtime.set_interrupt_handler(Some(Box::new(move || lock(&started).elapsed() > LONGEST)));
        let context = Context::full(&runtime).map_err(failed)?;
        context.with(|ctx| {
            evaluate::<()>(&ctx, source)?;
            let around = evaluate::<Function<'_>>(&ctx, AROUND)?;
            ctx.globals().set(NAME, around).map_err(failed)
        })?;
        Ok(Self { context, begun })
    }

    /// Runs the function on an event and returns its result, both as JSON.
    pub(super) fn run(&self, event: &str) -> Result<String, String> {
        self.context.with(|ctx| {
            *lock(&self.begun) = Instant::now();
            let run: Function<'_> = ctx.globals().get(NAME).map_err(|error| error.to_string())?;
            run.call((event,))
                .catch(&ctx)
                .map_err(|error| error.to_string())
        })
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Script").finish_non_exhaustive()
    }
}

fn evaluate<'js, T: rquickjs::FromJs<'js>>(ctx: &Ctx<'js>, source: &str) -> Result<T, String> {
    let mut options = EvalOptions::default();
    // "Functions operate in strict mode by default", CloudFront developer guide.
    options.strict = true;
    ctx.eval_with_options(source, options)
        .catch(ctx)
        .map_err(|error| error.to_string())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"request":{"uri":"/a","querystring":{"b":{"value":"1"},"a":{"value":"2","multiValue":[{"value":"2"},{"value":"3"}]}}}}"#;

    fn run(body: &str) -> Result<String, String> {
        Script::compile(&format!("function handler(event) {{ {body} }}"))?.run(EVENT)
    }

    #[test]
    fn query_is_returned_only_if_changed() {
        let same = run("return event.request;").unwrap();
        assert!(same.ends_with(r#""query":null}"#), "{same}");
        let changed = run("event.request.querystring.z = { value: '' }; return event.request;");
        let changed = changed.unwrap();
        assert!(
            changed.ends_with(r#""query":[["b","1"],["a","2"],["a","3"],["z",""]]}"#),
            "{changed}"
        );
    }

    #[test]
    fn status_code_marks_response() {
        let answer = run("return { statusCode: 204 };").unwrap();
        assert_eq!(answer, r#"{"response":{"statusCode":204}}"#);
    }

    #[test]
    fn script_errors_are_reported() {
        for (body, expected) in [
            ("undeclared = 1;", "undeclared"),
            ("return nothing.there;", "nothing"),
            ("return 'text';", "neither"),
            ("while (true) {}", "interrupted"),
            ("return (", "unexpected"),
        ] {
            let error = run(body).unwrap_err();
            assert!(error.contains(expected), "{body}: {error}");
        }
        assert!(Script::compile("const none = 1;").is_ok_and(|script| script.run(EVENT).is_err()));
    }

    #[test]
    fn script_runs_on_any_thread() {
        let script = Script::compile("function handler(event) { return event.request; }").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..100).for_each(|_| drop(script.run(EVENT).unwrap())));
            }
        });
    }
}
