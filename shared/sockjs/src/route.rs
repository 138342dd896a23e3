//! Which path and method below a mount mean what.

/// One place at which SockJS is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// What its paths begin with: empty, or with a slash at its beginning and none at its end.
    pub prefix: &'a str,
    /// Whether there are WebSockets.
    pub websocket: bool,
    /// Whether there are the transports of browsers that are no more: iframe, htmlfile, jsonp.
    pub legacy: bool,
    /// Whether load balancers get their cookie `JSESSIONID`.
    pub cookies: bool,
}

/// What of a request decides where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// The path as it was sent, neither decoded nor normalised, without the query.
    pub path: &'a str,
    /// Whether it asks to become a WebSocket.
    pub upgrade: bool,
}

/// What is at a path of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A framed WebSocket.
    Websocket,
    /// Polling: one frame a request.
    Xhr,
    /// Frames one after the other in one response.
    XhrStreaming,
    /// What the client sends.
    XhrSend,
    /// Server-sent events.
    Eventsource,
    /// Script elements in a page that never ends (legacy).
    Htmlfile,
    /// Polling by script elements (legacy).
    Jsonp,
    /// What the client sends by a form (legacy).
    JsonpSend,
}

impl Endpoint {
    /// Every one of them.
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

    /// The last segment of its path.
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

    const fn is_there(self, mount: &Mount<'_>) -> bool {
        match self {
            Self::Websocket => mount.websocket,
            Self::Htmlfile | Self::Jsonp | Self::JsonpSend => mount.legacy,
            Self::Xhr | Self::XhrStreaming | Self::XhrSend | Self::Eventsource => true,
        }
    }

    /// The methods that it answers, as in `Allow`.
    #[must_use]
    pub const fn methods(self) -> &'static str {
        match self {
            Self::Websocket | Self::Eventsource | Self::Htmlfile | Self::Jsonp => "GET",
            Self::Xhr | Self::XhrStreaming | Self::XhrSend => "OPTIONS, POST",
            Self::JsonpSend => "POST",
        }
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// The greeting.
    Greeting,
    /// The page for a hidden iframe (legacy).
    Iframe,
    /// What the server can do.
    Info,
    /// A WebSocket without frames.
    RawWebsocket,
    /// Something of a session.
    Session {
        /// For load balancers; means nothing here.
        server: &'a str,
        /// The session, as it stands in the path.
        session: &'a str,
        /// What of it.
        endpoint: Endpoint,
    },
    /// May a page of another origin ask? 204.
    Preflight {
        /// The methods that it may use.
        methods: &'static str,
        /// Whether it is about a session.
        session: bool,
    },
    /// A WebSocket's path without the upgrade: 400.
    NoUpgrade,
    /// There is something here, but not for this method: 405.
    NotAllowed {
        /// What there is.
        methods: &'static str,
        /// Whether it is something of a session.
        session: bool,
    },
    /// There is nothing here: 404.
    NotFound,
}

/// Where a request goes.
#[must_use]
pub fn route<'a>(mount: &Mount<'_>, request: &Request<'a>) -> Route<'a> {
    let Some((found, methods)) = request
        .path
        .strip_prefix(mount.prefix)
        .and_then(|below| place(mount, below))
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

/// What is at a path below the mount, and the methods that it answers.
fn place<'a>(mount: &Mount<'_>, below: &'a str) -> Option<(Route<'a>, &'static str)> {
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
    (is_id(server) && is_id(session) && endpoint.is_there(mount)).then_some((
        Route::Session {
            server,
            session,
            endpoint,
        },
        endpoint.methods(),
    ))
}

/// `iframe.html`, or with a version in between.
fn is_iframe(page: &str) -> bool {
    page.strip_prefix("iframe")
        .and_then(|rest| rest.strip_suffix(".html"))
        .is_some_and(|version| {
            version
                .bytes()
                .all(|it| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_'))
        })
}
