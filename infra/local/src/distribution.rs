//! CloudFront: cache behaviours by path, viewer-request functions, and origins. Every origin is a part of the gateway.

mod event;
mod script;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;

use self::event::Verdict;
use self::script::Script;
use crate::function_url::FunctionUrl;
use crate::http_api::HttpApi;
use crate::lambda::Lambda;
use crate::server::{self, Answer};
use crate::template::{self, Template};
use crate::websocket::WebSockets;

/// A distribution in front of the gateway's parts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Distribution {
    behaviours: Arc<[Behaviour]>,
}

/// Why a distribution cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum DistributionError {
    /// A viewer-request function cannot be compiled.
    #[error("the viewer-request function of {pattern} cannot be run: {problem}")]
    Function {
        /// The path pattern.
        pattern: String,
        /// The engine's error.
        problem: String,
    },
    /// An origin is not a part of the gateway.
    #[error(
        "the origin {0} of the distribution is neither an API nor a function URL of the template"
    )]
    Elsewhere(String),
    /// An origin adds an invalid header.
    #[error("the origin {0} of the distribution adds an invalid header")]
    Header(String),
}

#[derive(Debug)]
struct Behaviour {
    pattern: String,
    methods: Vec<String>,
    script: Option<Script>,
    origin: Origin,
}

#[derive(Debug)]
struct Origin {
    part: Part,
    host: HeaderValue,
    path: String,
    headers: HeaderMap,
}

#[derive(Debug)]
enum Part {
    Stage(WebSockets),
    Function(FunctionUrl),
    Api(HttpApi),
}

impl Distribution {
    /// Creates the template's distribution in front of these parts. Returns `None` if the template has no distribution.
    ///
    /// # Errors
    /// Fails if a viewer-request function cannot be compiled, if an origin is not a part of the gateway, or if an
    /// origin adds an invalid header.
    pub fn new(
        template: &Template,
        sockets: Option<&WebSockets>,
        api: &HttpApi,
        lambda: &Lambda,
    ) -> Result<Option<Self>, DistributionError> {
        let Some(distribution) = &template.distribution else {
            return Ok(None);
        };
        let mut behaviours = Vec::new();
        for behaviour in &distribution.behaviours {
            let elsewhere = || DistributionError::Elsewhere(behaviour.origin.clone());
            let origin = distribution
                .origins
                .get(&behaviour.origin)
                .ok_or_else(elsewhere)?;
            let part =
                part(template, &origin.domain, sockets, api, lambda).ok_or_else(elsewhere)?;
            let source = behaviour.viewer_request.as_deref();
            let script = source.map(Script::compile).transpose();
            behaviours.push(Behaviour {
                pattern: behaviour.pattern.clone(),
                methods: behaviour.methods.clone(),
                script: script.map_err(|problem| DistributionError::Function {
                    pattern: behaviour.pattern.clone(),
                    problem,
                })?,
                origin: Origin::new(origin, part)
                    .ok_or_else(|| DistributionError::Header(behaviour.origin.clone()))?,
            });
        }
        Ok(Some(Self {
            behaviours: behaviours.into(),
        }))
    }

    /// Returns true if a WebSocket handshake at `path` reaches the WebSocket API.
    #[must_use]
    pub fn leads_to_stage(&self, path: &str) -> bool {
        let asked = Request::get(path)
            .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .body(());
        let behaviour = self.behaviour(path);
        behaviour.zip(asked.ok()).is_some_and(|(behaviour, asked)| {
            let (parts, ()) = asked.into_parts();
            let verdict = behaviour.verdict(parts, Ipv4Addr::LOCALHOST.into());
            matches!(verdict, Ok(Verdict::Forward(parts)) if behaviour.origin.is_stage_at(parts.uri.path()))
        })
    }

    /// Returns true if requests of this path reach the HTTP API.
    #[must_use]
    pub fn leads_to_api(&self, path: &str) -> bool {
        let behaviour = self.behaviour(path);
        behaviour.is_some_and(|behaviour| matches!(behaviour.origin.part, Part::Api(_)))
    }

    fn behaviour(&self, path: &str) -> Option<&Behaviour> {
        self.behaviours
            .iter()
            .find(|behaviour| matches(behaviour.pattern.as_bytes(), path.as_bytes()))
    }

    /// Answers a request.
    pub async fn answer(&self, request: Request<Incoming>, source: IpAddr) -> Answer {
        match self.behaviour(request.uri().path()) {
            Some(behaviour) => behaviour.answer(request, source).await,
            // Cannot occur: the default behaviour matches every path.
            None => server::empty(StatusCode::NOT_FOUND),
        }
    }
}

