//! A domain of a deployment: who is in it, and how it is reached.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use anyhow::{Context, Result};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Client, Gateway, requests};

/// Names a file like the local gateway's ready file; without, the tests start a local gateway.
const DEPLOYMENT: &str = "MESSAGING_DEPLOYMENT";

/// Where a deployment is.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Urls {
    /// The public port, if it is a local gateway's.
    #[serde(default)]
    pub edge: Option<String>,
    /// The raw WebSocket.
    pub websocket: String,
    /// The base URL for SockJS clients, if they are served.
    #[serde(default)]
    pub sockjs: Option<String>,
    /// The HTTP API.
    pub api: String,
    /// The WebSocket API's own URL, if it can be reached.
    #[serde(default)]
    pub stage: Option<String>,
    /// DynamoDB, if it is a local gateway's.
    #[serde(default)]
    pub dynamodb: Option<String>,
    /// Lambda, if it is a local gateway's.
    #[serde(default)]
    pub lambda: Option<String>,
}

impl Urls {
    /// Reads a ready file.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&text).with_context(|| path.display().to_string())
    }
}

/// A fresh domain.
#[derive(Clone, Debug)]
pub struct Site {
    /// Where the deployment is.
    pub urls: Urls,
    /// The domain's id.
    pub domain: String,
    /// Kept alive by the tests that use it.
    gateway: Option<Arc<Gateway>>,
}

/// A handshake that was refused.
#[derive(Debug, thiserror::Error)]
#[error("the handshake was refused with {0}")]
pub struct Refused(pub StatusCode);

impl Site {
    /// A fresh domain of the deployment that all tests of this process share.
    ///
    /// # Errors
    /// When there is none and no local gateway starts.
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

    /// Whether the tests run on a deployment that somebody named.
    #[must_use]
    pub fn is_deployed() -> bool {
        std::env::var_os(DEPLOYMENT).is_some()
    }

    /// A fresh domain of a certain deployment.
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

    /// Another fresh domain beside this one.
    #[must_use]
    pub fn neighbour(&self) -> Self {
        Self {
            gateway: self.gateway.clone(),
            ..Self::at(self.urls.clone())
        }
    }

    /// The URL of something about a subscriber in the HTTP API.
    #[must_use]
    pub fn about(&self, subscriber: &str, what: &str) -> String {
        let Self { urls, domain, .. } = self;
        format!(
            "{}/domains/{domain}/subscribers/{subscriber}/{what}",
            urls.api
        )
    }

    /// A token of a subscriber.
    ///
    /// # Errors
    /// When there is none to be had.
    pub async fn token(&self, subscriber: &str) -> Result<String> {
        self.token_with(subscriber, &json!({})).await
    }

    /// A token of a subscriber that lasts so many seconds.
    ///
    /// # Errors
    /// When there is none to be had.
    pub async fn short_token(&self, subscriber: &str, seconds: u64) -> Result<String> {
        self.token_with(subscriber, &json!({ "expires-in": seconds }))
            .await
    }

    async fn token_with(&self, subscriber: &str, body: &Value) -> Result<String> {
        let minted = requests::post(&self.about(subscriber, "tokens"), body).await?;
        let token = minted.get("token").and_then(Value::as_str);
        Ok(token.context("no token was minted")?.to_owned())
    }

    /// Invalidates a token.
    ///
    /// # Errors
    /// When that is refused.
    pub async fn invalidate(&self, token: &str) -> Result<()> {
        let url = format!("{}/tokens/invalidate", self.urls.api);
        requests::post(&url, &json!({ "token": token })).await?;
        Ok(())
    }

    /// Invalidates all tokens of a subscriber.
    ///
    /// # Errors
    /// When that is refused.
    pub async fn invalidate_all(&self, subscriber: &str) -> Result<()> {
        let (status, body) =
            requests::send(Method::DELETE, &self.about(subscriber, "tokens"), "").await?;
        anyhow::ensure!(status.is_success(), "{status} {body}");
        Ok(())
    }

    /// Invokes the function of each minute as its schedule does, and waits for it.
    ///
    /// # Errors
    /// When it fails, or there is no Lambda to be reached.
    pub async fn expire(&self) -> Result<()> {
        let lambda = self.urls.lambda.as_deref().context("it has no Lambda")?;
        let url = format!("{lambda}/2015-03-31/functions/ExpireFunction/invocations");
        let event = r#"{"source":"aws.events"}"#;
        let (status, answer) = requests::send(Method::POST, &url, event).await?;
        anyhow::ensure!(status == StatusCode::OK, "{status} {answer}");
        anyhow::ensure!(answer.is_null(), "it failed: {answer}");
        Ok(())
    }

    /// A connection of a subscriber, with a token of its own.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn connect(&self, subscriber: &str) -> Result<Client> {
        let token = self.token(subscriber).await?;
        self.connect_with(&token).await
    }

    /// A connection by a token.
    ///
    /// # Errors
    /// When it is refused; by an HTTP answer, as [`Refused`].
    pub async fn connect_with(&self, token: &str) -> Result<Client> {
        let url = format!("{}?access_token={token}", self.urls.websocket);
        Ok(Client::open(&url, &[]).await?.0)
    }
}
