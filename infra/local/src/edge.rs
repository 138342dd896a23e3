//! The public port: the console page, the HTTP API, and the distribution with SockJS, all under one address.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;

use crate::distribution::Distribution;
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
    /// True if only this machine can connect. Pages of other sites are then refused, because the API is open.
    pub loopback: bool,
}

impl Edge {
    /// Answers a request to the public port.
    pub async fn answer(&self, request: Request<Incoming>, source: IpAddr) -> Answer {
        if self.loopback && server::is_rebound(request.headers()) {
            return problem(
                StatusCode::FORBIDDEN,
                "This address answers only requests for localhost or a loopback address. Use --host for other addresses.",
            );
        }
        // Routes that name the path take precedence over everything else on this port.
        let path = request.uri().path();
        if template::is_under_v1(path) || self.is_of_a_route(request.method(), path) {
            return self.api(request, source).await;
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match (path, &self.distribution, &self.sockets) {
            ("/" | "/index.html", ..) if reads => asset("text/html; charset=utf-8", PAGE),
            ("/app.js", ..) if reads => asset("text/javascript; charset=utf-8", SCRIPT),
            ("/protocol.js", ..) if reads => asset("text/javascript; charset=utf-8", PROTOCOL),
            ("/style.css", ..) if reads => asset("text/css; charset=utf-8", STYLE),
            // This is the content type of Prometheus's text format.
            ("/metrics", ..) if reads => server::with_type(
                StatusCode::OK,
                "text/plain; version=0.0.4",
                self.metrics.text(),
            ),
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
        if self.loopback && is_from_another_site(request.headers()) {
            return problem(
                StatusCode::FORBIDDEN,
                "Pages of other sites may not use this API, because it is open to this machine.",
            );
        }
        self.api
            .answer(request, source)
            .await
            .unwrap_or_else(nothing_here)
    }
}

fn is_from_another_site(headers: &HeaderMap) -> bool {
    headers.get(header::ORIGIN).is_some_and(|origin| {
        let authority = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"));
        !authority.is_some_and(|(_, authority)| server::is_loopback_authority(authority))
    })
}

fn asset(content_type: &'static str, content: &'static str) -> Answer {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_header_identifies_other_sites() {
        let check = |origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, origin.parse().unwrap());
            is_from_another_site(&headers)
        };
        assert!(!is_from_another_site(&HeaderMap::new()));
        assert!(!check("http://127.0.0.1:8080"));
        assert!(!check("http://localhost:3000"));
        assert!(check("https://example.com"));
        assert!(check("http://localhost.example.com"));
        assert!(check("null"));
    }
}
