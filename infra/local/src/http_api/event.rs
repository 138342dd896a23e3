//! The event of an HTTP API or function URL, payload format 2.0, with exactly the captured keys.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{header, request::Parts};
use serde::Serialize;

use crate::{ids, query};

/// The target of a request.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) account: &'static str,
    pub(crate) api_id: &'a str,
    pub(crate) stage: &'a str,
    pub(crate) route_key: &'a str,
    pub(crate) path: &'a str,
    pub(crate) parameters: &'a BTreeMap<String, String>,
}

/// Returns the event for a request.
pub(crate) fn encode(target: &Target<'_>, parts: &Parts, body: &Bytes, source: IpAddr) -> Bytes {
    let now_ms = ids::now_ms();
    let header = |name| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let domain_name = header(header::HOST).unwrap_or_default();
    let source = source.to_string();
    let (text, is_base64_encoded) = body_text(header(header::CONTENT_TYPE), body);
    let event = Event {
        version: "2.0",
        route_key: target.route_key,
        raw_path: target.path,
        raw_query_string: parts.uri.query().unwrap_or_default(),
        cookies: cookies(parts),
        headers: headers(parts, body.len(), &source, now_ms),
        query_string_parameters: query::parse(parts.uri.query().unwrap_or_default())
            .into_iter()
            .map(|(name, values)| (name, values.join(",")))
            .collect(),
        request_context: RequestContext {
            account_id: target.account,
            api_id: target.api_id,
            domain_name,
            domain_prefix: domain_name.split(['.', ':']).next().unwrap_or_default(),
            http: Http {
                method: parts.method.as_str(),
                path: target.path,
                protocol: "HTTP/1.1",
                source_ip: &source,
                user_agent: header(header::USER_AGENT).unwrap_or_default(),
            },
            request_id: ids::id(),
            route_key: target.route_key,
            stage: target.stage,
            time: ids::request_time(now_ms),
            time_epoch: now_ms,
        },
        body: text,
        path_parameters: target.parameters,
        is_base64_encoded,
    };
    #[expect(
        clippy::expect_used,
        reason = "the maps have string keys and no value can fail to serialize"
    )]
    serde_json::to_vec(&event)
        .expect("an event is plain data")
        .into()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: &'static str,
    route_key: &'a str,
    raw_path: &'a str,
    raw_query_string: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<String>,
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_string_parameters: BTreeMap<String, String>,
    request_context: RequestContext<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    path_parameters: &'a BTreeMap<String, String>,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    account_id: &'static str,
    api_id: &'a str,
    domain_name: &'a str,
    domain_prefix: &'a str,
    http: Http<'a>,
    request_id: String,
    route_key: &'a str,
    stage: &'a str,
    time: String,
    time_epoch: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Http<'a> {
    method: &'a str,
    path: &'a str,
    protocol: &'static str,
    source_ip: &'a str,
    user_agent: &'a str,
}

/// Returns the headers with names in lower case and several values joined by commas. Cookies are separate in the event.
/// The body is complete, so `content-length` is always present and `transfer-encoding` never.
fn headers(parts: &Parts, length: usize, source: &str, now_ms: i64) -> BTreeMap<String, String> {
    let left_out = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::COOKIE,
        header::TRANSFER_ENCODING,
    ];
    let mut headers = BTreeMap::<String, String>::new();
    for (name, value) in &parts.headers {
        if !left_out.contains(name) {
            let value = String::from_utf8_lossy(value.as_bytes());
            headers
                .entry(name.as_str().to_owned())
                .and_modify(|before| {
                    before.push(',');
                    before.push_str(&value);
                })
                .or_insert_with(|| value.into_owned());
        }
    }
    for (name, value) in [
        ("content-length", length.to_string().as_str()),
        ("x-amzn-trace-id", ids::trace_id(now_ms).as_str()),
        ("x-forwarded-port", "443"),
        ("x-forwarded-proto", "https"),
    ] {
        headers
            .entry(name.to_owned())
            .or_insert_with(|| value.to_owned());
    }
    // Keep the client's own claim, and append the known address.
    headers
        .entry("x-forwarded-for".to_owned())
        .and_modify(|before| {
            before.push_str(", ");
            before.push_str(source);
        })
        .or_insert_with(|| source.to_owned());
    headers
}

fn cookies(parts: &Parts) -> Vec<String> {
    let sent = parts.headers.get_all(header::COOKIE).iter();
    sent.filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .map(|cookie| cookie.trim().to_owned())
        .filter(|cookie| !cookie.is_empty())
        .collect()
}

/// Returns the body as text if its type is a text type and it is valid UTF-8, else as base64.
fn body_text(content_type: Option<&str>, body: &Bytes) -> (Option<String>, bool) {
    if body.is_empty() {
        return (None, false);
    }
    let kind = content_type
        .and_then(|kind| kind.split(';').next())
        .unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    let is_text = kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || [
            "application/json",
            "application/xml",
            "application/javascript",
        ]
        .contains(&kind.as_str());
    match std::str::from_utf8(body) {
        Ok(text) if is_text => (Some(text.to_owned()), false),
        _ => (Some(STANDARD.encode(body)), true),
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
