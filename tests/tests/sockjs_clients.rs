//! The published SockJS client, as it comes from its registry, against the edge: under Node a row for each transport, and in
//! a page of another origin in Chromium.
//!
//! `SOCKJS_MESSAGES` says how many messages each side sends, `SOCKJS_WINDOW` how many of these at once; `--no-capture` shows
//! what was measured.

#![allow(clippy::print_stdout, reason = "a test may say what it measured")]

#[path = "console/browser.rs"]
#[allow(dead_code, reason = "the console's tests do more in a browser")]
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

/// What a client lets know.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum News {
    /// The back end is to do something.
    Ask(Wish),
    /// All is done, in so many milliseconds.
    Measured(Value),
    /// Something was not as it should be.
    Failed(String),
}

/// What the back end can do.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wish {
    Disconnect,
    Invalidate,
}

/// A domain with two subscribers who talk.
struct Stage {
    site: Site,
    url: String,
    alice: String,
    bob: String,
    /// How many messages each sends if nothing else is said.
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

    /// What the scenario is to know.
    fn parties(&self) -> Result<Value> {
        Ok(json!({
            "messages": variable("SOCKJS_MESSAGES", self.messages)?,
            "window": variable("SOCKJS_WINDOW", 8)?,
            "alice": self.alice,
            "bob": self.bob,
        }))
    }

    /// How long the client may be busy with its messages.
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
async fn over_websocket_everything_arrives_and_the_reason_of_a_close_does_too() -> Result<()> {
    under_node("websocket").await
}

#[tokio::test]
async fn over_xhr_streaming_it_does_as_well() -> Result<()> {
    under_node("xhr-streaming").await
}

#[tokio::test]
async fn over_eventsource_it_does_as_well() -> Result<()> {
    under_node("eventsource").await
}

#[tokio::test]
async fn over_xhr_polling_it_does_as_well() -> Result<()> {
    under_node("xhr-polling").await
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_page_of_another_origin_all_of_them_do() -> Result<()> {
    let page = Page::serve(&folder()).await?;
    // All of them meet the one deployment that this keeps.
    let _site = Site::new()?;
    let browser = Browser::start().await?;
    for transport in ["websocket", "xhr-streaming", "eventsource", "xhr-polling"] {
        let window = browser.window(&page.url, (800, 600)).await?;
        let measured = in_page(&window, transport).await;
        println!("chromium {transport}: {}", measured.context(transport)?);
    }
    browser.stop().await
}

/// Runs the client over one transport and does what it asks of the back end.
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
    let mut answers = client.stdin.take().context("it has an input")?;
    let output = client.stdout.take().context("it has an output")?;
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

/// The same in a page; what it measured.
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

/// The next news of a page.
async fn next(window: &Window) -> Result<News> {
    loop {
        let mut news: Vec<News> = window.value("news.splice(0, 1)").await?;
        if let Some(news) = news.pop() {
            return Ok(news);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn within<T>(patience: Duration, it: impl Future<Output = T>) -> Result<T> {
    let ended = tokio::time::timeout(patience, it).await;
    ended.context("the client neither asks nor ends")
}

/// Where the client is; installed by `.config/install-clients` before the tests.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sockjs")
}
