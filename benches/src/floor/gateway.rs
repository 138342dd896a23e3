//! A minimal gateway of the same shape: sockets, a queue of invocations behind the Runtime API, and `@connections`. It
//! has no authorizer, no limits and none of AWS's events.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{
    Message, Utf8Bytes,
    handshake::derive_accept_key,
    protocol::{Role, WebSocketConfig},
};

const BUFFER: usize = 4 * 1024;

type Answer = Response<Full<Bytes>>;
type Invocation = (u64, Bytes);

struct Thin {
    sockets: Mutex<HashMap<u64, mpsc::UnboundedSender<Utf8Bytes>>>,
    invoke: mpsc::UnboundedSender<Invocation>,
    invoked: AsyncMutex<mpsc::UnboundedReceiver<Invocation>>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    ids: AtomicU64,
}

pub(super) async fn run(listener: TcpListener, address: SocketAddr) -> Result<()> {
    let (invoke, invoked) = mpsc::unbounded_channel();
    let thin = Arc::new(Thin {
        sockets: Mutex::default(),
        invoke,
        invoked: AsyncMutex::new(invoked),
        waiting: Mutex::default(),
        ids: AtomicU64::new(1),
    });
    let _function = tokio::process::Command::new(std::env::current_exe()?)
        .args(["floor", "function"])
        .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
        .kill_on_drop(true)
        .spawn()?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let thin = Arc::clone(&thin);
        let service = service_fn(move |request| Arc::clone(&thin).answer(request));
        let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(served.with_upgrades());
    }
}

impl Thin {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer> {
        let path = request.uri().path().to_owned();
        if let Some(id) = path.strip_prefix("/@connections/") {
            return self.post(id, request).await;
        }
        match path.strip_prefix("/2018-06-01/runtime/invocation/") {
            Some("next") => self.next().await,
            Some(rest) => {
                let id = rest.split('/').next().unwrap_or_default().parse()?;
                request.into_body().collect().await?;
                if let Some(waiting) = lock(&self.waiting).remove(&id) {
                    let _ = waiting.send(());
                }
                status(StatusCode::ACCEPTED)
            }
            None if request.method() == Method::GET => self.upgrade(request).await,
            None => status(StatusCode::NOT_FOUND),
        }
    }

    async fn post(&self, id: &str, request: Request<Incoming>) -> Result<Answer> {
        let body = request.into_body().collect().await?.to_bytes();
        let socket = lock(&self.sockets).get(&id.parse()?).cloned();
        let text = Utf8Bytes::try_from(body)?;
        match socket.map(|socket| socket.send(text)) {
            Some(Ok(())) => status(StatusCode::OK),
            _ => status(StatusCode::GONE),
        }
    }

    async fn next(&self) -> Result<Answer> {
        let (id, payload) = self
            .invoked
            .lock()
            .await
            .recv()
            .await
            .context("the queue is closed")?;
        let answer = Response::builder()
            .header("lambda-runtime-aws-request-id", id)
            .body(Full::new(payload))?;
        Ok(answer)
    }

    async fn invoke(&self, payload: String) {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (done, answered) = oneshot::channel();
        lock(&self.waiting).insert(id, done);
        let _ = self.invoke.send((id, payload.into()));
        let _ = answered.await;
    }

    async fn upgrade(self: Arc<Self>, mut request: Request<Incoming>) -> Result<Answer> {
        let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
        let accept = derive_accept_key(
            key.context("the request is no WebSocket handshake")?
                .as_bytes(),
        );
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        self.invoke(json!({ "connect": id }).to_string()).await;
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                let _ = self.live(id, upgraded).await;
            }
            lock(&self.sockets).remove(&id);
            self.invoke(json!({ "disconnect": id }).to_string()).await;
        });
        let mut answer = status(StatusCode::SWITCHING_PROTOCOLS)?;
        let headers = answer.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.parse()?);
        Ok(answer)
    }

    async fn live(self: &Arc<Self>, id: u64, upgraded: hyper::upgrade::Upgraded) -> Result<()> {
        let parts = upgraded
            .downcast::<TokioIo<tokio::net::TcpStream>>()
            .map_err(|_| anyhow::anyhow!("the connection is not TCP"))?;
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(BUFFER);
        let (stream, early) = (parts.io.into_inner(), parts.read_buf.to_vec());
        let mut socket =
            WebSocketStream::from_partially_read(stream, early, Role::Server, Some(config)).await;
        let (send, mut outgoing) = mpsc::unbounded_channel();
        lock(&self.sockets).insert(id, send);
        loop {
            tokio::select! {
                Some(text) = outgoing.recv() => {
                    socket.feed(Message::Text(text)).await?;
                    while let Ok(text) = outgoing.try_recv() {
                        socket.feed(Message::Text(text)).await?;
                    }
                    socket.flush().await?;
                }
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        let this = Arc::clone(self);
                        let event = json!({ "id": id, "body": text.as_str() }).to_string();
                        tokio::spawn(async move { this.invoke(event).await });
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Ok(()),
                },
            }
        }
    }
}

fn status(code: StatusCode) -> Result<Answer> {
    Ok(Response::builder().status(code).body(Full::default())?)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
