//! Where the page is served, and a line to it that can be cut.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longest wait for a gateway that may have to build its functions.
const READY: Duration = Duration::from_secs(600);

/// A relay in front of a server: while it is cut, nothing comes through and every connection ends.
pub(crate) struct Line {
    url: String,
    whole: watch::Sender<bool>,
    relay: JoinHandle<()>,
}

impl Line {
    /// A line to the server at `url`.
    pub(crate) async fn to(url: &str) -> Result<Self> {
        let server = url
            .strip_prefix("http://")
            .context("a line leads to an http:// URL")?
            .trim_end_matches('/')
            .to_owned();
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (whole, state) = watch::channel(true);
        let relay = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *state.borrow() {
                    tokio::spawn(relay(client, server.clone(), state.clone()));
                }
            }
        });
        Ok(Self { url, whole, relay })
    }

    /// The near end.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Cuts every connection; new ones end at once.
    pub(crate) fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Lets new connections through again.
    pub(crate) fn mend(&self) {
        self.whole.send_replace(true);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.cut();
        self.relay.abort();
    }
}

async fn relay(mut client: TcpStream, server: String, mut state: watch::Receiver<bool>) {
    let Ok(mut server) = TcpStream::connect(server).await else {
        return;
    };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = state.wait_for(|whole| !whole) => {}
    }
}

/// A local gateway of the test's own, on free ports, with everything in memory.
pub(crate) struct Gateway {
    /// Its public URL.
    pub(crate) edge: String,
    process: Child,
}

impl Gateway {
    /// Starts the built gateway and waits until it can serve. It builds the functions itself.
    pub(crate) fn start() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let folder = tempfile::tempdir()?;
        let ready = folder.path().join("ready.json");
        let binary = root.join("target/debug/local-gateway");
        let mut process = Command::new(&binary)
            .current_dir(&root)
            .args(["--port", "0", "--ready-file"])
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("{}: build it with `cargo build`", binary.display()))?;
        let begun = Instant::now();
        let urls = loop {
            if let Ok(urls) = std::fs::read(&ready) {
                break urls;
            }
            if let Some(status) = process.try_wait()? {
                bail!("the gateway ended before it was ready: {status}");
            }
            if begun.elapsed() > READY {
                process.kill()?;
                bail!("the gateway was not ready within {READY:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let mut gateway = Self {
            edge: String::new(),
            process,
        };
        let urls: serde_json::Value = serde_json::from_slice(&urls)?;
        let edge = urls.get("edge").and_then(serde_json::Value::as_str);
        edge.context("the ready file has no edge")?
            .clone_into(&mut gateway.edge);
        Ok(gateway)
    }
}

impl Drop for Gateway {
    /// SIGTERM, so that it stops what it started.
    fn drop(&mut self) {
        let id = self.process.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let _ = self.process.wait();
    }
}
