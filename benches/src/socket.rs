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

/// Nothing here takes longer; a benchmark fails rather than hang.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Small: ten thousand of them are opened.
const BUFFER: usize = 2048;

/// An open connection.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: WebSocketStream<TcpStream>,
}

impl Socket {
    pub(crate) async fn open(url: &str, headers: &[(&'static str, String)]) -> Result<Self> {
        let uri: Uri = url.parse()?;
        let host = uri.host().context("a URL has a host")?;
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
            .context("the handshake does not end")??;
        Ok(Self { stream })
    }

    pub(crate) async fn send(&mut self, text: impl Into<Utf8Bytes>) -> Result<()> {
        self.stream.send(Message::Text(text.into())).await?;
        Ok(())
    }

    /// The next text.
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

    /// The next text that contains `mark`.
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
            .with_context(|| format!("no {mark} comes"))?
    }
}
