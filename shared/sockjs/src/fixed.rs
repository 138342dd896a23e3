//! Responses that depend on the request alone.

use alloc::{borrow::ToOwned as _, format, string::String, vec, vec::Vec};
use core::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::{
    headers::{Asked, HTML, Headers, TEXT, YEAR_SECONDS, cached, cors, session_cookie},
    route::{Mount, Route},
};

/// A complete response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// The headers. If they have no `Content-Type`, the response must be sent without one.
    pub headers: Headers,
    pub body: String,
}

/// The body of the greeting.
pub const GREETING: &str = "Welcome to SockJS!\n";

/// Returns the response to a request, or `None` if the response needs a session or fresh randomness.
///
/// `sockjs_url` is the URL from which the page in the iframe loads the SockJS client. Its version must be the one that
/// opened the iframe.
#[must_use]
pub fn response(
    route: &Route<'_>,
    mount: &Mount<'_>,
    asked: &Asked<'_>,
    sockjs_url: &str,
    now: jiff::Timestamp,
) -> Option<Response> {
    let mut response = match route {
        Route::Greeting => text(200, GREETING),
        Route::Iframe => iframe(asked, sockjs_url, now),
        Route::Preflight { methods, .. } => preflight(methods, asked, now),
        Route::NoUpgrade => text(400, "This is only for WebSockets.\n"),
        Route::NotAllowed { methods, .. } => Response {
            status: 405,
            headers: vec![("Allow", (*methods).to_owned())],
            body: String::new(),
        },
        Route::NotFound => text(404, "There is nothing here.\n"),
        Route::Info | Route::RawWebsocket | Route::Session { .. } => return None,
    };
    let of_session = matches!(
        route,
        Route::Preflight { session: true, .. } | Route::NotAllowed { session: true, .. }
    );
    if mount.cookies && of_session {
        response.headers.push(session_cookie(asked));
    }
    Some(response)
}

fn text(status: u16, body: &str) -> Response {
    Response {
        status,
        headers: vec![("Content-Type", TEXT.to_owned())],
        body: body.to_owned(),
    }
}

fn preflight(methods: &str, asked: &Asked<'_>, now: jiff::Timestamp) -> Response {
    let mut headers = cached(now);
    headers.push(("Access-Control-Max-Age", format!("{YEAR_SECONDS}")));
    headers.push(("Access-Control-Allow-Methods", methods.to_owned()));
    headers.extend(cors(asked));
    Response {
        status: 204,
        headers,
        body: String::new(),
    }
}

fn iframe(asked: &Asked<'_>, sockjs_url: &str, now: jiff::Timestamp) -> Response {
    let page = page(sockjs_url);
    let tag = tag(&page);
    let mut headers: Vec<_> = cached(now);
    headers.push(("ETag", tag.clone()));
    if asked.if_none_match == Some(tag.as_str()) {
        return Response {
            status: 304,
            headers,
            body: String::new(),
        };
    }
    headers.push(("Content-Type", HTML.to_owned()));
    Response {
        status: 200,
        headers,
        body: page,
    }
}

/// Returns a strong validator, which is always the same for the same page.
fn tag(page: &str) -> String {
    let digest = Sha256::digest(page);
    let mut tag = String::from("\"");
    for byte in digest.iter().take(16) {
        // Writing to a string cannot fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    tag
}

/// Returns the page for the hidden iframe, which the protocol prescribes.
fn page(sockjs_url: &str) -> String {
    format!(
        r#"<!DOCTYPE html>
<html>
<head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
  <script src="{sockjs_url}"></script>
  <script>
    document.domain = document.domain;
    SockJS.bootstrap_iframe();
  </script>
</head>
<body>
  <h2>Don't panic!</h2>
  <p>This is a SockJS hidden iframe. It's used for cross domain magic.</p>
</body>
</html>"#
    )
}