impl Behaviour {
    async fn answer(&self, request: Request<Incoming>, source: IpAddr) -> Answer {
        let (parts, body) = request.into_parts();
        if !self
            .methods
            .iter()
            .any(|method| method == parts.method.as_str())
        {
            return server::empty(StatusCode::FORBIDDEN);
        }
        match self.verdict(parts, source) {
            Ok(Verdict::Answer(answer)) => answer,
            Ok(Verdict::Forward(parts)) => {
                self.origin
                    .answer(Request::from_parts(*parts, body), source)
                    .await
            }
            Err(problem) => {
                tracing::warn!(
                    pattern = self.pattern,
                    problem,
                    "a viewer-request function failed"
                );
                // CloudFront answers with the same status if a function fails.
                server::empty(StatusCode::SERVICE_UNAVAILABLE)
            }
        }
    }

    /// Runs the viewer-request function on a request. Without one, the request is forwarded unchanged.
    fn verdict(&self, parts: Parts, source: IpAddr) -> Result<Verdict, String> {
        let Some(script) = &self.script else {
            return Ok(Verdict::Forward(Box::new(parts)));
        };
        let result = script.run(&event::encode(&parts, source))?;
        event::decode(&result, parts)
    }
}

impl Origin {
    /// Returns true if a request of this path reaches the stage of the WebSocket API.
    fn is_stage_at(&self, path: &str) -> bool {
        let path = format!("{}{path}", self.path);
        matches!(&self.part, Part::Stage(sockets) if sockets.is_at(&path))
    }

    fn new(origin: &template::Origin, part: Part) -> Option<Self> {
        let mut headers = HeaderMap::new();
        for (name, value) in &origin.headers {
            headers.insert(name.parse::<HeaderName>().ok()?, value.parse().ok()?);
        }
        Some(Self {
            part,
            host: origin.domain.parse().ok()?,
            path: origin.path.clone(),
            headers,
        })
    }

    async fn answer(&self, mut request: Request<Incoming>, source: IpAddr) -> Answer {
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        if !self.path.is_empty() {
            let path = format!("{}{}", self.path, request.uri().path());
            let Ok(uri) = event::uri(&path, request.uri().query()) else {
                return server::empty(StatusCode::BAD_REQUEST);
            };
            *request.uri_mut() = uri;
        }
        match &self.part {
            Part::Stage(sockets) if sockets.is_at(request.uri().path()) => {
                sockets.upgrade(request, source).await
            }
            Part::Stage(_) => forbidden(),
            Part::Function(url) => url.answer(request, source).await,
            Part::Api(api) => {
                let answer = api.answer(request, source).await;
                answer.unwrap_or_else(|| {
                    server::json(StatusCode::NOT_FOUND, r#"{"message":"Not Found"}"#)
                })
            }
        }
    }
}

fn forbidden() -> Answer {
    server::json(StatusCode::FORBIDDEN, r#"{"message":"Forbidden"}"#)
}

/// Returns the part of the gateway that has this host on AWS.
fn part(
    template: &Template,
    domain: &str,
    sockets: Option<&WebSockets>,
    api: &HttpApi,
    lambda: &Lambda,
) -> Option<Part> {
    let id = domain.split('.').next()?;
    if let Some((sockets, _)) = sockets
        .zip(template.web_socket.as_ref())
        .filter(|(_, api)| api.api_id == id)
    {
        return Some(Part::Stage(sockets.clone()));
    }
    if template.http_routes.iter().any(|route| route.api_id == id) {
        return Some(Part::Api(api.clone()));
    }
    template.functions.values().find_map(|function| {
        let url = template.function_url(&function.id);
        let is_it = url.strip_prefix("https://")?.strip_suffix('/')? == domain;
        let mode = function.url.filter(|_| is_it)?;
        Some(Part::Function(FunctionUrl::new(
            function.id.clone(),
            mode,
            lambda,
        )))
    })
}

/// Returns true if the path matches the pattern. `*` matches any number of characters, `?` exactly one.
fn matches(pattern: &[u8], path: &[u8]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            (0..=path.len()).any(|from| path.get(from..).is_some_and(|path| matches(rest, path)))
        }
        ([b'?', pattern @ ..], [_, path @ ..]) => matches(pattern, path),
        ([wanted, pattern @ ..], [found, path @ ..]) => wanted == found && matches(pattern, path),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_stars_and_question_marks() {
        for (pattern, path, expected) in [
            ("*", "/anything", true),
            ("*/websocket", "/messaging/websocket", true),
            ("*/websocket", "/messaging/0/a/websocket", true),
            ("*/websocket", "/messaging/websocket/", false),
            ("*/websocket", "/messaging/Websocket", false),
            ("/a?c*", "/abcde", true),
            ("/a?c*", "/ac", false),
            ("/v1/*", "/v1/", true),
            ("/v1/*", "/v1", false),
        ] {
            let found = matches(pattern.as_bytes(), path.as_bytes());
            assert_eq!(found, expected, "{pattern} {path}");
        }
    }
}
