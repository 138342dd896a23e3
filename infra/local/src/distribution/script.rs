//! CloudFront's JavaScript: a function compiled once and run for every request.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rquickjs::context::EvalOptions;
use rquickjs::{CatchResultExt as _, Context, Ctx, Function, Runtime};

/// What is called: the handler, with what is asked of the engine itself, since objects keep the order of their keys only
/// there. The query is told as its pairs, and only if the handler changed it.
const AROUND: &str = r#"
(text) => {
    const pairs = (query) => Object.keys(query).flatMap((name) =>
        (query[name].multiValue || [query[name]]).map((one) => [name, one.value]));
    const event = JSON.parse(text);
    const before = JSON.stringify(pairs(event.request.querystring));
    const result = handler(event);
    if (result === null || typeof result !== 'object') {
        throw new TypeError('it returns neither a request nor a response');
    }
    if (result.statusCode !== undefined) {
        return JSON.stringify({ response: result });
    }
    const query = pairs(result.querystring);
    return JSON.stringify({ request: result, query: JSON.stringify(query) === before ? null : query });
}
"#;

/// Under which that is kept in the engine; no identifier, so that it is nobody's else.
const NAME: &str = "the local gateway's call";

/// Far above CloudFront's own limits (about a millisecond and 2 MB), there so that a function that never ends fails.
const LONGEST: Duration = Duration::from_secs(1);
const LARGEST: usize = 32 * 1024 * 1024;

/// A compiled function.
pub(super) struct Script {
    context: Context,
    begun: Arc<Mutex<Instant>>,
}

impl Script {
    /// Compiles a function, or says why it is none.
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

    /// Runs it on an event, both as JSON.
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
    fn a_request_comes_back_and_its_query_only_if_it_was_changed() {
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
    fn a_response_is_told_from_a_request() {
        let answer = run("return { statusCode: 204 };").unwrap();
        assert_eq!(answer, r#"{"response":{"statusCode":204}}"#);
    }

    #[test]
    fn what_goes_wrong_is_said() {
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
    fn it_runs_on_any_thread() {
        let script = Script::compile("function handler(event) { return event.request; }").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..100).for_each(|_| drop(script.run(EVENT).unwrap())));
            }
        });
    }
}
