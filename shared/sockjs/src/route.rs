//! The routing of paths and methods below a mount.

/// A path prefix at which SockJS is served, with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// The prefix of all paths: empty, or with a leading slash and without a trailing one.
    pub prefix: &'a str,
    /// True if WebSockets are enabled.
    pub websocket: bool,
    /// True if the transports of obsolete browsers are enabled: iframe, htmlfile, jsonp.
    pub legacy: bool,
    /// True if responses set the cookie `JSESSIONID` for load balancers.
    pub cookies: bool,
}

/// The parts of a request that decide its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The method in capital letters.
    pub method: &'a str,
    /// The path as it was sent, neither decoded nor normalised, without the query.
    pub path: &'a str,
    /// True if the request asks for an upgrade to a WebSocket.
    pub upgrade: bool,
}

/// An endpoint of a session: the last segment of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A SockJS-framed WebSocket.
    Websocket,
    /// Polling: one frame per request.
    Xhr,
    /// Streaming: many frames in one response.
    XhrStreaming,
    /// Messages from the client.
    XhrSend,
    /// Server-sent events.
    Eventsource,
    /// Script elements in an endless page (legacy).
    Htmlfile,
    /// Polling with script elements (legacy).
    Jsonp,
    /// Messages from the client, sent with a form (legacy).
    JsonpSend,
}

impl Endpoint {
    /// Every endpoint.
    pub const ALL: [Self; 8] = [
        Self::Websocket,
        Self::Xhr,
        Self::XhrStreaming,
        Self::XhrSend,
        Self::Eventsource,
        Self::Htmlfile,
        Self::Jsonp,
        Self::JsonpSend,
    ];

    /// Returns the last segment of the path.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Websocket => "websocket",
            Self::Xhr => "xhr",
            Self::XhrStreaming => "xhr_streaming",
            Self::XhrSend => "xhr_send",
            Self::Eventsource => "eventsource",
            Self::Htmlfile => "htmlfile",
            Self::Jsonp => "jsonp",
            Self::JsonpSend => "jsonp_send",
        }
    }

    const fn is_enabled(self, mount: &Mount<'_>) -> bool {
        match self {
            Self::Websocket => mount.websocket,
            Self::Htmlfile | Self::Jsonp | Self::JsonpSend => mount.legacy,
            Self::Xhr | Self::XhrStreaming | Self::XhrSend | Self::Eventsource => true,
        }
    }

    /// Returns the supported methods in the form of an `Allow` header.
    #[must_use]
    pub const fn methods(self) -> &'static str {
        match self {
            Self::Websocket | Self::Eventsource | Self::Htmlfile | Self::Jsonp => "GET",
            Self::Xhr | Self::XhrStreaming | Self::XhrSend => "OPTIONS, POST",
            Self::JsonpSend => "POST",
        }
    }
}

/// The route of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    Greeting,
    /// The page for a hidden iframe (legacy).
    Iframe,
    /// The capabilities of the server.
    Info,
    /// A WebSocket without SockJS frames.
    RawWebsocket,
    /// An endpoint of a session.
    Session {
        /// For load balancers. It has no meaning here.
        server: &'a str,
        /// The session id as in the path.
        session: &'a str,
        endpoint: Endpoint,
    },
    /// A CORS preflight, answered with 204.
    Preflight {
        /// The allowed methods.
        methods: &'static str,
        /// True if the path is an endpoint of a session.
        session: bool,
    },
    /// The path of a WebSocket without an upgrade, answered with 400.
    NoUpgrade,
    /// A known path with an unsupported method, answered with 405.
    NotAllowed {
        /// The allowed methods.
        methods: &'static str,
        /// True if the path is an endpoint of a session.
        session: bool,
    },
    /// An unknown path, answered with 404.
    NotFound,
}

/// Returns the route of a request.
#[must_use]
pub fn route<'a>(mount: &Mount<'_>, request: &Request<'a>) -> Route<'a> {
    let Some((found, methods)) = request
        .path
        .strip_prefix(mount.prefix)
        .and_then(|below| resolve(mount, below))
    else {
        return Route::NotFound;
    };
    let is_session = matches!(found, Route::Session { .. });
    if !methods.split(", ").any(|it| it == request.method) {
        return Route::NotAllowed {
            methods,
            session: is_session,
        };
    }
    match found {
        _ if request.method == "OPTIONS" => Route::Preflight {
            methods,
            session: is_session,
        },
        Route::RawWebsocket
        | Route::Session {
            endpoint: Endpoint::Websocket,
            ..
        } if !request.upgrade => Route::NoUpgrade,
        found => found,
    }
}

/// Returns the route of a path below the mount, and the methods that it supports.
fn resolve<'a>(mount: &Mount<'_>, below: &'a str) -> Option<(Route<'a>, &'static str)> {
    if below.is_empty() {
        return Some((Route::Greeting, "GET"));
    }
    let path = below.strip_prefix('/')?;
    match path {
        "" => return Some((Route::Greeting, "GET")),
        "info" => return Some((Route::Info, "OPTIONS, GET")),
        "websocket" => return mount.websocket.then_some((Route::RawWebsocket, "GET")),
        page if is_iframe(page) => return mount.legacy.then_some((Route::Iframe, "GET")),
        _ => {}
    }
    // All other paths are `/{server}/{session}/{endpoint}`.
    let mut segments = path.split('/');
    let (Some(server), Some(session), Some(last), None) = (
        segments.next(),
        segments.next(),
        segments.next(),
        segments.next(),
    ) else {
        return None;
    };
    let endpoint = Endpoint::ALL.into_iter().find(|it| it.name() == last)?;
    let is_id = |segment: &str| !segment.is_empty() && !segment.contains('.');
    (is_id(server) && is_id(session) && endpoint.is_enabled(mount)).then_some((
        Route::Session {
            server,
            session,
            endpoint,
        },
        endpoint.methods(),
    ))
}

/// Returns true for `iframe.html`, and for the same name with a version before the dot.
fn is_iframe(page: &str) -> bool {
    page.strip_prefix("iframe")
        .and_then(|rest| rest.strip_suffix(".html"))
        .is_some_and(|version| {
            version
                .bytes()
                .all(|it| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_'))
        })
}
