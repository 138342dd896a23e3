//! Messaging: the local gateway with the functions that are built beside this executable.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::Process;
use crate::requests::Requests;
use crate::socket::{DEADLINE, Socket};

use super::{JOINING, text_of};

/// A running local gateway.
#[derive(Debug)]
pub(crate) struct Ours {
    websocket: String,
    api: String,
    pub(crate) dynamodb: String,
    requests: Requests,
    domains: AtomicUsize,
    _folder: TempDir,
}

impl Ours {
    /// Starts a local gateway with additional arguments and waits until it is ready.
    pub(crate) async fn start(arguments: &[&str]) -> Result<(Process, Self)> {
        let folder = tempfile::tempdir()?;
        let ready = folder.path().join("ready.json");
        let binaries = binaries()?;
        let mut command = Command::new(binaries.join("local-gateway"));
        command
            .current_dir(root())
            .args(["--port", "0", "--functions"])
            .arg(&binaries)
            .arg("--ready-file")
            .arg(&ready)
            .args(arguments)
            // Otherwise it would log a line for each of hundreds of connections that end with it.
            .env("RUST_LOG", "error")
            .stdout(Stdio::null());
        let mut process = Process::start(&mut command)?;
        let urls = until_ready(&mut process, &ready).await?;
        let ours = Self {
            websocket: text_of(&urls, "websocket")?,
            api: text_of(&urls, "api")?,
            dynamodb: text_of(&urls, "dynamodb")?,
            requests: Requests::new(),
            domains: AtomicUsize::new(0),
            _folder: folder,
        };
        Ok((process, ours))
    }

    /// Returns an unused domain.
    pub(crate) fn fresh_domain(&self) -> String {
        format!("domain-{}", self.domains.fetch_add(1, Ordering::Relaxed))
    }

    /// Creates a channel whose members are the subscribers `s0`, `s1` and so on.
    pub(crate) async fn found(&self, domain: &str, channel: &str, members: usize) -> Result<()> {
        self.found_with(domain, channel, 0..members).await
    }

    /// Creates a channel with the given subscribers as its members.
    pub(crate) async fn found_with(
        &self,
        domain: &str,
        channel: &str,
        members: impl IntoIterator<Item = usize>,
    ) -> Result<()> {
        let url = format!("{}/domains/{domain}/channels/{channel}", self.api);
        let put = |url: String, body: Value| async move {
            self.requests.json(Method::PUT, &url, &body).await.map(drop)
        };
        put(url.clone(), json!({ "name": channel })).await?;
        // The members join one after the other, because concurrent joins would conflict.
        for who in members {
            put(format!("{url}/subscribers/s{who}"), json!({})).await?;
        }
        Ok(())
    }

    /// Issues a token for a subscriber.
    pub(crate) async fn token(&self, domain: &str, subscriber: &str) -> Result<String> {
        let url = format!(
            "{}/domains/{domain}/subscribers/{subscriber}/tokens",
            self.api
        );
        let issued = self.requests.json(Method::POST, &url, &json!({})).await?;
        text_of(&issued, "token")
    }

    /// Issues tokens for the subscribers `s0`, `s1` and so on.
    pub(crate) async fn tokens(&self, domain: &str, subscribers: usize) -> Result<Vec<String>> {
        stream::iter(0..subscribers)
            .map(|who| async move { self.token(domain, &format!("s{who}")).await })
            .buffered(JOINING)
            .try_collect()
            .await
    }

    /// Opens a connection for a subscriber with a new token.
    pub(crate) async fn connect(&self, domain: &str, subscriber: &str) -> Result<Socket> {
        self.connect_with(&self.token(domain, subscriber).await?)
            .await
    }

    /// Opens a connection with the given token.
    pub(crate) async fn connect_with(&self, token: &str) -> Result<Socket> {
        Socket::open(
            &self.websocket,
            &[("authorization", format!("Bearer {token}"))],
        )
        .await
    }

    /// Returns what its tables have consumed since the start: read units, write units and requests.
    pub(crate) async fn units(&self) -> Result<Value> {
        let url = format!("{}/_local/units", self.dynamodb);
        let (_, body) = self.requests.send(Method::GET, &url, "").await?;
        Ok(serde_json::from_slice(&body)?)
    }
}

async fn until_ready(process: &mut Process, ready: &Path) -> Result<Value> {
    let begun = Instant::now();
    while begun.elapsed() < DEADLINE {
        // The gateway writes the file atomically.
        if let Ok(text) = std::fs::read(ready) {
            return Ok(serde_json::from_slice(&text)?);
        }
        if process.has_ended() {
            bail!("the local gateway ended before it was ready");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("the local gateway did not become ready in time")
}

/// Returns the folder of the repository.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the folder of this executable, in which the other binaries are built too.
pub(crate) fn binaries() -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let folder = executable
        .parent()
        .context("the executable has no folder")?;
    Ok(folder.to_owned())
}
