//! Requests to the service's HTTP API and to the local gateway's DynamoDB.

use anyhow::{Context, Result, ensure};
use aws_credential_types::Credentials;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::Value;
use signing::{Call, SigningClient};
use trust::Trust;

use crate::{DEADLINE, Site, Urls};

/// Sends a request. Returns the status and the JSON body, or null if the body is not JSON.
///
/// # Errors
/// Fails if there is no answer.
pub async fn send(method: Method, url: &str, body: &str) -> Result<(StatusCode, Value)> {
    let (status, body) = ask(method, url, body).await?;
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

/// Returns the text at `url`.
///
/// # Errors
/// Fails if there is no answer or its status is not 2xx.
pub async fn text(url: &str) -> Result<String> {
    let (status, body) = ask(Method::GET, url, "").await?;
    ensure!(status.is_success(), "GET {url}: {status}");
    Ok(String::from_utf8(body.into())?)
}

/// Sends a request, and signs it if it goes to a deployment. Returns the status and the body.
async fn ask(method: Method, url: &str, body: &str) -> Result<(StatusCode, Bytes)> {
    if let Some(client) = signer(url)? {
        let call = Call {
            service: "execute-api",
            method,
            url,
            headers: &[("content-type", "application/json")],
            body: Bytes::from(body.to_owned()),
            limit: DEADLINE,
        };
        return client.send(call).await.with_context(|| url.to_owned());
    }
    let request = Request::builder()
        .method(method)
        .uri(url)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_owned())))?;
    exchange(url, request).await
}

async fn exchange(url: &str, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)> {
    let exchange = async {
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let response = client.request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    };
    tokio::time::timeout(DEADLINE, exchange)
        .await
        .with_context(|| format!("{url} does not answer"))?
}

/// Calls an operation, such as `PutItem`, of a local gateway's DynamoDB. It bypasses the service to create states that would
/// take a day to reach through the service.
///
/// # Errors
/// Fails if there is no DynamoDB or the operation fails.
pub async fn dynamodb(urls: &Urls, operation: &str, body: &Value) -> Result<Value> {
    let url = urls
        .dynamodb
        .as_deref()
        .context("the deployment has no DynamoDB URL")?;
    let request = Request::post(url)
        .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
        // The engine requires the header but checks no signature.
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request",
        )
        .body(Full::new(Bytes::from(body.to_string())))?;
    let (status, answer) = exchange(url, request).await?;
    let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
    ensure!(status.is_success(), "{operation}: {status} {answer}");
    Ok(answer)
}

/// Returns the JSON at `url`.
///
/// # Errors
/// Fails if there is no answer or its status is not 2xx.
pub async fn get(url: &str) -> Result<Value> {
    let (status, body) = send(Method::GET, url, "").await?;
    ensure!(status.is_success(), "GET {url}: {status} {body}");
    Ok(body)
}

/// Posts `body` and returns the answer.
///
/// # Errors
/// Fails if there is no answer or its status is not 2xx.
pub async fn post(url: &str, body: &Value) -> Result<Value> {
    let (status, answer) = send(Method::POST, url, &body.to_string()).await?;
    ensure!(status.is_success(), "POST {url}: {status} {answer}");
    Ok(answer)
}

/// Returns a client that signs requests to a named deployment. It takes the credentials from the environment variables of
/// the AWS CLI. Returns `None` without credentials, and for a local gateway, which needs no signature.
fn signer(url: &str) -> Result<Option<SigningClient>> {
    let variable = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
    let keys = variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY"));
    let Some((id, secret)) = keys.filter(|_| Site::is_deployed()) else {
        return Ok(None);
    };
    let token = variable("AWS_SESSION_TOKEN");
    let credentials = Credentials::new(id, secret, token, None, "environment");
    let region = variable("AWS_REGION").unwrap_or_else(|| "us-east-1".to_owned());
    Ok(Some(SigningClient::new(
        credentials,
        region,
        Trust::of(url),
    )?))
}
