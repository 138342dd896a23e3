//! A SockJS client over HTTP, as plain as can be: what is on the wire is what the tests see.

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

/// A session of a client: an id, and a token in every URL.
#[derive(Clone, Debug)]
pub struct Session {
    base: String,
    query: String,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Whole {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: String,
}

/// An answer that goes on.
#[derive(Debug)]
pub struct Stream {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    body: Body,
}

impl Session {
    /// A fresh session below a place's URL, with a token if there is one.
    #[must_use]
    pub fn new(base: &str, token: Option<&str>) -> Self {
        static SESSIONS: AtomicU64 = AtomicU64::new(0);
        let number = SESSIONS.fetch_add(1, Ordering::Relaxed);
        Self {
            base: format!("{base}/000/s{}x{number}", std::process::id()),
            query: token.map_or_else(String::new, |it| format!("?access_token={it}")),
        }
    }

    /// A session of the same id, whose client has another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            query: format!("?access_token={token}"),
            ..self.clone()
        }
    }

    /// Where something of the session is.
    #[must_use]
    pub fn url(&self, what: &str) -> String {
        format!("{}/{what}{}", self.base, self.query)
    }

    /// Asks for one frame.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn poll(&self) -> Result<Whole> {
        exchange(Method::POST, &self.url("xhr"), &[], "").await
    }

    /// One frame, which has to come.
    ///
    /// # Errors
    /// When something else does.
    pub async fn frame(&self) -> Result<String> {
        let answer = self.poll().await?;
        ensure!(answer.status == StatusCode::OK, "{answer:?}");
        let frame = answer.body.strip_suffix('\n');
        Ok(frame.context("a frame ends with its line")?.to_owned())
    }

    /// Sends messages.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&self, messages: &[Value]) -> Result<Whole> {
        let texts: Vec<String> = messages.iter().map(Value::to_string).collect();
        let body = serde_json::to_string(&texts)?;
        exchange(Method::POST, &self.url("xhr_send"), &[], &body).await
    }

    /// Begins to receive.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn stream(&self, transport: &str) -> Result<Stream> {
        let method = match transport {
            "xhr_streaming" => Method::POST,
            _ => Method::GET,
        };
        Stream::open(method, &self.url(transport)).await
    }
}

impl Stream {
    /// Asks for an answer that goes on.
    ///
    /// # Errors
    /// When there is none.
    pub async fn open(method: Method, url: &str) -> Result<Self> {
        let response = request(method, url, &[], "").await?;
        let (parts, body) = response.into_parts();
        Ok(Self {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }

    /// The next chunk as it came; none at the end.
    ///
    /// # Errors
    /// When nothing comes, or the answer breaks off.
    pub async fn chunk(&mut self) -> Result<Option<String>> {
        loop {
            let frame = tokio::time::timeout(DEADLINE, self.body.frame())
                .await
                .context("nothing comes")?;
            let Some(frame) = frame else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| anyhow!("the answer breaks off: {error}"))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(String::from_utf8(data.to_vec())?));
            }
        }
    }

    /// The next chunk, which has to come.
    ///
    /// # Errors
    /// As [`Self::chunk`].
    pub async fn next(&mut self) -> Result<String> {
        self.chunk().await?.context("the answer has ended")
    }
}

/// Sends a request and reads the whole answer.
///
/// # Errors
/// When there is none.
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
    // A local gateway's is http, a deployment's https.
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
