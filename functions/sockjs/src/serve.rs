//! Every request: where it goes, and what is the same for all of them.

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

/// SockJS's HTTP transports over an app, its sessions and its surroundings.
#[derive(Debug)]
pub struct Transports<A, S, E> {
    /// What answers the messages.
    pub app: A,
    /// The sessions.
    pub sessions: S,
    /// Time and randomness.
    pub environment: E,
    /// What is served.
    pub site: Site,
}

/// A request on its way.
pub(crate) struct Asking<'a> {
    pub(crate) event: &'a HttpEvent,
    pub(crate) request: &'a RequestId,
    pub(crate) settings: &'a Settings,
    pub(crate) shared: Headers,
}

impl Asking<'_> {
    /// An answer of this status with a text.
    pub(crate) fn text(&self, status: u16, body: impl Into<String>) -> Answer {
        let mut headers = self.shared.clone();
        headers.push(("Content-Type", TEXT.to_owned()));
        output::whole(status, headers, body.into())
    }

    /// What a refused token is answered: readable for the page that asked.
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
    /// Answers a request. The body may go on after this has returned, on the same thread: it has to be called within a
    /// [`LocalSet`](tokio::task::LocalSet).
    ///
    /// # Cost
    /// `info`: what the app's token costs. A request for frames and one with messages: see `store`'s table of the sessions.
    pub async fn answer(self: Rc<Self>, event: HttpEvent, request: RequestId) -> Answer {
        let secret = self.site.secret.as_deref();
        if secret.is_some_and(|secret| event.header("x-origin-secret") != Some(secret)) {
            return output::whole(403, Headers::new(), "Forbidden\n".to_owned());
        }
        let Some(settings) = self.site.at(event.path()) else {
            return output::whole(404, plain(), "There is nothing here.\n".to_owned());
        };
        let origin = event.header("origin");
        if !self.site.origins.allow(origin) {
            return output::whole(403, plain(), "This origin may not ask.\n".to_owned());
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
        if let Some(fixed) = fixed::response(&to, &mount, &asked, &settings.client_url, now()) {
            return output::fixed(fixed);
        }
        let asking = Asking {
            event: &event,
            request: &request,
            settings,
            shared: shared(&mount, &to, &asked),
        };
        // Boxed: it is a deep future, and the compiler need not look through it from a function's entry.
        match self.session_or_info(&asking, &to).boxed_local().await {
            Ok(answer) => answer,
            Err(fault) => {
                tracing::error!(%fault, "not served");
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
            // A WebSocket's request never comes here; if it does, it is for the WebSocket API.
            Endpoint::Websocket => return Ok(asking.text(400, "This is for WebSockets.\n")),
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

    /// What the server can do. A client takes its round-trip time for that of a transport.
    async fn info(&self, asking: &Asking<'_>) -> Result<Answer, Fault> {
        let begun = self.environment.now();
        if self.app.identity(asking.event).await?.is_none() {
            // At once: who has no token must not keep the function.
            return Ok(asking.unauthorized());
        }
        let took = begun.until(self.environment.now());
        let left = asking.settings.info_floor.saturating_sub(took);
        self.environment.sleep(left).await;
        let info = serde_json::json!({
            "websocket": asking.settings.websocket,
            "origins": ["*:*"],
            "cookie_needed": asking.settings.cookies,
            "entropy": self.entropy(),
        });
        Ok(output::whole(200, asking.typed(JSON), info.to_string()))
    }

    /// 32 random bits: the first of a fresh id are.
    fn entropy(&self) -> u32 {
        let id = self.environment.fresh_id();
        let first = id.get(..8).unwrap_or_default();
        u32::from_str_radix(first, 16).unwrap_or_default()
    }
}

/// What every answer about a session or of `info` has.
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
