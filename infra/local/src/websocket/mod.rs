//! The WebSocket API: handshakes, open connections, and the functions of its routes.

pub mod authorizer;
pub mod connection;
pub mod event;
pub mod frames;
pub mod handshake;
pub mod headers;
pub mod registry;
pub mod route;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use self::connection::{Lifetime, Socket};
use self::event::{Events, Moment, Peer, Place};
use self::handshake::Upgraded;
use self::registry::{Closing, Connection, Registry};
use crate::fault::{Faults, Kind};
use crate::ids;
use crate::lambda::{Invocation, Lambda};
use crate::template::WebSocketApi;

/// "Integration timeout: 50 milliseconds to 29 seconds for all integration types", API Gateway quotas page.
pub const INTEGRATION_TIMEOUT: Duration = Duration::from_secs(29);

/// The number of connection permits, more than one machine can hold. A shutdown acquires all of them to wait for the
/// last connection.
const MOST_CONNECTIONS: u32 = 1 << 24;

/// Options of the WebSocket API.
#[derive(Clone, Debug)]
pub struct Options {
    /// The API of the template.
    pub api: WebSocketApi,
    /// The region in ARNs.
    pub region: String,
    /// Host and port of the stage in events.
    pub domain_name: String,
    pub lifetime: Lifetime,
    /// True to dispatch a connection's messages one after the other instead of concurrently.
    pub in_order: bool,
    /// True to use the code and reason in the query of a DELETE for the close. API Gateway does not support this.
    pub close_reasons: bool,
    pub faults: Faults,
}

/// The WebSocket API. Cheap to clone.
#[derive(Clone, Debug)]
pub struct WebSockets {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    place: Place,
    lambda: Lambda,
    registry: Registry,
    /// One permit per connection, held until its `$disconnect` is done.
    living: Arc<Semaphore>,
}

impl WebSockets {
    /// Creates the WebSocket API with its functions in `lambda`.
    #[must_use]
    pub fn new(options: Options, lambda: Lambda) -> Self {
        let place = Place {
            api_id: options.api.api_id.clone(),
            stage: options.api.stage.clone(),
            domain_name: options.domain_name.clone(),
        };
        let most = usize::try_from(MOST_CONNECTIONS).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            inner: Arc::new(Inner {
                options,
                place,
                lambda,
                registry: Registry::default(),
                living: Arc::new(Semaphore::new(most)),
            }),
        }
    }

    /// Returns the id of the API.
    #[must_use]
    pub fn api_id(&self) -> &str {
        &self.inner.options.api.api_id
    }

    /// Returns the stage's name.
    #[must_use]
    pub fn stage(&self) -> &str {
        &self.inner.place.stage
    }

    /// Returns true if a DELETE may contain the code and reason of the close.
    #[must_use]
    pub fn takes_close_reasons(&self) -> bool {
        self.inner.options.close_reasons
    }

    /// Returns true if a path is that of the stage. "WebSocket APIs have no paths", only the stage itself.
    #[must_use]
    pub fn is_at(&self, path: &str) -> bool {
        let path = path.strip_prefix('/');
        path.is_some_and(|path| path.strip_suffix('/').unwrap_or(path) == self.stage())
    }

    /// Returns the open connections.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// Closes all connections and waits, at most `grace`, until their `$disconnect` is done.
    pub async fn shut_down(&self, grace: Duration) {
        self.registry()
            .close_all(&Closing::new(1012, "Service restart"));
        let all_gone = self.inner.living.acquire_many(MOST_CONNECTIONS);
        let _ = tokio::time::timeout(grace, all_gone).await;
    }

    fn events<'a>(&'a self, peer: &'a Peer) -> Events<'a> {
        Events {
            place: &self.inner.place,
            peer,
        }
    }

    /// Serves a connection from its 101 to its `$disconnect`.
    async fn live(&self, peer: Peer, upgraded: Result<Upgraded, hyper::Error>) {
        let living = Arc::clone(&self.inner.living).acquire_owned().await;
        let Ok(Upgraded { stream, early }) = upgraded else {
            let closing = Closing::new(1006, "");
            Box::pin(self.disconnected(&peer, &closing)).await;
            return;
        };
        let (connection, orders) = Connection::new(peer);
        self.registry().insert(Arc::clone(&connection));
        let mut socket = Socket::new(stream, early, Arc::clone(&connection), orders).await;

        let in_order = self.inner.options.in_order;
        let mut last: Option<JoinHandle<()>> = None;
        let closing = socket
            .run(self.inner.options.lifetime, |text| {
                let before = last.take();
                let (this, connection) = (self.clone(), Arc::clone(&connection));
                let receiving = tokio::spawn(async move {
                    if let Some(before) = before {
                        let _ = before.await;
                    }
                    this.received(&connection, &text).await;
                });
                last = in_order.then_some(receiving);
            })
            .await;
        self.registry().remove(&connection.peer.connection_id);
        // Box the futures, so that an open connection does not hold the memory for its end.
        tokio::join!(
            Box::pin(socket.farewell()),
            Box::pin(self.disconnected(&connection.peer, &closing))
        );
        drop(living);
    }

    /// Invokes the function of a message's route. Routes are one-way: the function's response is dropped, and the
    /// client gets a frame only if the function fails.
    async fn received(&self, connection: &Connection, text: &Utf8Bytes) {
        let Inner {
            options, lambda, ..
        } = &*self.inner;
        let moment = Moment::now();
        let fail = |message| {
            let id = &connection.peer.connection_id;
            let frame = frames::error(message, id, &moment.request_id);
            let _ = connection.post(frame.into());
        };
        let selected = route::select(&options.api.selection, &options.api.routes, text);
        let Some((route_key, function)) = selected else {
            return fail(frames::FORBIDDEN);
        };
        let events = self.events(&connection.peer);
        let event = events.message(route_key, &ids::id(), text, &moment);
        match lambda
            .invoke(function, event, Some(INTEGRATION_TIMEOUT))
            .await
        {
            Invocation::Answer(_) => {}
            Invocation::Late => fail(frames::TIMED_OUT),
            // This includes a function that exceeds its own, shorter timeout.
            _ => fail(frames::INTERNAL),
        }
    }

    /// Invokes `$disconnect` once, without retries, as on AWS. A failure is only logged.
    async fn disconnected(&self, peer: &Peer, closing: &Closing) {
        let Inner {
            options, lambda, ..
        } = &*self.inner;
        let Some(function) = options.api.routes.get("$disconnect") else {
            return;
        };
        if options.faults.strikes(Kind::DropDisconnect) {
            return;
        }
        let event = self
            .events(peer)
            .disconnect(closing.code, &closing.reason, &Moment::now());
        let outcome = lambda
            .invoke(function, event, Some(INTEGRATION_TIMEOUT))
            .await;
        if !matches!(outcome, Invocation::Answer(_)) {
            tracing::warn!(
                connection = peer.connection_id,
                ?outcome,
                "$disconnect failed"
            );
        }
    }
}
