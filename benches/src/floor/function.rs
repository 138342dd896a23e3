//! A minimal function: it speaks the Runtime API directly and posts to every connection. It keeps the connections in
//! memory, which a real function cannot.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

use crate::requests::Requests;

/// Concurrent invocations.
const LOOPS: usize = 8;
/// Concurrent posts of one invocation: as many as in `service`.
const AT_ONCE: usize = 64;

#[derive(Deserialize)]
struct Event {
    connect: Option<u64>,
    disconnect: Option<u64>,
    id: Option<u64>,
    body: Option<String>,
}

#[derive(Default)]
struct State {
    connections: Mutex<BTreeSet<u64>>,
}

pub(super) async fn run() -> Result<()> {
    let api = std::env::var("AWS_LAMBDA_RUNTIME_API")?;
    let state = Arc::new(State::default());
    let posts = Requests::new();
    let loops = (0..LOOPS).map(|_| invocations(&api, &state, &posts));
    futures::future::try_join_all(loops).await?;
    Ok(())
}

async fn invocations(api: &str, state: &State, posts: &Requests) -> Result<()> {
    let stream = TcpStream::connect(api).await?;
    stream.set_nodelay(true)?;
    let (mut runtime, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let path = "/2018-06-01/runtime/invocation";
    loop {
        let (id, event) = exchange(&mut runtime, api, "GET", &format!("{path}/next"), "").await?;
        let id = id.context("the invocation has no id")?;
        let event: Event = serde_json::from_slice(&event)?;
        handle(api, state, posts, event).await;
        exchange(
            &mut runtime,
            api,
            "POST",
            &format!("{path}/{id}/response"),
            "{}",
        )
        .await?;
    }
}

async fn exchange(
    runtime: &mut SendRequest<Full<Bytes>>,
    host: &str,
    method: &str,
    path: &str,
    body: &'static str,
) -> Result<(Option<String>, Bytes)> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, host)
        .body(Full::from(body))?;
    runtime.ready().await?;
    let response = runtime.send_request(request).await?;
    let id = response.headers().get("lambda-runtime-aws-request-id");
    let id = id.and_then(|it| it.to_str().ok()).map(str::to_owned);
    Ok((id, response.into_body().collect().await?.to_bytes()))
}

async fn handle(api: &str, state: &State, posts: &Requests, event: Event) {
    let lock = || {
        state
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    };
    if let Some(id) = event.connect {
        lock().insert(id);
    }
    if let Some(id) = event.disconnect {
        lock().remove(&id);
    }
    let (Some(from), Some(body)) = (event.id, event.body) else {
        return;
    };
    let to: Vec<u64> = if body.starts_with("ping") {
        vec![from]
    } else {
        lock().iter().copied().collect()
    };
    let body = Bytes::from(body);
    stream::iter(to)
        .for_each_concurrent(AT_ONCE, |id| {
            let (url, body) = (format!("http://{api}/@connections/{id}"), body.clone());
            async move {
                // A post to a closed connection fails, which is no error here.
                let _ = posts.send(http::Method::POST, &url, body).await;
            }
        })
        .await;
}
