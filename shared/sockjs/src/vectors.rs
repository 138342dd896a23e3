//! Tests the routing against the shared vectors, which other implementations are tested with too.

use alloc::{borrow::ToOwned as _, format, string::String};

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{
    Endpoint, Mount, Request, Route,
    fixed::{Response, response},
    headers::Asked,
    route,
};

const PREFIX: &str = "/deep/messaging";
const SOCKJS_URL: &str = "https://example.com/sockjs.js";

fn now() -> Timestamp {
    "2026-11-24T00:00:00Z".parse().unwrap()
}

#[test]
fn every_vector_has_expected_route() {
    let document: Value = serde_json::from_str(include_str!("../vectors/routes.json")).unwrap();
    let rows = document["rows"].as_array().unwrap();
    assert!(rows.len() > 150, "only {} rows", rows.len());
    for row in rows {
        if let Err(problem) = check(row) {
            panic!("{problem}\n{row}");
        }
    }
}

fn check(row: &Value) -> Result<(), String> {
    let none = Map::new();
    let settings = row["mount"].as_object().unwrap_or(&none);
    let is = |name: &str, default: bool| {
        settings
            .get(name)
            .map_or(default, |it| it.as_bool().unwrap())
    };
    let mount = Mount {
        prefix: PREFIX,
        websocket: is("websocket", true),
        legacy: is("legacy", false),
        cookies: is("cookies", false),
    };
    let etag = etag(&mount);
    let sent = row["headers"].as_object().unwrap_or(&none);
    let header = |name: &str| {
        let value = sent.get(name).map(|it| it.as_str().unwrap());
        value.map(|it| if it == "<etag>" { &etag } else { it })
    };
    let path = format!("{PREFIX}{}", row["path"].as_str().unwrap());
    let request = Request {
        method: row["method"].as_str().unwrap(),
        path: &path,
        upgrade: header("Sec-WebSocket-Key").is_some(),
    };
    let asked = Asked {
        origin: header("Origin"),
        request_headers: header("Access-Control-Request-Headers"),
        cookie: header("Cookie"),
        if_none_match: header("If-None-Match"),
    };
    let expect = &row["expect"];
    let route = route(&mount, &request);
    same("route", name(&route), expect["route"].as_str().unwrap())?;
    if let Route::Session {
        server, session, ..
    } = route
    {
        same("server", server, expect["server"].as_str().unwrap())?;
        same("session", session, expect["session"].as_str().unwrap())?;
    }
    match (
        response(&route, &mount, &asked, SOCKJS_URL, now()),
        expect["status"].as_u64(),
    ) {
        (None, None) => Ok(()),
        (Some(response), Some(status)) => {
            same("status", u64::from(response.status), status)?;
            check_answer(&response, expect, &etag)
        }
        (found, _) => Err(format!("answered with {found:?}")),
    }
}

fn check_answer(response: &Response, expect: &Value, etag: &str) -> Result<(), String> {
    for (name, value) in expect["headers"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap().replace("<etag>", etag);
        same(name, found(response, name), Some(value.as_str()))?;
    }
    for name in expect["present"].as_array().into_iter().flatten() {
        if found(response, name.as_str().unwrap()).is_none_or(str::is_empty) {
            return Err(format!("{name} is missing"));
        }
    }
    for name in expect["absent"].as_array().into_iter().flatten() {
        same("header", found(response, name.as_str().unwrap()), None)?;
    }
    if let Some(body) = expect["body"].as_str() {
        same("body", response.body.as_str(), body)?;
    }
    Ok(())
}

fn etag(mount: &Mount<'_>) -> String {
    let page = response(&Route::Iframe, mount, &Asked::default(), SOCKJS_URL, now()).unwrap();
    assert!(
        page.body
            .contains(r#"<script src="https://example.com/sockjs.js"></script>"#)
    );
    found(&page, "ETag").unwrap().to_owned()
}

fn found<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    let header = response.headers.iter().find(|(it, _)| *it == name);
    header.map(|(_, value)| value.as_str())
}

fn same<T: PartialEq + core::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: {found:?} instead of {expected:?}"))
    }
}

fn name(route: &Route<'_>) -> &'static str {
    match route {
        Route::Greeting => "greeting",
        Route::Iframe => "iframe",
        Route::Info => "info",
        Route::RawWebsocket => "raw-websocket",
        Route::Session { endpoint, .. } => match endpoint {
            Endpoint::Websocket => "websocket",
            Endpoint::Xhr => "xhr",
            Endpoint::XhrStreaming => "xhr-streaming",
            Endpoint::XhrSend => "xhr-send",
            Endpoint::Eventsource => "eventsource",
            Endpoint::Htmlfile => "htmlfile",
            Endpoint::Jsonp => "jsonp",
            Endpoint::JsonpSend => "jsonp-send",
        },
        Route::Preflight { .. } => "preflight",
        Route::NoUpgrade => "no-upgrade",
        Route::NotAllowed { .. } => "not-allowed",
        Route::NotFound => "not-found",
    }
}

#[test]
fn mount_matches_whole_segment() {
    let mount = Mount {
        prefix: "/echo",
        websocket: true,
        legacy: false,
        cookies: false,
    };
    for (path, is_there) in [
        ("/echo", true),
        ("/echo/", true),
        ("/echoes", false),
        ("/echo2/info", false),
        ("/ech", false),
        ("/x/echo", false),
        ("//echo", false),
        ("", false),
    ] {
        let request = Request {
            method: "GET",
            path,
            upgrade: false,
        };
        let found = route(&mount, &request) != Route::NotFound;
        assert_eq!(found, is_there, "{path}");
    }
}
