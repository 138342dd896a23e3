//! Requests to the service's own HTTP API, and to the local gateway's.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;

use crate::DEADLINE;

/// Sends a request; gives the answer's status and its JSON, null if it has none.
///
/// # Errors
/// When there is no answer.
pub async fn send(method: Method, url: &str, body: &str) -> Result<(StatusCode, Value)> {
    let request = Request::builder()
        .method(method)
        .uri(url)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_owned())))?;
    let exchange = async {
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let response = client.request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    };
    tokio::time::timeout(DEADLINE, exchange)
        .await
        .with_context(|| format!("{url} does not answer"))?
}

/// What is at `url`.
///
/// # Errors
/// When that cannot be had.
pub async fn get(url: &str) -> Result<Value> {
    let (status, body) = send(Method::GET, url, "").await?;
    ensure!(status.is_success(), "GET {url}: {status} {body}");
    Ok(body)
}

/// Posts `body` and gives the answer.
///
/// # Errors
/// When it is refused.
pub async fn post(url: &str, body: &Value) -> Result<Value> {
    let (status, answer) = send(Method::POST, url, &body.to_string()).await?;
    ensure!(status.is_success(), "POST {url}: {status} {answer}");
    Ok(answer)
}
