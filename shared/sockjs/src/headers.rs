//! Headers that several responses share.

use alloc::{borrow::ToOwned as _, format, string::String, vec::Vec};

/// Headers of a response, in order.
pub type Headers = Vec<(&'static str, String)>;

/// The `Cache-Control` of responses that must not be cached. The protocol's test suite accepts only this string.
pub const NO_CACHE: &str = "no-store, no-cache, no-transform, must-revalidate, max-age=0";
/// The `Cache-Control` of responses that never change.
pub const CACHED: &str = "public, max-age=31536000";
/// A year in seconds: the cache lifetime of responses that never change.
pub const YEAR_SECONDS: i64 = 31_536_000;

/// The `Content-Type` of the greeting and of the responses to `xhr_send`.
pub const TEXT: &str = "text/plain; charset=UTF-8";
/// The `Content-Type` of `info`.
pub const JSON: &str = "application/json; charset=UTF-8";
/// The `Content-Type` of HTML pages.
pub const HTML: &str = "text/html; charset=UTF-8";
/// The `Content-Type` of polling and XHR streaming.
pub const JAVASCRIPT: &str = "application/javascript; charset=UTF-8";
/// The `Content-Type` of server-sent events. It has no character set.
pub const EVENT_STREAM: &str = "text/event-stream";

/// The request headers on which the shared response headers depend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    pub origin: Option<&'a str>,
    /// `Access-Control-Request-Headers`
    pub request_headers: Option<&'a str>,
    pub cookie: Option<&'a str>,
    pub if_none_match: Option<&'a str>,
}

/// Returns the headers that let a page of the requesting origin read the response and send credentials.
///
/// The caller must have checked that this origin is allowed.
#[must_use]
pub fn cors(asked: &Asked<'_>) -> Headers {
    let mut headers = Vec::with_capacity(4);
    match asked.origin {
        Some(origin) => {
            headers.push(("Access-Control-Allow-Origin", origin.to_owned()));
            headers.push(("Access-Control-Allow-Credentials", "true".to_owned()));
        }
        None => headers.push(("Access-Control-Allow-Origin", "*".to_owned())),
    }
    headers.push(("Vary", "Origin".to_owned()));
    if let Some(names) = asked.request_headers.filter(|it| !it.is_empty()) {
        headers.push(("Access-Control-Allow-Headers", names.to_owned()));
    }
    headers
}

/// Returns the headers that let caches keep a response for a year.
#[must_use]
pub fn cached(now: jiff::Timestamp) -> Headers {
    let expires = now.saturating_add(jiff::SignedDuration::from_secs(YEAR_SECONDS));
    let mut date = String::new();
    if let Ok(expires) = expires {
        // This cannot fail: writing to a string never fails, and the year has four digits.
        let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
        let _ = printer.print_timestamp_rfc9110(&expires, &mut date);
    }
    alloc::vec![("Cache-Control", CACHED.to_owned()), ("Expires", date)]
}

/// Returns the `Set-Cookie` header by which a load balancer keeps a session on one server.
///
/// It repeats the `JSESSIONID` of the request, or sets it to `dummy`.
#[must_use]
pub fn session_cookie(asked: &Asked<'_>) -> (&'static str, String) {
    let value = asked
        .cookie
        .into_iter()
        .flat_map(|cookies| cookies.split(';'))
        .find_map(|cookie| cookie.trim().strip_prefix("JSESSIONID="))
        .filter(|value| value.bytes().all(is_cookie_octet))
        .unwrap_or("dummy");
    ("Set-Cookie", format!("JSESSIONID={value}; path=/"))
}

/// Returns true for a cookie octet (RFC 6265, 4.1.1).
fn is_cookie_octet(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn header(headers: &Headers, name: &str) -> Option<String> {
        let found = headers.iter().find(|(it, _)| *it == name);
        found.map(|(_, value)| value.clone())
    }

    #[test]
    fn origin_is_echoed_even_null() {
        for origin in ["https://a.example", "null"] {
            let headers = cors(&Asked {
                origin: Some(origin),
                request_headers: Some("X-A,  b"),
                ..Asked::default()
            });
            assert_eq!(
                headers,
                vec![
                    ("Access-Control-Allow-Origin", origin.to_owned()),
                    ("Access-Control-Allow-Credentials", "true".to_owned()),
                    ("Vary", "Origin".to_owned()),
                    ("Access-Control-Allow-Headers", "X-A,  b".to_owned()),
                ]
            );
        }
        let headers = cors(&Asked {
            request_headers: Some(""),
            ..Asked::default()
        });
        assert_eq!(
            header(&headers, "Access-Control-Allow-Origin").as_deref(),
            Some("*")
        );
        assert_eq!(header(&headers, "Access-Control-Allow-Credentials"), None);
        assert_eq!(header(&headers, "Access-Control-Allow-Headers"), None);
    }

    #[test]
    fn cached_response_expires_in_one_year() {
        let now = "2026-11-24T08:09:10Z".parse().unwrap();
        let headers = cached(now);
        assert_eq!(
            header(&headers, "Expires").as_deref(),
            Some("Wed, 24 Nov 2027 08:09:10 GMT")
        );
    }

    #[test]
    fn session_cookie_is_returned_alone() {
        for (cookie, value) in [
            (None, "dummy"),
            (Some("a=b"), "dummy"),
            (Some("a=b; JSESSIONID=abc; c=d"), "abc"),
            (Some("XJSESSIONID=abc"), "dummy"),
            (Some("JSESSIONID=a\r\nX: y"), "dummy"),
        ] {
            let asked = Asked {
                cookie,
                ..Asked::default()
            };
            assert_eq!(
                session_cookie(&asked).1,
                format!("JSESSIONID={value}; path=/")
            );
        }
    }
}
