//! The client's request headers in events.

use std::net::IpAddr;

use http::{HeaderMap, header};

use super::event::Headers;
use crate::ids;

/// Headers of the upgrade that are absent from captured `$connect` events.
const HIDDEN: [&str; 6] = [
    "connection",
    "upgrade",
    "content-length",
    "x-forwarded-for",
    "x-forwarded-port",
    "x-forwarded-proto",
];

/// Returns the headers of an event: the client's and API Gateway's own.
#[must_use]
pub fn of_event(sent: &HeaderMap, domain_name: &str, source: IpAddr, now_ms: i64) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in sent {
        if !HIDDEN.contains(&name.as_str()) {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            headers
                .entry(canonical(name.as_str()))
                .or_default()
                .push(value);
        }
    }
    // A proxy's value stays at the front of the list, as API Gateway does with CloudFront's.
    let forwarded = match sent
        .get("x-forwarded-for")
        .and_then(|value| value.to_str().ok())
    {
        Some(before) => format!("{before}, {source}"),
        None => source.to_string(),
    };
    for (name, value) in [
        ("Host", domain_name.to_owned()),
        ("X-Forwarded-For", forwarded),
        ("X-Forwarded-Port", "443".to_owned()),
        ("X-Forwarded-Proto", "https".to_owned()),
    ] {
        headers.insert(name.to_owned(), vec![value]);
    }
    headers
        .entry("X-Amzn-Trace-Id".to_owned())
        .or_insert_with(|| vec![ids::trace_id(now_ms)]);
    headers
}

/// Returns the `User-Agent`, if the client sent one.
#[must_use]
pub fn user_agent(sent: &HeaderMap) -> Option<String> {
    let value = sent.get(header::USER_AGENT)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// Returns the spelling of browsers and captures. Names that are usually sent in lower case stay in lower case.
fn canonical(name: &str) -> String {
    match name {
        "x-api-key" | "priority" | "dnt" => return name.to_owned(),
        name if name.starts_with("sec-ch-") => return name.to_owned(),
        _ => {}
    }
    name.split('-')
        .map(|word| match word {
            "websocket" => "WebSocket".to_owned(),
            word => {
                let mut letters = word.chars();
                letters
                    .next()
                    .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
                    .unwrap_or_default()
            }
        })
        .collect::<Vec<_>>()
        .join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_captured_spelling() {
        for (sent, shown) in [
            ("host", "Host"),
            ("sec-websocket-key", "Sec-WebSocket-Key"),
            ("sec-websocket-protocol", "Sec-WebSocket-Protocol"),
            ("sec-fetch-site", "Sec-Fetch-Site"),
            ("user-agent", "User-Agent"),
            ("x-amzn-trace-id", "X-Amzn-Trace-Id"),
            ("x-api-key", "x-api-key"),
        ] {
            assert_eq!(canonical(sent), shown);
        }
    }

    #[test]
    fn upgrade_headers_replaced_by_gateway_headers() {
        let mut sent = HeaderMap::new();
        for (name, value) in [
            ("host", "localhost:3000"),
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
        ] {
            sent.append(name, value.parse().unwrap());
        }
        sent.append("x-tag", "a".parse().unwrap());
        sent.append("x-tag", "b".parse().unwrap());
        let headers = of_event(
            &sent,
            "127.0.0.1:3000",
            [10, 0, 0, 13].into(),
            1_645_556_857_902,
        );
        let names: Vec<_> = headers.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "Host",
                "Sec-WebSocket-Version",
                "X-Amzn-Trace-Id",
                "X-Forwarded-For",
                "X-Forwarded-Port",
                "X-Forwarded-Proto",
                "X-Tag"
            ]
        );
        assert_eq!(headers["Host"], ["127.0.0.1:3000"]);
        assert_eq!(headers["X-Forwarded-For"], ["10.0.0.13"]);
        assert_eq!(headers["X-Tag"], ["a", "b"]);
        assert!(user_agent(&sent).is_none());
    }
}
