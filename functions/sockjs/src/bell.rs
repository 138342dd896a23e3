//! A doorbell: a WebSocket to the service's own API, over which whoever pushes says that there is something new.

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

/// A handshake that takes longer is not waited for.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A doorbell in one of its states.
pub(crate) enum Bell {
    /// Nobody rings: there is none, or it could not be had, or it broke.
    None,
    /// On its way.
    Opening(LocalBoxFuture<'static, Option<Socket>>),
    /// It rings.
    Open(Box<Socket>),
}

/// What a doorbell says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ring {
    /// It hangs: what came before did not ring.
    Hangs,
    /// Something is new.
    New,
    /// It is no more.
    Broke,
}

impl Bell {
    /// Asks for a doorbell at `url` for the receiver `holder`, in the name of the session's own token.
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
                    tracing::warn!(%error, "no doorbell");
                    None
                }
                Err(_) => {
                    tracing::warn!("no doorbell in time");
                    None
                }
            }
        };
        Self::Opening(opening.boxed_local())
    }

    /// Waits until it says something; may be given up and asked again.
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
