//! A minimal SockJS client over HTTP. Tests see the bytes on the wire.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;

use crate::DEADLINE;

type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A client's session: an id, and a token in each URL.
#[derive(Clone, Debug)]
pub struct Session {
    base: String,
    query: String,
}

/// A complete answer.
#[derive(Clone, Debug)]
pub struct Whole {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

/// A streamed answer.
#[derive(Debug)]
pub struct Stream {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Body,
}

impl Session {
    /// Returns a fresh session below a base URL, with an optional token.
    #[must_use]
    pub fn new(base: &str, token: Option<&str>) -> Self {
        static SESSIONS: AtomicU64 = AtomicU64::new(0);
        let number = SESSIONS.fetch_add(1, Ordering::Relaxed);
        Self {
            base: format!("{base}/000/s{}x{number}", std::process::id()),
            query: token.map_or_else(String::new, |it| format!("?access_token={it}")),
        }
    }

    /// Returns a session with the same id and another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            query: format!("?access_token={token}"),
            ..self.clone()
        }
    }

    /// Returns the URL of one of the session's endpoints.
    #[must_use]
    pub fn url(&self, what: &str) -> String {
        format!("{}/{what}{}", self.base, self.query)
    }

    /// Polls once.
    ///
    /// # Errors
    /// Fails if there is no answer.
    pub async fn poll(&self) -> Result<Whole> {
        exchange(Method::POST, &self.url("xhr"), &[], "").await
    }

    /// Polls once and returns the frame.
    ///
    /// # Errors
    /// Fails if the answer is not a frame.
    pub async fn frame(&self) -> Result<String> {
        let answer = self.poll().await?;
        ensure!(answer.status == StatusCode::OK, "{answer:?}");
        let frame = answer.body.strip_suffix('\n');
        Ok(frame
            .context("the frame has no newline at its end")?
            .to_owned())
    }

    /// Sends messages.
    ///
    /// # Errors
    /// Fails if there is no answer.
    pub async fn send(&self, messages: &[Value]) -> Result<Whole> {
        let texts: Vec<String> = messages.iter().map(Value::to_string).collect();
        let body = serde_json::to_string(&texts)?;
        exchange(Method::POST, &self.url("xhr_send"), &[], &body).await
    }

    /// Opens a stream with a transport, such as `xhr_streaming`.
    ///
    /// # Errors
    /// Fails if there is no answer.
    pub async fn stream(&self, transport: &str) -> Result<Stream> {
        let method = match transport {
            "xhr_streaming" => Method::POST,
            _ => Method::GET,
        };
        Stream::open(method, &self.url(transport)).await
    }
}

impl Stream {
    /// Sends a request and returns its streamed answer.
    ///
    /// # Errors
    /// Fails if there is no answer.
    pub async fn open(method: Method, url: &str) -> Result<Self> {
        let response = request(method, url, &[], "").await?;
        let (parts, body) = response.into_parts();
        Ok(Self {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }

    /// Returns the next chunk as it was received, or `None` at the end.
    ///
    /// # Errors
    /// Fails if nothing arrives or the answer is cut off.
    pub async fn chunk(&mut self) -> Result<Option<String>> {
        loop {
            let frame = tokio::time::timeout(DEADLINE, self.body.frame())
                .await
                .context("nothing arrives")?;
            let Some(frame) = frame else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| anyhow!("the answer is cut off: {error}"))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(String::from_utf8(data.to_vec())?));
            }
        }
    }

    /// Returns the next chunk.
    ///
    /// # Errors
    /// Fails if the answer has ended, or under the conditions of [`Self::chunk`].
    pub async fn next(&mut self) -> Result<String> {
        self.chunk().await?.context("the answer has ended")
    }
}

/// Sends a request and reads the complete answer.
///
/// # Errors
/// Fails if there is no answer.
pub async fn exchange(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Whole> {
    let whole = async {
        let (parts, body) = request(method, url, headers, body).await?.into_parts();
        let body = body.collect().await.map_err(|error| anyhow!("{error}"))?;
        Ok(Whole {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(body.to_bytes().to_vec())?,
        })
    };
    tokio::time::timeout(DEADLINE, whole)
        .await
        .with_context(|| format!("{url} does not answer"))?
}

async fn request(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Response<Body>> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned())))?;
    let builder = Client::builder(TokioExecutor::new());
    // A local gateway serves http, a deployment https.
    let response = if url.starts_with("https://") {
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()?
            .https_only()
            .enable_http1()
            .build();
        builder.build::<_, Full<Bytes>>(connector).request(request)
    } else {
        builder.build_http::<Full<Bytes>>().request(request)
    };
    let response = tokio::time::timeout(DEADLINE, response)
        .await
        .with_context(|| format!("{url} does not answer"))??;
    Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
}
