//! The public port: the page, the raw WebSocket, the HTTP API and refused origins and hosts. Also errors of the command line.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::net::TcpListener;
use std::process::Stdio;

use common::{Gateway, connect_to, connection_id, eventually, http, try_http};
use serde_json::json;

#[tokio::test]
async fn console_files_are_served() {
    let gateway = Gateway::start(&[]);
    let edge = gateway.url("edge");
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/protocol.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
    ] {
        let answer = http("GET", &format!("{edge}{path}"), "");
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), Some(kind));
        assert!(!answer.body.is_empty());
    }
    // The template has no distribution, so nothing serves SockJS.
    for (method, path) in [
        ("GET", "/messaging"),
        ("GET", "/nothing"),
        ("POST", "/"),
        ("GET", "/messaging/nothing"),
        ("GET", "/prod"),
    ] {
        let answer = http(method, &format!("{edge}{path}"), "");
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(answer.json()["status"], 404);
    }
}

#[tokio::test]
async fn raw_websocket_reaches_stage() {
    let gateway = Gateway::start(&[]);
    let url = format!("{}?token=alice&x=1", gateway.url("websocket"));
    let mut socket = connect_to(&url, &[("x-tag", "t")]).await.unwrap();
    let id = connection_id(&mut socket).await;
    assert_eq!(http("GET", &gateway.connection_url(&id), "").status, 200);
    let event = gateway.event("CONNECT");
    assert_eq!(
        event["queryStringParameters"],
        json!({"token": "alice", "x": "1"})
    );
    assert_eq!(event["headers"]["X-Tag"], "t");
    // As behind CloudFront, the function sees the stage's own host, not the public one.
    let host = gateway
        .url("management")
        .strip_prefix("http://")
        .unwrap()
        .split('/')
        .next();
    assert_eq!(event["requestContext"]["domainName"].as_str(), host);
    assert_eq!(event["headers"]["Host"].as_str(), host);
}

