//! The public port: the console page, the HTTP API, and the distribution with SockJS, all under one address.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;

use crate::distribution::Distribution;
use crate::guard::{self, Guard, Refusal};
use crate::http_api::HttpApi;
use crate::metrics::Metrics;
use crate::server::{self, Answer};
use crate::template;
use crate::websocket::WebSockets;

const PAGE: &str = include_str!("../console/index.html");
const SCRIPT: &str = include_str!("../console/app.js");
const PROTOCOL: &str = include_str!("../console/protocol.js");
const STYLE: &str = include_str!("../console/style.css");

/// The path of the raw WebSocket.
pub const WEBSOCKET: &str = "/messaging/websocket";

/// Serves the public port. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Edge {
    /// Serves every path except the console page and the HTTP API, if the template has a distribution.
    pub distribution: Option<Distribution>,
    /// The WebSocket API, if the template has one.
    pub sockets: Option<WebSockets>,
    pub api: HttpApi,
    /// The functions' metrics.
    pub metrics: Metrics,
    /// Refuses other hosts, and pages of other origins at the HTTP API.
    pub guard: Guard,
}

impl Edge {
    /// Answers a request to the public port.
    pub async fn answer(&self, request: Request<Incoming>, source: IpAddr) -> Answer {
        if let Err(refusal) = self.guard.check_host(request.headers()) {
            return refused(refusal);
        }
        // Routes that name the path take precedence over everything else on this port.
        let path = request.uri().path();
        if template::is_under_v1(path) || self.is_of_a_route(request.method(), path) {
            return self.api(request, source).await;
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match (path, &self.distribution, &self.sockets) {
            ("/" | "/index.html", ..) if reads => page(request.headers()),
            ("/app.js", ..) if reads => asset("text/javascript; charset=utf-8", SCRIPT),
            ("/protocol.js", ..) if reads => asset("text/javascript; charset=utf-8", PROTOCOL),
            ("/style.css", ..) if reads => asset("text/css; charset=utf-8", STYLE),
            // This is the content type of Prometheus's text format.
            ("/metrics", ..) if reads => server::with_type(
                StatusCode::OK,
                "text/plain; version=0.0.4",
                self.metrics.text(),
            ),
            (_, Some(distribution), _) if distribution.leads_to_api(path) => {
                self.guarded(request, |request| distribution.answer(request, source))
                    .await
            }
            (_, Some(distribution), _) => distribution.answer(request, source).await,
            (WEBSOCKET, None, Some(sockets)) => sockets.upgrade(request, source).await,
            // The HTTP API may have a catch-all route for the remaining paths.
            _ => self.api(request, source).await,
        }
    }

    /// Returns true if a route of the HTTP API names this path and there is no distribution. A distribution decides
    /// itself which paths reach the HTTP API.
    fn is_of_a_route(&self, method: &Method, path: &str) -> bool {
        self.distribution.is_none() && self.api.names(method, path)
    }

    async fn api(&self, request: Request<Incoming>, source: IpAddr) -> Answer {
        self.guarded(request, |request| async move {
            let answer = self.api.answer(request, source).await;
            answer.unwrap_or_else(nothing_here)
        })
        .await
    }

    /// Answers a request to the HTTP API with `answer`, unless a page of another origin sent it. Pages of allowed origins
    /// get CORS headers.
    async fn guarded<F: Future<Output = Answer>>(
        &self,
        request: Request<Incoming>,
        answer: impl FnOnce(Request<Incoming>) -> F,
    ) -> Answer {
        let origin = match self.guard.check_origin(request.headers()) {
            Ok(origin) => origin,
            Err(refusal) => return refused(refusal),
        };
        let Some(origin) = origin else {
            return answer(request).await;
        };
        let asks_first = request.method() == Method::OPTIONS
            && request
                .headers()
                .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let mut answer = if asks_first {
            preflight()
        } else {
            answer(request).await
        };
        let headers = answer.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        answer
    }
}

/// Returns the answer to a preflight request of an allowed origin.
fn preflight() -> Answer {
    let mut answer = server::empty(StatusCode::NO_CONTENT);
    for (name, value) in [
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "GET, HEAD, POST, PUT, PATCH, DELETE",
        ),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ] {
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn refused(refusal: Refusal) -> Answer {
    problem(StatusCode::FORBIDDEN, &refusal.to_string())
}

/// Returns the console page. It is marked if a page of another origin opened it, because that page may have chosen the
/// fragment, which can sign in and join a channel.
fn page(headers: &HeaderMap) -> Answer {
    let is_marked = guard::is_from_another_site(headers);
    let content = if is_marked {
        PAGE.replacen("<html", "<html data-opened-by=\"another-site\"", 1)
            .into()
    } else {
        Bytes::from_static(PAGE.as_bytes())
    };
    let mut answer = asset("text/html; charset=utf-8", content);
    // A copy in a cache may have the other mark.
    let no_store = HeaderValue::from_static("no-store");
    answer.headers_mut().insert(header::CACHE_CONTROL, no_store);
    answer
}

fn asset(content_type: &'static str, content: impl Into<Bytes>) -> Answer {
    let mut answer = server::with_type(StatusCode::OK, content_type, content);
    for (name, value) in [
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn nothing_here() -> Answer {
    problem(
        StatusCode::NOT_FOUND,
        "No route of the template matches this request. The console is at /.",
    )
}

/// An RFC 9457 problem document.
fn problem(status: StatusCode, detail: &str) -> Answer {
    let title = status.canonical_reason().unwrap_or_default();
    let body = serde_json::json!({
        "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail,
    });
    server::with_type(status, "application/problem+json", body.to_string())
}
