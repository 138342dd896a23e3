//! The public port: the console page, the HTTP API and, behind the distribution, SockJS under one address.

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

/// Where the raw WebSocket is.
pub const WEBSOCKET: &str = "/messaging/websocket";

/// What stands behind the public port; cheap to clone.
#[derive(Clone, Debug)]
pub struct Edge {
    /// What stands in front of everything but the page and the HTTP API, if the template has it.
    pub distribution: Option<Distribution>,
    /// The WebSocket API, if the template has one.
    pub sockets: Option<WebSockets>,
    /// The HTTP API.
    pub api: HttpApi,
    /// What the functions measured.
    pub metrics: Metrics,
    /// Whether only this machine can connect. Then pages of other sites are kept out, since the API is open.
    pub loopback: bool,
}

impl Edge {
    /// Answers a request to the public port.
    pub async fn answer(&self, request: Request<Incoming>, source: IpAddr) -> Answer {
        if self.loopback && server::is_rebound(request.headers()) {
            return problem(
                StatusCode::FORBIDDEN,
                "This address answers only as localhost or a loopback address; see --host for others.",
            );
        }
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
            // The type is Prometheus's text format.
            ("/metrics", ..) if reads => server::with_type(
                StatusCode::OK,
                "text/plain; version=0.0.4",
                self.metrics.text(),
            ),
            (_, Some(distribution), _) => distribution.answer(request, source).await,
            (WEBSOCKET, None, Some(sockets)) => sockets.upgrade(request, source).await,
            // What no other place is for may have a route that takes what is left.
            _ => self.api(request, source).await,
        }
    }

    /// Where there is a distribution, it says which paths the HTTP API has.
    fn is_of_a_route(&self, method: &Method, path: &str) -> bool {
        self.distribution.is_none() && self.api.names(method, path)
    }

    async fn api(&self, request: Request<Incoming>, source: IpAddr) -> Answer {
        if self.loopback && is_from_another_site(request.headers()) {
            return problem(
                StatusCode::FORBIDDEN,
                "Pages of other sites may not use this API, which is open to this machine.",
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
        "No route of the template's takes this. The console is at /.",
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
    fn other_sites_are_known_by_their_origin() {
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
