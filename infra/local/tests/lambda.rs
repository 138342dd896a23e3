//! Lambda with real processes: invocations, concurrency, crashes, retries and the Invoke API's answers.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails where it stands"
)]

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::request::Builder;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use local_gateway::fault::{Fault, Faults};
use local_gateway::lambda::{Invocation, Lambda, LambdaOptions};
use local_gateway::metrics::Metrics;
use local_gateway::rights::Rights;
use local_gateway::template::Function;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A test that takes longer fails instead of hanging.
const DEADLINE: Duration = Duration::from_secs(60);

struct Setup {
    lambda: Lambda,
    folder: tempfile::TempDir,
}

#[tokio::test]
async fn idle_instance_is_reused() {
    within(async {
        let setup = setup(|_| {}).await;
        let first = setup.answer(json!({ "x": 1 })).await;
        assert_eq!(first["payload"], json!({ "x": 1 }));
        assert!(first["deadline"].as_str().unwrap().parse::<u64>().is_ok());
        let second = setup.answer(json!({})).await;
        assert_eq!(first["pid"], second["pid"]);
        assert_ne!(first["request-id"], second["request-id"]);
        setup.end().await;
    })
    .await;
}

#[tokio::test]
async fn concurrent_invocations_start_capped_instances() {
    within(async {
        let setup = setup(|options| options.max_instances = 2).await;
        let (first, second) = (setup.wait("1"), setup.wait("2"));
        setup.begun("1").await;
        setup.begun("2").await;
        let third = setup.begin("{}".to_owned());
        let instances = setup.instances().await;
        assert_eq!(instances.len(), 2);
        assert!(instances.iter().all(|instance| instance["busy"] == true));
        assert!(!third.is_finished(), "a third invocation has to wait");
        setup.release("1");
        setup.release("2");
        assert_ne!(pid(first.await.unwrap()), pid(second.await.unwrap()));
        assert!(matches!(third.await.unwrap(), Invocation::Answer(_)));
        assert_eq!(setup.instances().await.len(), 2);
        setup.end().await;
    })
    .await;
}

#[tokio::test]
async fn one_process_runs_concurrent_invocations() {
    within(async {
        let setup = setup(|options| {
            options.max_instances = 1;
            options.concurrency = 2;
        })
        .await;
        // The second invocation arrives while the process starts, and waits for it.
        let (first, second) = (setup.wait("1"), setup.wait("2"));
        setup.begun("1").await;
        setup.begun("2").await;
        let third = setup.begin("{}".to_owned());
        assert_eq!(setup.instances().await.len(), 1);
        assert!(!third.is_finished(), "a third invocation has to wait");
        setup.release("2");
        let second = pid(second.await.unwrap());
        assert_eq!(pid(third.await.unwrap()), second);
        assert!(!first.is_finished(), "each gets its own answer");
        setup.release("1");
        assert_eq!(pid(first.await.unwrap()), second);
        setup.end().await;
    })
    .await;
}

#[tokio::test]
async fn process_exit_fails_concurrent_invocations() {
    within(async {
        let setup = setup(|options| options.concurrency = 2).await;
        let caught = setup.wait("1");
        setup.begun("1").await;
        let pid = setup.instances().await[0]["pid"].clone();
        setup.error(json!({ "do": "exit" })).await;
        let Invocation::FunctionError(error) = caught.await.unwrap() else {
            panic!("the invocation should have failed")
        };
        assert_eq!(parse(&error)["errorType"], "Runtime.ExitError");
        assert_ne!(setup.answer(json!({})).await["pid"], pid);
        setup.end().await;
    })
    .await;
}

