//! Requests to the service's own HTTP API, and to the local gateway's.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;

use crate::{DEADLINE, Urls};

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
    exchange(url, request).await
}

async fn exchange(url: &str, request: Request<Full<Bytes>>) -> Result<(StatusCode, Value)> {
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

/// Asks a local gateway's DynamoDB for something, such as `PutItem`, past the service: for what would take a day to bring
/// about by it.
///
/// # Errors
/// When that is refused.
pub async fn dynamodb(urls: &Urls, operation: &str, body: &Value) -> Result<Value> {
    let url = urls.dynamodb.as_deref().context("it has no DynamoDB")?;
    let request = Request::post(url)
        .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
        // The engine asks who it is and checks nothing.
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request",
        )
        .body(Full::new(Bytes::from(body.to_string())))?;
    let (status, answer) = exchange(url, request).await?;
    ensure!(status.is_success(), "{operation}: {status} {answer}");
    Ok(answer)
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