#[tokio::test]
async fn http_api_requests_reach_function() {
    let gateway = Gateway::start(&[]);
    let api = gateway.url("api");
    assert!(api.ends_with("/v1"));
    let url = format!("{api}/domains/example/subscribers/a%20b?x=1");
    let headers = [("content-type", "application/json"), ("cookie", "c=1")];
    let answer = try_http("POST", &url, &headers, b"{\"a\":1}").unwrap();
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-one"), Some("1"));
    let event = answer.json();
    assert_eq!(event["version"], "2.0");
    assert_eq!(event["routeKey"], "ANY /v1/{proxy+}");
    assert_eq!(event["rawPath"], "/v1/domains/example/subscribers/a b");
    assert_eq!(
        event["pathParameters"]["proxy"],
        "domains/example/subscribers/a b"
    );
    assert_eq!(event["queryStringParameters"], json!({"x": "1"}));
    assert_eq!(event["cookies"], json!(["c=1"]));
    assert_eq!(event["body"], "{\"a\":1}");
    assert_eq!(event["requestContext"]["http"]["method"], "POST");
    assert_eq!(event["requestContext"]["stage"], "$default");

    let failed = http("GET", &format!("{api}/fail"), "");
    assert_eq!(
        (failed.status, failed.body.as_str()),
        (500, r#"{"message":"Internal Server Error"}"#)
    );
    assert_eq!(http("GET", api, "").status, 404);
    let large = "x".repeat(10 * 1024 * 1024 + 1);
    assert_eq!(http("POST", &format!("{api}/x"), &large).status, 413);
    // The body is within the HTTP API's limit, but exceeds Lambda's limit once it is encoded as base64.
    let large = "x".repeat(5 * 1024 * 1024);
    assert_eq!(http("POST", &format!("{api}/x"), &large).status, 413);
}

#[tokio::test]
async fn routes_outside_v1_are_reached() {
    let gateway = Gateway::start_with(&[], |dir| {
        let events = r#"
        Named: { Type: HttpApi, Properties: { ApiId: !Ref HttpApi, Method: POST, Path: "/hello/{name}" } }
        Page: { Type: HttpApi, Properties: { ApiId: !Ref HttpApi, Method: GET, Path: /index.html } }
        Rest: { Type: HttpApi, Properties: { ApiId: !Ref HttpApi, Method: ANY, Path: "/{proxy+}" } }
"#;
        common::template(dir) + events.trim_start_matches('\n')
    });
    let edge = gateway.url("edge");
    assert_eq!(gateway.url("api"), edge, "not only under /v1");
    for (method, path, route) in [
        ("POST", "/hello/you", "POST /hello/{name}"),
        ("GET", "/hello/you", "ANY /{proxy+}"),
        ("GET", "/index.html", "GET /index.html"),
        ("POST", "/app.js", "ANY /{proxy+}"),
        ("GET", "/v1/x", "ANY /v1/{proxy+}"),
    ] {
        let answer = http(method, &format!("{edge}{path}"), "");
        assert_eq!(answer.json()["routeKey"], route, "{method} {path}");
    }
    // A greedy route does not hide the gateway's own files.
    let script = http("GET", &format!("{edge}/app.js"), "");
    assert_eq!(
        script.header("content-type"),
        Some("text/javascript; charset=utf-8")
    );
    let url = format!("{}?token=alice", gateway.url("websocket"));
    connect_to(&url, &[]).await.unwrap();
}

#[tokio::test]
async fn function_timeout_is_error() {
    let gateway = Gateway::start_with(&[], |dir| {
        common::template(dir).replace("Timeout: 20", "Timeout: 1")
    });
    let hung = http("GET", &format!("{}/hang", gateway.url("api")), "");
    assert_eq!(
        (hung.status, hung.body.as_str()),
        (500, r#"{"message":"Internal Server Error"}"#)
    );
    let refused = gateway.try_connect("token=alice&hang=1", &[]).await;
    assert_eq!(common::handshake_status(refused), 502);
}

#[test]
fn instance_shortage_is_logged_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("said");
    let template = common::template(dir.path());
    fs::write(dir.path().join("template.yaml"), template).unwrap();
    let mut command = common::command(dir.path());
    command
        .args(["--max-instances", "1"])
        .stderr(fs::File::create(&path).unwrap());
    let gateway = Gateway::spawn(&mut command, dir);
    for _ in 0..4 {
        let url = format!("{}/hang", gateway.url("api"));
        // The answer may only come when the gateway ends, or never.
        std::thread::spawn(move || try_http("GET", &url, &[], b""));
    }
    let expected = "[fixture_function] invocations of Fixture wait because all its instances are busy; \
                    raise the limit with --max-instances";
    let said = eventually("the gateway logs the warning", || {
        let said = fs::read_to_string(&path).unwrap();
        said.contains(expected).then_some(said)
    });
    assert_eq!(said.matches("--max-instances").count(), 1, "{said}");
}

/// Returns the status of a POST to the HTTP API.
fn api_status(gateway: &Gateway, headers: &[(&str, &str)]) -> u16 {
    let url = format!("{}/x", gateway.url("api"));
    try_http("POST", &url, headers, b"").unwrap().status
}

#[tokio::test]
async fn foreign_origins_and_hosts_are_refused() {
    let gateway = Gateway::start(&[]);
    let status = |headers: &[(&str, &str)]| api_status(&gateway, headers);
    let own = gateway.url("edge");
    let host = own.strip_prefix("http://").unwrap();
    assert_eq!(status(&[]), 201);
    assert_eq!(status(&[("Origin", own)]), 201);
    assert_eq!(status(&[("Host", "localhost:8080")]), 201);
    // Also pages of other ports of this machine.
    let beside = gateway.url("lambda");
    for origin in [
        "https://example.com",
        "null",
        "http://localhost:3000",
        beside,
    ] {
        assert_eq!(status(&[("Origin", origin)]), 403, "{origin}");
    }
    assert_eq!(status(&[("Sec-Fetch-Site", "cross-site")]), 403);
    assert_eq!(status(&[("Host", "example.com")]), 403);
    for twice in [
        [("Host", host), ("Host", "example.com")],
        [("Origin", own), ("Origin", "https://example.com")],
    ] {
        assert_eq!(status(&twice), 400, "{twice:?}");
    }
}

#[tokio::test]
async fn allowed_origin_gets_cors_headers() {
    let origin = "http://localhost:3000";
    let gateway = Gateway::start(&["--allow-origin", origin]);
    let url = format!("{}/x", gateway.url("api"));
    let from = |method: &str, more: &[(&str, &str)]| {
        let headers = [&[("Origin", origin)], more].concat();
        try_http(method, &url, &headers, b"").unwrap()
    };
    let asked = from("OPTIONS", &[("Access-Control-Request-Method", "PUT")]);
    assert_eq!(asked.status, 204);
    assert!(
        asked
            .header("access-control-allow-methods")
            .unwrap()
            .contains("PUT")
    );
    for answer in [asked, from("POST", &[])] {
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
    }
    assert_eq!(from("POST", &[]).status, 201);
    let other = [("Origin", "http://localhost:3001")];
    assert_eq!(api_status(&gateway, &other), 403);
}

#[test]
fn host_beyond_loopback_keeps_checks() {
    let dir = tempfile::tempdir().unwrap();
    let said = dir.path().join("said");
    let template = common::template(dir.path());
    fs::write(dir.path().join("template.yaml"), template).unwrap();
    let mut command = common::command(dir.path());
    command
        .args(["--host", "0.0.0.0", "--allow-host", "dev.example"])
        .stderr(fs::File::create(&said).unwrap());
    let gateway = Gateway::spawn(&mut command, dir);
    let status = |headers: &[(&str, &str)]| api_status(&gateway, headers);
    assert_eq!(status(&[]), 201);
    for host in ["dev.example:8080", "10.0.0.1:8080"] {
        assert_eq!(status(&[("Host", host)]), 201, "{host}");
        let origin = format!("http://{host}");
        assert_eq!(status(&[("Host", host), ("Origin", &origin)]), 201);
        let foreign = ("Origin", "https://evil.example");
        assert_eq!(status(&[("Host", host), foreign]), 403, "{host}");
    }
    let evil = ("Host", "evil.example");
    assert_eq!(status(&[evil]), 403);
    assert_eq!(status(&[evil, ("Origin", "http://evil.example")]), 403);
    let said = fs::read_to_string(said).unwrap();
    assert!(said.contains("warning: --host 0.0.0.0"), "{said}");
}

#[tokio::test]
async fn page_opened_elsewhere_is_marked() {
    let gateway = Gateway::start(&[]);
    let is_marked = |site: &str| {
        let headers = [("Sec-Fetch-Site", site)];
        let page = try_http("GET", &format!("{}/", gateway.url("edge")), &headers, b"").unwrap();
        assert_eq!(page.header("cache-control"), Some("no-store"));
        page.body.contains("<html data-opened-by=\"another-site\" ")
    };
    for (site, expected) in [
        ("none", false),
        ("same-origin", false),
        ("same-site", true),
        ("cross-site", true),
    ] {
        assert_eq!(is_marked(site), expected, "{site}");
    }
}

/// Runs the gateway until it exits by itself. Returns its exit code and its standard error.
fn fails(dir: &std::path::Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = common::command(dir);
    let process = command
        .args(arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = process.wait_with_output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn failed_start_explains_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = fails(dir.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("template.yaml") && said.contains("--template"),
        "{said}"
    );

    fs::write(
        dir.path().join("template.yaml"),
        common::template(dir.path()),
    )
    .unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, said) = fails(dir.path(), &["--lambda-port", &port]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains(&port) && said.contains("--lambda-port"),
        "{said}"
    );

    let (code, said) = fails(dir.path(), &["--fault", "nonsense=1"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("throttle-post"), "{said}");

    let empty = tempfile::tempdir().unwrap();
    let functions = empty.path().to_str().unwrap();
    let template = dir.path().join("template.yaml");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_local-gateway"))
        .args(["--port", "0", "--functions", functions, "--template"])
        .arg(&template)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("fixture_function") && said.lines().count() == 1,
        "{said}"
    );
    assert!(!dir.path().join("ready.json").exists());
}