#[tokio::test]
async fn reserved_concurrency_throttles() {
    within(async {
        let setup = setup(|options| function(options).reserved_concurrency = Some(1)).await;
        let first = setup.wait("1");
        setup.begun("1").await;
        assert_eq!(setup.invoke(json!({})).await, Invocation::Throttled);
        let (status, headers, _) = setup.post("F", "RequestResponse", "{}").await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(headers["x-amzn-errortype"], "TooManyRequestsException");
        setup.release("1");
        assert!(matches!(first.await.unwrap(), Invocation::Answer(_)));
        setup.end().await;
    })
    .await;
}

#[tokio::test]
async fn function_error_keeps_instance() {
    within(async {
        let setup = setup(|_| {}).await;
        let before = setup.answer(json!({})).await;
        let error = setup.error(json!({ "do": "fail" })).await;
        assert_eq!(error["errorMessage"], "as told");
        assert_eq!(before["pid"], setup.answer(json!({})).await["pid"]);
        setup.end().await;
    })
    .await;
}

#[tokio::test]
async fn exited_process_is_replaced() {
    within(async {
        let setup = setup(|_| {}).await;
        let before = setup.answer(json!({})).await;
        let error = setup.error(json!({ "do": "exit" })).await;
        assert_eq!(error["errorType"], "Runtime.ExitError");
        assert_eq!(
            error["errorMessage"],
            "Runtime exited with error: exit status 3"
        );
        assert_ne!(before["pid"], setup.answer(json!({})).await["pid"]);
        setup.end().await;
    })
    .await;
}

#[tokio::test]
async fn killed_instance_fails_only_own_invocation() {
    within(async {
        let setup = setup(|_| {}).await;
        let caught = setup.wait("1");
        setup.begun("1").await;
        let pid = setup.instances().await[0]["pid"].as_u64().unwrap();
        kill(pid);
        let Invocation::FunctionError(error) = caught.await.unwrap() else {
            panic!("the invocation should have failed")
        };
        assert_eq!(
            parse(&error)["errorMessage"],
            "Runtime exited with error: signal: killed"
        );

        // An idle instance is replaced without failing any invocation.
        let idle = setup.answer(json!({})).await["pid"].as_u64().unwrap();
        kill(idle);
        setup.until_instances(0).await;
        assert_ne!(setup.answer(json!({})).await["pid"], idle);
        setup.end().await;
    })
    .await;
}

#[tokio::test]
async fn crash_at_start_returns_error() {
    within(async {
        let crash = |options: &mut LambdaOptions| {
            function(options)
                .environment
                .insert("CRASH_AT_START".to_owned(), "1".to_owned());
        };
        let setup = setup(crash).await;
        let error = setup.error(json!({})).await;
        assert_eq!(
            error["errorMessage"],
            "Runtime exited with error: exit status 2"
        );
        setup.end().await;
    })
    .await;
}

#[tokio::test]
async fn only_function_timeout_ends_instance() {
    within(async {
        let setup = setup(|options| function(options).timeout = Duration::from_millis(300)).await;
        assert_eq!(setup.wait("never").await.unwrap(), Invocation::TimedOut);
        setup.until_instances(0).await;
        let (status, headers, body) = setup
            .post("F", "RequestResponse", &setup.waiting("also-never"))
            .await;
        assert_eq!(
            (status, &headers["x-amz-function-error"]),
            (StatusCode::OK, &"Unhandled".parse().unwrap())
        );
        assert!(
            parse(&body)["errorMessage"]
                .as_str()
                .unwrap()
                .ends_with("Task timed out after 0.30 seconds")
        );
        setup.end().await;

        let setup = self::setup(|_| {}).await;
        let pid = setup.answer(json!({})).await["pid"].clone();
        let payload = setup.waiting("1").into();
        let impatient = setup
            .lambda
            .invoke("F", payload, Some(Duration::from_millis(50)))
            .await;
        assert_eq!(impatient, Invocation::Late);
        setup.begun("1").await;
        setup.release("1");
        setup.until_idle().await;
        assert_eq!(setup.answer(json!({})).await["pid"], pid);
        setup.end().await;
    })
    .await;
}

