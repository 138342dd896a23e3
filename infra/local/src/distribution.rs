//! CloudFront: behaviours by path, the functions of viewer requests, and the origins, which are the gateway's own parts.

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

/// A distribution in front of the gateway's parts; cheap to clone.
#[derive(Clone, Debug)]
pub struct Distribution {
    behaviours: Arc<[Behaviour]>,
}

/// Why a distribution cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum DistributionError {
    /// Its function cannot be compiled.
    #[error("the viewer-request function of {pattern} cannot be run: {problem}")]
    Function {
        /// The path pattern.
        pattern: String,
        /// What the engine says.
        problem: String,
    },
    /// It leads somewhere else.
    #[error(
        "the origin {0} of the distribution is neither an API nor a function URL of the template"
    )]
    Elsewhere(String),
    /// What it adds to requests is no header.
    #[error("the origin {0} of the distribution adds a header that is none")]
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
    /// The template's distribution, if it has one, in front of these parts.
    ///
    /// # Errors
    /// When its function cannot be compiled or an origin is none of the parts.
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

    /// Whether who asks for a WebSocket at `path` gets to the WebSocket API.
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

    fn behaviour(&self, path: &str) -> Option<&Behaviour> {
        self.behaviours
            .iter()
            .find(|behaviour| matches(behaviour.pattern.as_bytes(), path.as_bytes()))
    }

    /// Answers a request.
    pub async fn answer(&self, request: Request<Incoming>, source: IpAddr) -> Answer {
        match self.behaviour(request.uri().path()) {
            Some(behaviour) => behaviour.answer(request, source).await,
            // The default takes every path.
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
                // As CloudFront answers for a function that fails.
                server::empty(StatusCode::SERVICE_UNAVAILABLE)
            }
        }
    }

    /// What its viewer-request function makes of a request; without one it goes on as it is.
    fn verdict(&self, parts: Parts, source: IpAddr) -> Result<Verdict, String> {
        let Some(script) = &self.script else {
            return Ok(Verdict::Forward(Box::new(parts)));
        };
        let result = script.run(&event::encode(&parts, source))?;
        event::decode(&result, parts)
    }
}

impl Origin {
    /// Whether it is the WebSocket API's stage for a request of this path.
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

/// The part of the gateway that has this host on AWS.
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

/// Whether a path has the pattern: `*` is any number of characters, `?` is one.
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
    fn patterns_have_stars_and_question_marks() {
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
