//! A WebSocket client that costs as little as the library allows.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{SinkExt, StreamExt};
use http::{HeaderName, HeaderValue, Uri};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{
    Message, Utf8Bytes, client::IntoClientRequest, protocol::WebSocketConfig,
};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// A benchmark fails instead of waiting longer than this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Bytes of the read buffer. It is small because a benchmark opens ten thousand connections.
const BUFFER: usize = 2048;

/// An open connection.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: WebSocketStream<TcpStream>,
}

impl Socket {
    pub(crate) async fn open(url: &str, headers: &[(&'static str, String)]) -> Result<Self> {
        let uri: Uri = url.parse()?;
        let host = uri.host().context("the URL has no host")?;
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
        stream.set_nodelay(true)?;
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            let value = HeaderValue::from_str(value)?;
            request
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(0);
        let opened = client_async_with_config(request, stream, Some(config));
        let (stream, _) = tokio::time::timeout(DEADLINE, opened)
            .await
            .context("the handshake timed out")??;
        Ok(Self { stream })
    }

    pub(crate) async fn send(&mut self, text: impl Into<Utf8Bytes>) -> Result<()> {
        self.stream.send(Message::Text(text.into())).await?;
        Ok(())
    }

    /// Receives the next text.
    pub(crate) async fn next(&mut self) -> Result<Utf8Bytes> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Close(frame))) => bail!("closed: {frame:?}"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("the connection ended"),
            }
        }
    }

    /// Receives texts until one contains `mark`. Fails after [`DEADLINE`].
    pub(crate) async fn next_with(&mut self, mark: &str) -> Result<Utf8Bytes> {
        let wanted = async {
            loop {
                let text = self.next().await?;
                if text.contains(mark) {
                    return Ok(text);
                }
            }
        };
        tokio::time::timeout(DEADLINE, wanted)
            .await
            .with_context(|| format!("received no text with {mark}"))?
    }
}
