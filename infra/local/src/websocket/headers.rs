//! The client's request headers as events show them.

use std::net::IpAddr;

use http::{HeaderMap, header};

use super::event::Headers;
use crate::ids;

/// Headers of the upgrade that captures of `$connect` events do not show.
const HIDDEN: [&str; 6] = [
    "connection",
    "upgrade",
    "content-length",
    "x-forwarded-for",
    "x-forwarded-port",
    "x-forwarded-proto",
];

/// The headers of an event: the client's, with API Gateway's own.
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
    // A proxy in between is shown as API Gateway shows CloudFront: at the front of the list.
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

/// The `User-Agent`, if one was sent.
#[must_use]
pub fn user_agent(sent: &HeaderMap) -> Option<String> {
    let value = sent.get(header::USER_AGENT)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The spelling that browsers use and captures show. Names that are customarily sent in lower case stay so.
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
    fn names_are_spelled_as_captured() {
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
    fn the_upgrade_is_hidden_and_the_gateways_own_are_added() {
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