#[tokio::test]
async fn failing_event_is_retried_twice() {
    within(async {
        let setup = setup(|_| {}).await;
        let file = setup.folder.path().join("notes");
        let payload = json!({ "do": "note", "file": file }).to_string();
        let (status, _, body) = setup.post("messaging-F", "Event", &payload).await;
        assert_eq!((status, body.len()), (StatusCode::ACCEPTED, 0));
        let attempts = || std::fs::read_to_string(&file).unwrap_or_default();
        until(|| async { attempts().lines().count() == 3 }).await;
        let attempts = attempts();
        assert!(
            attempts
                .lines()
                .all(|id| Some(id) == attempts.lines().next())
        );
        assert!(!setup.lambda.invoke_event("Absent", Bytes::new()));
        setup.end().await;
    })
    .await;
}

#[tokio::test]
async fn invoke_api_matches_lambda() {
    within(async {
        let setup = setup(|_| {}).await;
        let arn = "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Amessaging-F";
        for name in [
            "messaging-F",
            "123456789012:function:messaging-F:$LATEST",
            arn,
        ] {
            let (status, headers, body) = setup
                .post(name, "RequestResponse", r#"{"do":"answer","with":[1]}"#)
                .await;
            assert_eq!(
                (status, body.as_ref()),
                (StatusCode::OK, &b"[1]"[..]),
                "{name}"
            );
            assert_eq!(headers["x-amz-executed-version"], "$LATEST");
            assert!(!headers.contains_key("x-amz-function-error"));
        }
        let (status, headers, body) = setup.post("F", "RequestResponse", r#"{"do":"fail"}"#).await;
        assert_eq!(
            (status, parse(&body)["errorType"].as_str()),
            (StatusCode::OK, Some("Fixture"))
        );
        assert_eq!(headers["x-amz-function-error"], "Unhandled");

        let large = format!("\"{}\"", "x".repeat(6 * 1024 * 1024));
        let medium = format!("\"{}\"", "x".repeat(1024 * 1024));
        for (name, kind, payload, status, error) in [
            (
                "Absent",
                "RequestResponse",
                "{}",
                404,
                "ResourceNotFoundException",
            ),
            (
                "F",
                "RequestResponse",
                "{",
                400,
                "InvalidRequestContentException",
            ),
            (
                "F",
                "RequestResponse",
                &large,
                413,
                "RequestTooLargeException",
            ),
            ("F", "Event", &medium, 413, "RequestTooLargeException"),
            (
                "F",
                "Sometimes",
                "{}",
                400,
                "InvalidParameterValueException",
            ),
        ] {
            let (got, headers, _) = setup.post(name, kind, payload).await;
            assert_eq!(
                (got.as_u16(), headers["x-amzn-errortype"].to_str().unwrap()),
                (status, error)
            );
        }
        assert_eq!(
            setup.post("F", "DryRun", "{}").await.0,
            StatusCode::NO_CONTENT
        );
        setup.end().await;
    })
    .await;
}

#[tokio::test]
async fn web_pages_may_not_invoke() {
    within(async {
        let setup = setup(|_| {}).await;
        let url = format!("{}/2015-03-31/functions/F/invocations", setup.lambda.url());
        for (name, value) in [
            ("origin", "https://example.com"),
            ("host", "rebound.example.com"),
            ("sec-fetch-site", "cross-site"),
        ] {
            let request = Request::post(&url).header(name, value);
            let (status, _, _) = send(request, "{}").await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{name}");
        }
        assert!(setup.instances().await.is_empty());
        setup.end().await;
    })
    .await;
}

#[tokio::test]
async fn function_gets_only_lambda_variables() {
    within(async {
        let setup = setup(|options| {
            options.replacements = vec![(
                "https://aws/prod".to_owned(),
                "http://local/prod".to_owned(),
            )];
            function(options)
                .environment
                .insert("ENDPOINT".to_owned(), "https://aws/prod".to_owned());
        })
        .await;
        let variables = setup.answer(json!({ "do": "environment" })).await;
        let folder = json!(fixture().parent().unwrap());
        assert_eq!(variables["LAMBDA_TASK_ROOT"], folder);
        assert_eq!(setup.answer(json!({ "do": "folder" })).await, folder);
        assert_eq!(variables["_HANDLER"], "bootstrap");
        assert_eq!(variables["AWS_LAMBDA_FUNCTION_NAME"], "messaging-F");
        assert_eq!(variables["AWS_LAMBDA_FUNCTION_VERSION"], "$LATEST");
        assert_eq!(variables["AWS_ENDPOINT_URL_LAMBDA"], setup.lambda.url());
        assert_eq!(
            variables["AWS_ENDPOINT_URL_DYNAMODB"],
            "http://127.0.0.1:8000"
        );
        assert_eq!(variables["ENDPOINT"], "http://local/prod");
        assert!(variables.get("CARGO_MANIFEST_DIR").is_none());
        setup.end().await;
    })
    .await;
}

#[tokio::test]
async fn kill_fault_can_be_disabled() {
    within(async {
        let setup = setup(|options| {
            let fault: Fault = "kill-instance=1".parse().unwrap();
            options.faults = Faults::new(&[fault], 7);
        })
        .await;
        let error = setup.error(json!({})).await;
        assert_eq!(
            error["errorMessage"],
            "Runtime exited with error: signal: killed"
        );
        let url = format!("{}/_local/faults", setup.lambda.url());
        let (status, ..) = request(Method::PUT, &url, None, "kill-instance=2").await;
        assert_eq!(status, 400);
        let (status, _, body) = request(Method::PUT, &url, None, "kill-instance=0").await;
        assert_eq!(status, 200);
        assert_eq!(parse(&body)["kill-instance"], 1, "the fault applied once");
        setup.answer(json!({})).await;
        setup.end().await;
    })
    .await;
}

#[tokio::test]
async fn shutdown_ends_all_processes() {
    within(async {
        let setup = setup(|_| {}).await;
        let busy = setup.wait("never");
        setup.begun("never").await;
        let pid = setup.instances().await[0]["pid"].as_u64().unwrap();
        assert!(is_running(pid));
        setup.lambda.shut_down().await;
        assert!(!is_running(pid));
        assert!(matches!(busy.await.unwrap(), Invocation::FunctionError(_)));
        assert!(
            matches!(setup.invoke(json!({})).await, Invocation::FunctionError(_)),
            "no new instance starts"
        );
    })
    .await;
}

impl Setup {
    async fn invoke(&self, payload: Value) -> Invocation {
        self.lambda
            .invoke("F", payload.to_string().into(), None)
            .await
    }

    async fn answer(&self, payload: Value) -> Value {
        match self.invoke(payload).await {
            Invocation::Answer(answer) => parse(&answer),
            other => panic!("expected an answer, got {other:?}"),
        }
    }

    async fn error(&self, payload: Value) -> Value {
        match self.invoke(payload).await {
            Invocation::FunctionError(error) => parse(&error),
            other => panic!("expected an error, got {other:?}"),
        }
    }

    /// Returns the payload of an invocation that reports its begin and waits until it is released.
    fn waiting(&self, name: &str) -> String {
        let path = |suffix: &str| self.folder.path().join(format!("{name}.{suffix}"));
        json!({ "do": "wait", "begun": path("begun"), "until": path("go") }).to_string()
    }

    fn wait(&self, name: &str) -> JoinHandle<Invocation> {
        self.begin(self.waiting(name))
    }

    fn begin(&self, payload: String) -> JoinHandle<Invocation> {
        let lambda = self.lambda.clone();
        tokio::spawn(async move { lambda.invoke("F", payload.into(), None).await })
    }

    async fn begun(&self, name: &str) {
        let path = self.folder.path().join(format!("{name}.begun"));
        until(|| async { path.exists() }).await;
    }

    fn release(&self, name: &str) {
        std::fs::write(self.folder.path().join(format!("{name}.go")), "").unwrap();
    }

    async fn instances(&self) -> Vec<Value> {
        let url = format!("{}/_local/functions", self.lambda.url());
        let (_, _, body) = request(Method::GET, &url, None, "").await;
        serde_json::from_slice(&body).unwrap()
    }

    async fn until_instances(&self, count: usize) {
        until(|| async { self.instances().await.len() == count }).await;
    }

    async fn until_idle(&self) {
        until(|| async {
            self.instances()
                .await
                .iter()
                .all(|instance| instance["busy"] == false)
        })
        .await;
    }

    async fn post(&self, name: &str, kind: &str, payload: &str) -> (StatusCode, HeaderMap, Bytes) {
        let url = format!(
            "{}/2015-03-31/functions/{name}/invocations",
            self.lambda.url()
        );
        request(Method::POST, &url, Some(kind), payload).await
    }

    async fn end(self) {
        self.lambda.shut_down().await;
    }
}

async fn setup(change: impl FnOnce(&mut LambdaOptions)) -> Setup {
    let function = Function {
        id: "F".to_owned(),
        name: "messaging-F".to_owned(),
        arn: "arn:aws:lambda:us-east-1:123456789012:function:messaging-F".to_owned(),
        binary: "fixture".to_owned(),
        handler: "bootstrap".to_owned(),
        timeout: Duration::from_secs(30),
        memory_mb: 128,
        environment: BTreeMap::new(),
        reserved_concurrency: None,
        event_retries: 2,
        url: None,
        rights: None,
    };
    let mut options = LambdaOptions {
        functions: BTreeMap::from([("F".to_owned(), function)]),
        executables: BTreeMap::from([("fixture".to_owned(), fixture())]),
        region: "us-east-1".to_owned(),
        dynamodb_url: "http://127.0.0.1:8000".to_owned(),
        replacements: Vec::new(),
        max_instances: 8,
        concurrency: 1,
        retry_delay: Duration::from_millis(10),
        tells_leaving: false,
        verbose: false,
        faults: Faults::default(),
        rights: Rights::default(),
        metrics: Metrics::default(),
    };
    change(&mut options);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let lambda = Lambda::start(listener, options).await.unwrap();
    Setup {
        lambda,
        folder: tempfile::tempdir().unwrap(),
    }
}

fn function(options: &mut LambdaOptions) -> &mut Function {
    options.functions.get_mut("F").unwrap()
}

/// Returns the fixture's executable. Cargo builds a package's examples together with its tests.
fn fixture() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples/bare_function");
    assert!(
        path.is_file(),
        "{} is not built; run the package's tests without --test",
        path.display()
    );
    path
}

async fn request(
    method: Method,
    url: &str,
    kind: Option<&str>,
    body: &str,
) -> (StatusCode, HeaderMap, Bytes) {
    let mut request = Request::builder().method(method).uri(url);
    if let Some(kind) = kind {
        request = request.header("x-amz-invocation-type", kind);
    }
    send(request, body).await
}

async fn send(request: Builder, body: &str) -> (StatusCode, HeaderMap, Bytes) {
    let request = request
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let response = client.request(request).await.unwrap();
    let (parts, body) = response.into_parts();
    (
        parts.status,
        parts.headers,
        body.collect().await.unwrap().to_bytes(),
    )
}

async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    while !condition().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn within(test: impl Future<Output = ()>) {
    tokio::time::timeout(DEADLINE, test)
        .await
        .expect("the test hangs");
}

fn kill(pid: u64) {
    let status = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

fn is_running(pid: u64) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn pid(invocation: Invocation) -> Value {
    match invocation {
        Invocation::Answer(answer) => parse(&answer)["pid"].clone(),
        other => panic!("expected an answer, got {other:?}"),
    }
}

fn parse(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap()
}
