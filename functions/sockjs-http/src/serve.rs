//! Routes every request, and adds the headers that all responses share.

use core::time::Duration;
use std::{rc::Rc, time::SystemTime};

use futures::FutureExt as _;
use lambda::HttpEvent;
use protocol::RequestId;
use service::ports::{Environment, Fault, SessionKey, Sessions};
use sockjs::{
    Endpoint, Mount, Request, Route, fixed,
    headers::{self, Asked, Headers, JSON, NO_CACHE, TEXT},
    route,
    transport::{Callback, Receiver},
};

use crate::{
    app::App,
    output::{self, Answer},
    settings::{Settings, Site},
};

/// SockJS's HTTP transports over an app, its sessions and an environment.
#[derive(Debug)]
pub struct Transports<A, S, E> {
    /// Handles the messages.
    pub app: A,
    pub sessions: S,
    /// Time and randomness.
    pub environment: E,
    pub site: Site,
}

/// A request that is being handled.
pub(crate) struct Asking<'a> {
    pub(crate) event: &'a HttpEvent,
    pub(crate) request: &'a RequestId,
    pub(crate) settings: &'a Settings,
    pub(crate) shared: Headers,
}

impl Asking<'_> {
    /// Returns a response with a text body.
    pub(crate) fn text(&self, status: u16, body: impl Into<String>) -> Answer {
        let mut headers = self.shared.clone();
        headers.push(("Content-Type", TEXT.to_owned()));
        output::whole(status, headers, body.into())
    }

    /// Returns the response to an invalid token, with the CORS headers that let the page read it.
    pub(crate) fn unauthorized(&self) -> Answer {
        self.text(401, "Unauthorized")
    }

    pub(crate) fn typed(&self, content_type: &str) -> Headers {
        let mut headers = self.shared.clone();
        headers.push(("Content-Type", content_type.to_owned()));
        headers
    }
}

impl<A: App + 'static, S: Sessions + 'static, E: Environment + 'static> Transports<A, S, E> {
    /// Answers a request. The body may continue on the same thread after this has returned, so the caller must run it within
    /// a [`LocalSet`](tokio::task::LocalSet).
    ///
    /// # Cost
    /// `info` costs one authentication of the app. For requests for frames and requests with messages see the table of
    /// sessions in `store`.
    pub async fn answer(self: Rc<Self>, event: HttpEvent, request: RequestId) -> Answer {
        // Refuse requests that bypass the edge, have an unknown path, or come from a foreign origin.
        let secret = self.site.secret.as_deref();
        if secret.is_some_and(|secret| event.header("x-origin-secret") != Some(secret)) {
            return output::whole(403, Headers::new(), "Forbidden\n".to_owned());
        }
        let Some(settings) = self.site.at(event.path()) else {
            return output::whole(404, plain(), "There is nothing here.\n".to_owned());
        };
        let origin = event.header("origin");
        if !self.site.origins.allow(origin) {
            return output::whole(403, plain(), "Origin not allowed.\n".to_owned());
        }
        let cookie = event.cookie();
        let asked = Asked {
            origin,
            request_headers: event.header("access-control-request-headers"),
            cookie: cookie.as_deref().or_else(|| event.header("cookie")),
            if_none_match: event.header("if-none-match"),
        };
        let mount = settings.mount();
        let to = route(
            &mount,
            &Request {
                method: event.method(),
                path: event.path(),
                upgrade: event.header("sec-websocket-key").is_some(),
            },
        );
        // Some responses depend only on the request: the greeting, the iframe page, CORS preflights and errors.
        if let Some(fixed) = fixed::response(&to, &mount, &asked, &settings.client_url, now()) {
            return output::fixed(fixed);
        }
        let asking = Asking {
            event: &event,
            request: &request,
            settings,
            shared: shared(&mount, &to, &asked),
        };
        // Boxed because the future is deeply nested, which would slow down compilation of the function's entry.
        match self.session_or_info(&asking, &to).boxed_local().await {
            Ok(answer) => answer,
            Err(fault) => {
                tracing::error!(%fault, "request failed");
                asking.text(503, "Try again.\n")
            }
        }
    }

    async fn session_or_info(
        self: &Rc<Self>,
        asking: &Asking<'_>,
        to: &Route<'_>,
    ) -> Result<Answer, Fault> {
        let Route::Session {
            session, endpoint, ..
        } = to
        else {
            return self.info(asking).await;
        };
        let receiver = match endpoint {
            Endpoint::Xhr => Receiver::Xhr,
            Endpoint::XhrStreaming => Receiver::XhrStreaming,
            Endpoint::Eventsource => Receiver::Eventsource,
            Endpoint::Htmlfile | Endpoint::Jsonp => {
                match Callback::from_query(asking.event.raw_query()) {
                    Ok(callback) if *endpoint == Endpoint::Jsonp => Receiver::Jsonp(callback),
                    Ok(callback) => Receiver::Htmlfile(callback),
                    Err(error) => return Ok(asking.text(500, error.to_string())),
                }
            }
            // The edge sends WebSocket handshakes to the WebSocket API, so they normally do not reach this function.
            Endpoint::Websocket => return Ok(asking.text(400, "WebSockets only.\n")),
            Endpoint::XhrSend | Endpoint::JsonpSend => {
                return self.send(asking, session, *endpoint).await;
            }
        };
        let Some(token) = self.app.token(asking.event).await? else {
            return Ok(asking.unauthorized());
        };
        let key = SessionKey::of(&token, session);
        self.receive(asking, key, token, receiver).await
    }

    /// Answers `info`, which lists the server's features.
    async fn info(&self, asking: &Asking<'_>) -> Result<Answer, Fault> {
        if self.app.identity(asking.event).await?.is_none() {
            return Ok(asking.unauthorized());
        }
        let info = serde_json::json!({
            "websocket": asking.settings.websocket,
            "origins": ["*:*"],
            "cookie_needed": asking.settings.cookies,
            "entropy": self.entropy(),
        });
        Ok(output::whole(200, asking.typed(JSON), info.to_string()))
    }

    /// Returns 32 random bits: the first ones of a fresh id.
    fn entropy(&self) -> u32 {
        let id = self.environment.fresh_id();
        let first = id.get(..8).unwrap_or_default();
        u32::from_str_radix(first, 16).unwrap_or_default()
    }
}

/// Returns the headers of every response about a session and of `info`.
fn shared(mount: &Mount<'_>, to: &Route<'_>, asked: &Asked<'_>) -> Headers {
    let mut headers = headers::cors(asked);
    headers.push(("Cache-Control", NO_CACHE.to_owned()));
    let endpoint = match to {
        Route::Session { endpoint, .. } => Some(*endpoint),
        _ => None,
    };
    if endpoint == Some(Endpoint::Jsonp) {
        headers.push(("X-Content-Type-Options", "nosniff".to_owned()));
    }
    if mount.cookies && endpoint.is_some() {
        headers.push(headers::session_cookie(asked));
    }
    headers
}

fn plain() -> Headers {
    vec![("Content-Type", TEXT.to_owned())]
}

fn now() -> jiff::Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or(Duration::ZERO).as_secs();
    jiff::Timestamp::from_second(i64::try_from(since).unwrap_or(0)).unwrap_or_default()
}
