//! Compares events of payload format 2.0 with a captured one and with the documentation's example.

use http::Request;
use serde_json::{Value, json};

use bytes::Bytes;

use crate::template::HttpRoute;

fn event(request: http::request::Builder, path: &str, body: &'static str) -> Value {
    let route = HttpRoute {
        method: "ANY".to_owned(),
        path: path.to_owned(),
        function: "Function".to_owned(),
        api_id: "aaaaaaaaaa".to_owned(),
        stage: "$default".to_owned(),
    };
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let routes = [route];
    let path = super::super::route::decoded(parts.uri.path());
    let matched = super::super::route::find(&routes, &parts.method, &path).unwrap();
    let source = [1, 2, 3, 4].into();
    let event = super::super::event(&matched, &path, &parts, &Bytes::from(body), source);
    serde_json::from_slice(&event).unwrap()
}

#[test]
fn plain_request_matches_capture() {
    let mut captured: Value =
        serde_json::from_str(include_str!("../../tests/fixtures/http.json")).unwrap();
    let request = Request::get("/")
        .header("accept", "*/*")
        .header("content-length", "0")
        .header("host", "aaaaaaaaaa.execute-api.us-west-2.amazonaws.com")
        .header("user-agent", "curl/7.58.0");
    let built = event(request, "$default", "");
    // These values differ with each request.
    for pointer in [
        "/headers/x-amzn-trace-id",
        "/requestContext/requestId",
        "/requestContext/time",
    ] {
        let built = built.pointer(pointer).unwrap().as_str().unwrap();
        let slot = captured.pointer_mut(pointer).unwrap();
        assert_eq!(built.len(), slot.as_str().unwrap().len(), "{pointer}");
        *slot = built.into();
    }
    captured["requestContext"]["timeEpoch"] = built["requestContext"]["timeEpoch"].clone();
    assert_eq!(built, captured);
}

#[test]
fn event_shows_whole_request() {
    let request =
        Request::post("/v1/hello%20world/x?parameter1=value1&parameter1=value2&parameter2=a%20b")
            .header("host", "id.execute-api.us-east-1.amazonaws.com")
            .header("cookie", "cookie1; cookie2")
            .header("header2", "value1")
            .header("header2", "value2")
            .header("content-type", "application/json; charset=utf-8");
    let event = event(request, "/v1/{proxy+}", "{\"a\":1}");
    assert_eq!(event["version"], "2.0");
    assert_eq!(event["routeKey"], "ANY /v1/{proxy+}");
    assert_eq!(event["rawPath"], "/v1/hello world/x");
    assert_eq!(
        event["rawQueryString"],
        "parameter1=value1&parameter1=value2&parameter2=a%20b"
    );
    assert_eq!(
        event["queryStringParameters"],
        json!({"parameter1": "value1,value2", "parameter2": "a b"})
    );
    assert_eq!(event["cookies"], json!(["cookie1", "cookie2"]));
    assert_eq!(event["headers"]["header2"], "value1,value2");
    assert!(event["headers"].get("cookie").is_none());
    assert_eq!(event["pathParameters"], json!({"proxy": "hello world/x"}));
    assert_eq!(event["requestContext"]["domainPrefix"], "id");
    assert_eq!(event["requestContext"]["http"]["method"], "POST");
    assert_eq!(event["body"], "{\"a\":1}");
    assert_eq!(event["isBase64Encoded"], false);
}

#[test]
fn binary_body_is_base64() {
    let request = Request::post("/v1/x").header("content-type", "application/octet-stream");
    let event = event(request, "/v1/x", "abc");
    assert_eq!(event["body"], "YWJj");
    assert_eq!(event["isBase64Encoded"], true);
}

#[test]
fn chunked_body_has_length() {
    let request = Request::post("/x").header("transfer-encoding", "chunked");
    let headers = &event(request, "$default", "four")["headers"];
    assert_eq!(headers["content-length"], "4");
    assert!(headers.get("transfer-encoding").is_none());
}

#[test]
fn peer_is_appended_to_forwarded_for() {
    let forwarded = |request| event(request, "$default", "")["headers"]["x-forwarded-for"].clone();
    assert_eq!(forwarded(Request::get("/")), "1.2.3.4");
    let claimed = Request::get("/").header("x-forwarded-for", "5.6.7.8");
    assert_eq!(forwarded(claimed), "5.6.7.8, 1.2.3.4");
}
