//! A TCP relay that can be cut.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A relay in front of a server. While it is cut, it ends every connection.
pub(crate) struct Line {
    url: String,
    whole: watch::Sender<bool>,
    relay: JoinHandle<()>,
}

impl Line {
    /// Starts a relay to the server at `url`.
    pub(crate) async fn to(url: &str) -> Result<Self> {
        let server = url
            .strip_prefix("http://")
            .context("the relay needs an http:// URL")?
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

    /// Returns the URL of the relay.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Ends every connection. New ones end at once.
    pub(crate) fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Relays new connections again.
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
