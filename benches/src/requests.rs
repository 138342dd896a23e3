//! HTTP requests over a pooled client.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::socket::DEADLINE;

/// A pooled HTTP client.
#[derive(Clone, Debug)]
pub(crate) struct Requests(Client<HttpConnector, Full<Bytes>>);

impl Requests {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        body: impl Into<Bytes>,
    ) -> Result<(StatusCode, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(url)
            .body(Full::new(body.into()))?;
        self.carry(request).await
    }

    /// Executes a request and reads its answer. Fails after [`DEADLINE`].
    pub(crate) async fn carry(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)> {
        let url = request.uri().clone();
        let exchange = async {
            let response = self.0.request(request).await?;
            let status = response.status();
            Ok((status, response.into_body().collect().await?.to_bytes()))
        };
        tokio::time::timeout(DEADLINE, exchange)
            .await
            .with_context(|| format!("{url} does not answer"))?
    }

    /// Sends JSON and reads JSON. Fails unless the status is a success.
    pub(crate) async fn json(&self, method: Method, url: &str, body: &Value) -> Result<Value> {
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header("content-type", "application/json")
            .body(Full::from(body.to_string()))?;
        let (status, answer) = self.carry(request).await?;
        let text = String::from_utf8_lossy(&answer);
        ensure!(status.is_success(), "{url}: {status} {text}");
        Ok(serde_json::from_slice(&answer).unwrap_or_default())
    }
}
