//! Compares events of viewer-request functions with the documentation's example, and tests their results.

use http::Request;
use serde_json::{Value, json};

use super::*;

fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::get(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

#[test]
fn event_matches_documentation() {
    let sent = parts(
        "/media/a%20b//c?ID=42&NoValue=&querymv=val1&querymv=val2,val3&flag",
        &[
            ("host", "video.example.com"),
            ("accept", "text/html"),
            ("accept", "application/xhtml+xml"),
            ("cookie", "cookie1=value1; cookie2=a"),
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
        ],
    );
    let event: Value = serde_json::from_str(&encode(&sent, [1, 2, 3, 4].into())).unwrap();
    assert_eq!(event["version"], "1.0");
    assert_eq!(event["context"]["eventType"], "viewer-request");
    assert_eq!(event["viewer"], json!({"ip": "1.2.3.4"}));
    assert_eq!(
        event["request"],
        json!({
            "method": "GET",
            "uri": "/media/a%20b//c",
            "querystring": {
                "ID": {"value": "42"},
                "NoValue": {"value": ""},
                "querymv": {"value": "val1", "multiValue": [{"value": "val1"}, {"value": "val2,val3"}]},
                "flag": {"value": ""},
            },
            "headers": {
                "host": {"value": "video.example.com"},
                "accept": {"value": "text/html", "multiValue": [{"value": "text/html"}, {"value": "application/xhtml+xml"}]},
            },
            "cookies": {"cookie1": {"value": "value1"}, "cookie2": {"value": "a"}},
        })
    );
}

fn forwarded(result: &Value, parts: Parts) -> Parts {
    match decode(&result.to_string(), parts).unwrap() {
        Verdict::Forward(parts) => *parts,
        Verdict::Answer(answer) => panic!("{answer:?}"),
    }
}

#[test]
fn function_result_changes_request() {
    let sent = || {
        parts(
            "/a?x=1&flag",
            &[("a", "1"), ("b", "2"), ("upgrade", "websocket")],
        )
    };
    let same = json!({
        "request": {"uri": "/a", "headers": {"a": {"value": "1"}, "b": {"value": "2"}}, "cookies": {}},
        "query": null,
    });
    let parts = forwarded(&same, sent());
    assert_eq!(parts.uri, "/a?x=1&flag", "untouched");
    assert_eq!(parts.headers, sent().headers);

    let changed = json!({
        "request": {"uri": "/", "headers": {"a": {"value": "3"}, "c": {"value": "4"}}, "cookies": {}},
        "query": [["x", "1"], ["flag", ""], ["y", "%20"]],
    });
    let parts = forwarded(&changed, sent());
    assert_eq!(parts.uri, "/?x=1&flag=&y=%20");
    let values: Vec<_> = ["a", "b", "c", "upgrade"]
        .map(|name| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
        })
        .into();
    assert_eq!(values, [Some("3"), None, Some("4"), Some("websocket")]);
}

#[test]
fn response_has_only_function_output() {
    let result = json!({"response": {
        "statusCode": 405,
        "headers": {"allow": {"value": "GET"}},
        "cookies": {"a": {"value": "1", "attributes": "path=/"}, "b": {"value": "2"}},
    }});
    let Verdict::Answer(answer) = decode(&result.to_string(), parts("/", &[])).unwrap() else {
        panic!("the result should be a response");
    };
    assert_eq!(answer.status(), 405);
    assert!(!answer.headers().contains_key(header::CONTENT_TYPE));
    let cookies: Vec<_> = answer
        .headers()
        .get_all(header::SET_COOKIE)
        .iter()
        .collect();
    assert_eq!(cookies, ["a=1; path=/", "b=2"]);
}

#[tokio::test]
async fn body_is_text_or_base64() {
    for body in [
        json!("hi"),
        json!({"encoding": "text", "data": "hi"}),
        json!({"encoding": "base64", "data": "aGk="}),
    ] {
        let result = json!({"response": {"statusCode": 200, "body": body}}).to_string();
        let Verdict::Answer(mut answer) = decode(&result, parts("/", &[])).unwrap() else {
            panic!("the result should be a response");
        };
        assert_eq!(answer.body_mut().next().await.unwrap().unwrap(), "hi");
    }
}

#[test]
fn invalid_result_is_error() {
    for result in [
        json!({}),
        json!({"response": {"statusCode": 1}}),
        json!({"response": {"statusCode": 200, "body": {"encoding": "x", "data": ""}}}),
        json!({"request": {"uri": "no path", "headers": {}, "cookies": {}}}),
        json!({"request": {"uri": "/", "headers": {}, "cookies": {"a": {"value": "new"}}}}),
    ] {
        assert!(
            decode(&result.to_string(), parts("/", &[])).is_err(),
            "{result}"
        );
    }
}
