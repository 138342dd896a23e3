//! The event of a viewer-request function, and its result.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};

use crate::ids;
use crate::server::{self, Answer};

/// Headers that functions do not see (CloudFront developer guide, restrictions on edge functions). Cookies are
/// separate.
const HIDDEN: [HeaderName; 3] = [header::CONNECTION, header::COOKIE, header::UPGRADE];

/// The value of a header, a cookie or a query parameter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    value: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    multi_value: Vec<Self>,
    #[serde(default, skip_serializing)]
    attributes: Option<String>,
}

type Items = BTreeMap<String, Item>;

#[derive(Serialize)]
struct Event<'a> {
    version: &'static str,
    context: Context,
    viewer: Viewer,
    request: Request<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Context {
    distribution_domain_name: &'static str,
    distribution_id: &'static str,
    event_type: &'static str,
    request_id: String,
}

#[derive(Serialize)]
struct Viewer {
    ip: IpAddr,
}

#[derive(Serialize)]
struct Request<'a> {
    method: &'a str,
    uri: &'a str,
    querystring: Items,
    headers: Items,
    cookies: Items,
}

/// Returns the event for a request, as JSON.
pub(super) fn encode(parts: &Parts, ip: IpAddr) -> String {
    let query = parts.uri.query().unwrap_or_default();
    let event = Event {
        version: "1.0",
        context: Context {
            distribution_domain_name: "local.cloudfront.net",
            distribution_id: "LOCAL",
            event_type: "viewer-request",
            request_id: ids::id(),
        },
        viewer: Viewer { ip },
        request: Request {
            method: parts.method.as_str(),
            uri: parts.uri.path(),
            querystring: items(
                query
                    .split('&')
                    .filter(|pair| !pair.is_empty())
                    .map(|pair| pair.split_once('=').unwrap_or((pair, ""))),
            ),
            headers: headers(&parts.headers),
            cookies: cookies(&parts.headers),
        },
    };
    #[expect(
        clippy::expect_used,
        reason = "the maps have string keys and no value can fail to serialize"
    )]
    serde_json::to_string(&event).expect("an event is plain data")
}

fn headers(sent: &HeaderMap) -> Items {
    let shown = sent.iter().filter(|(name, _)| !HIDDEN.contains(name));
    items(shown.map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default())))
}

fn cookies(sent: &HeaderMap) -> Items {
    let values = sent.get_all(header::COOKIE).iter();
    items(
        values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('=')),
    )
}

/// Returns each name with its first value, and with all values if there are several.
fn items<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Items {
    let mut items = Items::new();
    for (name, value) in pairs {
        let one = Item {
            value: value.to_owned(),
            ..Item::default()
        };
        match items.get_mut(name) {
            None => {
                items.insert(name.to_owned(), one);
            }
            Some(item) => {
                if item.multi_value.is_empty() {
                    item.multi_value.push(item.clone());
                }
                item.multi_value.push(one);
            }
        }
    }
    items
}

/// The decision of a viewer-request function about a request.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The request is forwarded with these parts.
    Forward(Box<Parts>),
    /// The function answers the request itself.
    Answer(Answer),
}

#[derive(Deserialize)]
struct Outcome {
    response: Option<Response>,
    request: Option<Changed>,
    query: Option<Vec<(String, String)>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    status_code: u16,
    #[serde(default)]
    headers: Items,
    #[serde(default)]
    cookies: Items,
    #[serde(default)]
    body: Option<Body>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Body {
    Text(String),
    Encoded { encoding: String, data: String },
}

#[derive(Deserialize)]
struct Changed {
    uri: String,
    headers: Items,
    cookies: Items,
}

/// Applies the function's result to the request.
pub(super) fn decode(result: &str, parts: Parts) -> Result<Verdict, String> {
    let outcome: Outcome = serde_json::from_str(result).map_err(|error| error.to_string())?;
    if let Some(response) = outcome.response {
        return answer(response).map(Verdict::Answer);
    }
    let changed = outcome.request.ok_or("the result has no request")?;
    change(parts, changed, outcome.query).map(|parts| Verdict::Forward(Box::new(parts)))
}

fn answer(response: Response) -> Result<Answer, String> {
    let status = StatusCode::from_u16(response.status_code).map_err(|error| error.to_string())?;
    let body = match response.body {
        None => Bytes::new(),
        Some(Body::Text(text)) => text.into(),
        Some(Body::Encoded { encoding, data }) => match encoding.as_str() {
            "text" => data.into(),
            "base64" => STANDARD
                .decode(data)
                .map_err(|error| error.to_string())?
                .into(),
            other => return Err(format!("the body encoding `{other}` is not supported")),
        },
    };
    let mut answer = server::empty(status);
    *answer.body_mut() = body.into();
    let headers = answer.headers_mut();
    for (name, item) in &response.headers {
        insert(headers, name, item)?;
    }
    for (name, cookie) in &response.cookies {
        let attributes = cookie.attributes.as_deref().unwrap_or_default();
        let separator = if attributes.is_empty() { "" } else { "; " };
        let text = format!("{name}={}{separator}{attributes}", cookie.value);
        headers.append(header::SET_COOKIE, value(&text)?);
    }
    Ok(answer)
}

fn change(
    mut parts: Parts,
    changed: Changed,
    query: Option<Vec<(String, String)>>,
) -> Result<Parts, String> {
    if changed.cookies != cookies(&parts.headers) {
        return Err("the local gateway does not support changed cookies".to_owned());
    }
    let query = match query {
        None => parts.uri.query().map(str::to_owned),
        Some(pairs) => {
            let pairs: Vec<_> = pairs
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            Some(pairs.join("&")).filter(|query| !query.is_empty())
        }
    };
    parts.uri = uri(&changed.uri, query.as_deref())?;
    let before = headers(&parts.headers);
    for name in before
        .keys()
        .filter(|name| !changed.headers.contains_key(*name))
    {
        parts.headers.remove(name);
    }
    for (name, item) in &changed.headers {
        if before.get(name) != Some(item) {
            insert(&mut parts.headers, name, item)?;
        }
    }
    Ok(parts)
}

/// Returns a URI that has only a path and a query.
pub(super) fn uri(path: &str, query: Option<&str>) -> Result<Uri, String> {
    let text = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let text: PathAndQuery = text.parse().map_err(|error| format!("{text}: {error}"))?;
    Ok(text.into())
}

fn insert(headers: &mut HeaderMap, name: &str, item: &Item) -> Result<(), String> {
    let name: HeaderName = name.parse().map_err(|error| format!("{name}: {error}"))?;
    headers.remove(&name);
    let values = match item.multi_value.as_slice() {
        [] => std::slice::from_ref(item),
        values => values,
    };
    for item in values {
        headers.append(&name, value(&item.value)?);
    }
    Ok(())
}

fn value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
