//! A doorbell: a WebSocket from a receiver to the service's own WebSocket API. A sender that pushes to the session's outbox
//! notifies the receiver over it.

use core::{future::pending, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::LocalBoxFuture};
use lambda::Bearer;
use service::ports::SessionKey;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _, http::HeaderValue},
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The time limit of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A doorbell and its state.
pub(crate) enum Bell {
    /// There is no doorbell, or its handshake failed, or it broke.
    None,
    /// The handshake is under way.
    Opening(LocalBoxFuture<'static, Option<Socket>>),
    Open(Box<Socket>),
}

/// An event of a doorbell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ring {
    /// The doorbell is open. Messages that were pushed before did not ring it.
    Hangs,
    /// The outbox has new messages.
    New,
    /// The doorbell could not be opened, or its WebSocket ended.
    Broke,
}

impl Bell {
    /// Opens a doorbell at `url` for the receiver `holder`, with the session's own token.
    pub(crate) fn open(url: &str, token: &Bearer, key: &SessionKey, holder: &str) -> Self {
        let url = format!("{url}?doorbell={}.{holder}", key.as_str());
        let authorization = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
        let opening = async move {
            let mut request = url.into_client_request().ok()?;
            let headers = request.headers_mut();
            headers.insert("Authorization", authorization.ok()?);
            let connected = tokio::time::timeout(HANDSHAKE, connect_async(request)).await;
            match connected {
                Ok(Ok((socket, _))) => Some(socket),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "doorbell handshake failed");
                    None
                }
                Err(_) => {
                    tracing::warn!("doorbell handshake timed out");
                    None
                }
            }
        };
        Self::Opening(opening.boxed_local())
    }

    /// Waits for the next event. Cancel-safe: the future may be dropped and this method called again.
    pub(crate) async fn ring(&mut self) -> Ring {
        let ring = match self {
            Self::None => pending().await,
            Self::Opening(opening) => match opening.await {
                Some(socket) => {
                    *self = Self::Open(Box::new(socket));
                    return Ring::Hangs;
                }
                None => Ring::Broke,
            },
            Self::Open(socket) => match socket.next().await {
                Some(Ok(Message::Close(_)) | Err(_)) | None => Ring::Broke,
                Some(Ok(_)) => Ring::New,
            },
        };
        if ring == Ring::Broke {
            *self = Self::None;
        }
        ring
    }
}
