//! Tests the published SockJS client against the edge: under Node with each transport, and in Chromium in a page of another
//! origin.
//!
//! `SOCKJS_MESSAGES` is the number of messages that each side sends, and `SOCKJS_WINDOW` the number in flight at once.
//! `--no-capture` shows the measurements.

#![allow(clippy::print_stdout, reason = "a test may print its measurements")]

#[path = "console/browser.rs"]
#[allow(dead_code, reason = "only the console's tests use the rest")]
mod browser;
#[path = "sockjs_clients/page.rs"]
mod page;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tests::{DEADLINE, Site, post};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use browser::{Browser, Window};
use page::Page;

/// A report from the client.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum News {
    /// The client requests an action of the back end.
    Ask(Wish),
    /// The scenario is finished. The value has the measured milliseconds.
    Measured(Value),
    /// A check of the client failed.
    Failed(String),
}

/// An action of the back end.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wish {
    Disconnect,
    Invalidate,
}

/// A domain with two subscribers that exchange messages.
struct Stage {
    site: Site,
    url: String,
    alice: String,
    bob: String,
    /// The number of messages that each sends, unless `SOCKJS_MESSAGES` is set.
    messages: u64,
}

impl Stage {
    async fn new(messages: u64) -> Result<Self> {
        let site = Site::new()?;
        Ok(Self {
            url: site.urls.sockjs.clone().context("no SockJS is served")?,
            alice: site.token("alice").await?,
            bob: site.token("bob").await?,
            messages,
            site,
        })
    }

    /// Returns the parameters of the scenario.
    fn parties(&self) -> Result<Value> {
        Ok(json!({
            "messages": variable("SOCKJS_MESSAGES", self.messages)?,
            "window": variable("SOCKJS_WINDOW", 8)?,
            "alice": self.alice,
            "bob": self.bob,
        }))
    }

    /// Returns the time that the client may take between two reports.
    fn patience(&self) -> Result<Duration> {
        let messages = variable("SOCKJS_MESSAGES", self.messages)?;
        Ok(DEADLINE + Duration::from_secs(messages))
    }

    async fn fulfil(&self, wish: Wish) -> Result<()> {
        match wish {
            Wish::Disconnect => {
                post(&self.site.about("alice", "disconnect"), &json!({})).await?;
                Ok(())
            }
            Wish::Invalidate => self.site.invalidate(&self.alice).await,
        }
    }
}

fn variable(name: &str, otherwise: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(number) => number.parse().context(number),
        Err(_) => Ok(otherwise),
    }
}

#[tokio::test]
async fn node_client_works_over_websocket() -> Result<()> {
    under_node("websocket").await
}

#[tokio::test]
async fn node_client_works_over_xhr_streaming() -> Result<()> {
    under_node("xhr-streaming").await
}

#[tokio::test]
async fn node_client_works_over_eventsource() -> Result<()> {
    under_node("eventsource").await
}

#[tokio::test]
async fn node_client_works_over_xhr_polling() -> Result<()> {
    under_node("xhr-polling").await
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_client_works_cross_origin() -> Result<()> {
    let page = Page::serve(&folder()).await?;
    // All stages share the deployment that this keeps alive.
    let _site = Site::new()?;
    let browser = Browser::start().await?;
    for transport in ["websocket", "xhr-streaming", "eventsource", "xhr-polling"] {
        let window = browser.window(&page.url, (800, 600)).await?;
        let measured = in_page(&window, transport).await;
        println!("chromium {transport}: {}", measured.context(transport)?);
    }
    browser.stop().await
}

/// Runs the client under Node over one transport and performs the back-end actions that it requests.
async fn under_node(transport: &str) -> Result<()> {
    let stage = Stage::new(100).await?;
    let mut client = Command::new("node")
        .current_dir(folder())
        .args(["client.js", &stage.url, transport])
        .arg(stage.parties()?.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("node does not start")?;
    let mut answers = client.stdin.take().context("the client has no input")?;
    let output = client.stdout.take().context("the client has no output")?;
    let mut lines = BufReader::new(output).lines();
    let mut measured = None;
    let patience = stage.patience()?;
    while let Some(line) = within(patience, lines.next_line()).await?? {
        match serde_json::from_str(&line).with_context(|| line.clone())? {
            News::Ask(wish) => {
                stage.fulfil(wish).await?;
                answers.write_all(b"done\n").await?;
            }
            News::Measured(figures) => measured = Some(figures),
            News::Failed(reason) => bail!(reason),
        }
    }
    let status = within(DEADLINE, client.wait()).await??;
    ensure!(status.success(), "the client ended with {status}");
    let measured = measured.context("nothing was measured")?;
    println!("node {transport}: {measured}");
    Ok(())
}

/// Runs the client in a page. Returns its measurements.
async fn in_page(window: &Window, transport: &str) -> Result<Value> {
    let stage = Stage::new(10).await?;
    let start = format!(
        "start({}, {}, {})",
        json!(stage.url),
        json!(transport),
        stage.parties()?
    );
    let patience = stage.patience()?;
    window.until("window.start").await?;
    let _: bool = window.value(&start).await?;
    loop {
        match within(patience, next(window)).await?? {
            News::Ask(wish) => {
                stage.fulfil(wish).await?;
                let _: bool = window.value("done()").await?;
            }
            News::Measured(figures) => return Ok(figures),
            News::Failed(reason) => bail!(reason),
        }
    }
}

/// Returns the next report of a page.
async fn next(window: &Window) -> Result<News> {
    loop {
        let mut news: Vec<News> = window.value("news.splice(0, 1)").await?;
        if let Some(news) = news.pop() {
            return Ok(news);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn within<T>(patience: Duration, work: impl Future<Output = T>) -> Result<T> {
    let ended = tokio::time::timeout(patience, work).await;
    ended.context("the client neither reports nor ends")
}

/// Returns the client's folder. `.config/install-clients` installs the client before the tests.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sockjs")
}
