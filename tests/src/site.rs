//! A domain of a deployment: its tokens and connections.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use anyhow::{Context, Result};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Client, Gateway, requests};

/// The environment variable with the path of a file like the local gateway's ready file. Without it the tests start a local
/// gateway.
const DEPLOYMENT: &str = "MESSAGING_DEPLOYMENT";

/// The URLs of a deployment.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Urls {
    /// The public port. Only a local gateway has it.
    #[serde(default)]
    pub edge: Option<String>,
    /// The WebSocket without SockJS framing.
    pub websocket: String,
    /// The base URL for SockJS clients, if the deployment serves them.
    #[serde(default)]
    pub sockjs: Option<String>,
    /// The HTTP API.
    pub api: String,
    /// The WebSocket API's own URL, if clients can reach it.
    #[serde(default)]
    pub stage: Option<String>,
    /// DynamoDB. Only a local gateway has it.
    #[serde(default)]
    pub dynamodb: Option<String>,
    /// Lambda. Only a local gateway has it.
    #[serde(default)]
    pub lambda: Option<String>,
}

impl Urls {
    /// Reads a ready file.
    ///
    /// # Errors
    /// Fails if the file cannot be read or parsed.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&text).with_context(|| path.display().to_string())
    }
}

/// A fresh domain.
#[derive(Clone, Debug)]
pub struct Site {
    pub urls: Urls,
    pub domain: String,
    /// Keeps the gateway alive as long as a test uses it.
    gateway: Option<Arc<Gateway>>,
}

/// A handshake that was refused.
#[derive(Debug, thiserror::Error)]
#[error("the handshake was refused with {0}")]
pub struct Refused(pub StatusCode);

impl Site {
    /// Returns a fresh domain of the deployment that all tests of this process share.
    ///
    /// # Errors
    /// Fails if no deployment is named and the local gateway does not start.
    pub fn new() -> Result<Self> {
        static SHARED: Mutex<Weak<Gateway>> = Mutex::new(Weak::new());
        if let Some(file) = std::env::var_os(DEPLOYMENT) {
            return Ok(Self::at(Urls::read(Path::new(&file))?));
        }
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let gateway = match shared.upgrade() {
            Some(gateway) => gateway,
            None => Arc::new(Gateway::start::<&str>(&[])?),
        };
        *shared = Arc::downgrade(&gateway);
        Ok(Self {
            gateway: Some(Arc::clone(&gateway)),
            ..Self::at(gateway.urls().clone())
        })
    }

    /// Returns true if the tests run against a named deployment.
    #[must_use]
    pub fn is_deployed() -> bool {
        std::env::var_os(DEPLOYMENT).is_some()
    }

    /// Returns a fresh domain of the deployment at `urls`.
    #[must_use]
    pub fn at(urls: Urls) -> Self {
        static DOMAINS: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let number = DOMAINS.fetch_add(1, Ordering::Relaxed);
        Self {
            urls,
            domain: format!("{}-{}-{number}", std::process::id(), now.as_nanos()),
            gateway: None,
        }
    }

    /// Returns another fresh domain of the same deployment.
    #[must_use]
    pub fn neighbour(&self) -> Self {
        Self {
            gateway: self.gateway.clone(),
            ..Self::at(self.urls.clone())
        }
    }

    /// Returns the URL of a subscriber's resource in the HTTP API.
    #[must_use]
    pub fn about(&self, subscriber: &str, what: &str) -> String {
        let Self { urls, domain, .. } = self;
        format!(
            "{}/domains/{domain}/subscribers/{subscriber}/{what}",
            urls.api
        )
    }

    /// Issues a token for a subscriber.
    ///
    /// # Errors
    /// Fails if the request fails.
    pub async fn token(&self, subscriber: &str) -> Result<String> {
        self.token_with(subscriber, &json!({})).await
    }

    /// Issues a token for a subscriber that expires after `seconds`.
    ///
    /// # Errors
    /// Fails if the request fails.
    pub async fn short_token(&self, subscriber: &str, seconds: u64) -> Result<String> {
        self.token_with(subscriber, &json!({ "expires-in": seconds }))
            .await
    }

    async fn token_with(&self, subscriber: &str, body: &Value) -> Result<String> {
        let issued = requests::post(&self.about(subscriber, "tokens"), body).await?;
        let token = issued.get("token").and_then(Value::as_str);
        Ok(token.context("no token was issued")?.to_owned())
    }

    /// Invalidates a token.
    ///
    /// # Errors
    /// Fails if the request fails.
    pub async fn invalidate(&self, token: &str) -> Result<()> {
        let url = format!("{}/tokens/invalidate", self.urls.api);
        requests::post(&url, &json!({ "token": token })).await?;
        Ok(())
    }

    /// Invalidates all tokens of a subscriber.
    ///
    /// # Errors
    /// Fails if the request fails.
    pub async fn invalidate_all(&self, subscriber: &str) -> Result<()> {
        let (status, body) =
            requests::send(Method::DELETE, &self.about(subscriber, "tokens"), "").await?;
        anyhow::ensure!(status.is_success(), "{status} {body}");
        Ok(())
    }

    /// Invokes the function `expire` as its schedule does, and waits for its end.
    ///
    /// # Errors
    /// Fails if the function fails or the deployment has no Lambda URL.
    pub async fn expire(&self) -> Result<()> {
        let lambda = self
            .urls
            .lambda
            .as_deref()
            .context("the deployment has no Lambda URL")?;
        let url = format!("{lambda}/2015-03-31/functions/ExpireFunction/invocations");
        let event = r#"{"source":"aws.events"}"#;
        let (status, answer) = requests::send(Method::POST, &url, event).await?;
        anyhow::ensure!(status == StatusCode::OK, "{status} {answer}");
        anyhow::ensure!(answer.is_null(), "the function failed: {answer}");
        Ok(())
    }

    /// Connects a subscriber with a fresh token.
    ///
    /// # Errors
    /// Fails if the connection is refused.
    pub async fn connect(&self, subscriber: &str) -> Result<Client> {
        let token = self.token(subscriber).await?;
        self.connect_with(&token).await
    }

    /// Connects with a token.
    ///
    /// # Errors
    /// Fails if the connection is refused. Returns [`Refused`] if the server answers with an HTTP status.
    pub async fn connect_with(&self, token: &str) -> Result<Client> {
        let url = format!("{}?access_token={token}", self.urls.websocket);
        Ok(Client::open(&url, &[]).await?.0)
    }
}
