//! The headers that several answers share.

use alloc::{borrow::ToOwned as _, format, string::String, vec::Vec};

/// Headers of a response, in order.
pub type Headers = Vec<(&'static str, String)>;

/// The `Cache-Control` of what must never be kept: the one string that the protocol's suite takes.
pub const NO_CACHE: &str = "no-store, no-cache, no-transform, must-revalidate, max-age=0";
/// The `Cache-Control` of what never changes.
pub const CACHED: &str = "public, max-age=31536000";
/// A year in seconds: how long what never changes is kept.
pub const YEAR_SECONDS: i64 = 31_536_000;

/// Text, as the greeting and answers to `xhr_send` are.
pub const TEXT: &str = "text/plain; charset=UTF-8";
/// JSON, as `info` is.
pub const JSON: &str = "application/json; charset=UTF-8";
/// Pages.
pub const HTML: &str = "text/html; charset=UTF-8";
/// What polling and streaming are.
pub const JAVASCRIPT: &str = "application/javascript; charset=UTF-8";
/// Server-sent events; without a character set.
pub const EVENT_STREAM: &str = "text/event-stream";

/// What of a request the shared headers depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    /// `Origin`.
    pub origin: Option<&'a str>,
    /// `Access-Control-Request-Headers`.
    pub request_headers: Option<&'a str>,
    /// `Cookie`.
    pub cookie: Option<&'a str>,
    /// `If-None-Match`.
    pub if_none_match: Option<&'a str>,
}

/// Lets a page of the origin that asks read the answer, and send credentials. Whether that origin may is the caller's
/// business.
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

/// Keep it for a year.
#[must_use]
pub fn cached(now: jiff::Timestamp) -> Headers {
    let expires = now.saturating_add(jiff::SignedDuration::from_secs(YEAR_SECONDS));
    let mut date = String::new();
    if let Ok(expires) = expires {
        // A string takes everything, and a year from now has four digits.
        let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
        let _ = printer.print_timestamp_rfc9110(&expires, &mut date);
    }
    alloc::vec![("Cache-Control", CACHED.to_owned()), ("Expires", date)]
}

/// The `Set-Cookie` by which a load balancer keeps a session at one server: the request's own `JSESSIONID`, or one that
/// means nothing.
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

/// RFC 6265, 4.1.1.
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
    fn an_origin_is_echoed_even_null() {
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
    fn what_is_cached_expires_in_a_year() {
        let now = "2026-11-24T08:09:10Z".parse().unwrap();
        let headers = cached(now);
        assert_eq!(
            header(&headers, "Expires").as_deref(),
            Some("Wed, 24 Nov 2027 08:09:10 GMT")
        );
    }

    #[test]
    fn a_cookie_is_given_back_and_nothing_else_comes_with_it() {
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
