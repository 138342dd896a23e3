//! Binding, accepting and responses of the public port, the WebSocket API's port and the function URLs.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use futures::future::Either;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::body::Body;
use crate::guard;

/// How long a client may take to send the headers of a request, counted from the previous response. It is longer than
/// functions keep an idle connection (50 s), so they never send a request on a connection that is about to be closed.
const HEADERS_WITHIN: Duration = Duration::from_secs(60);

/// A response, complete or with a body that is still being written.
pub type Answer = Response<Body>;

/// The request gets no response, and its TCP connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed without a response")]
pub struct Unanswered;

/// Why the gateway cannot listen on a port.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for {purpose}: {source}. Choose another with {option}, or --port 0 for free ones."
)]
pub struct ListenError {
    address: SocketAddr,
    purpose: &'static str,
    option: &'static str,
    source: io::Error,
}

/// Listens on `host:port`. `option` is the command-line option for the port, which the error names.
///
/// # Errors
/// Fails if the port is taken or the host does not belong to this machine.
pub async fn listen(
    host: IpAddr,
    port: u16,
    purpose: &'static str,
    option: &'static str,
) -> Result<TcpListener, ListenError> {
    let address = SocketAddr::new(host, port);
    TcpListener::bind(address)
        .await
        .map_err(|source| ListenError {
            address,
            purpose,
            option,
            source,
        })
}

/// Answers requests on `listener` until the handle is aborted. Connections accepted before that continue.
pub fn serve<A, F>(listener: TcpListener, answer: A) -> AbortHandle
where
    A: Fn(Request<Incoming>, IpAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Answer, Unanswered>> + Send + 'static,
{
    let accepting = tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let speaking = speak(stream, peer.ip(), answer.clone(), HEADERS_WITHIN);
                    drop(tokio::spawn(speaking));
                }
                // The usual cause is too many open files. Wait, because accepting again at once would only spin.
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    });
    accepting.abort_handle()
}

async fn speak<A, F>(stream: TcpStream, peer: IpAddr, answer: A, headers_within: Duration)
where
    A: Fn(Request<Incoming>, IpAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Answer, Unanswered>> + Send + 'static,
{
    // Without this, a small response may wait for the acknowledgement of the previous one.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let version = request.version();
        let answering = if guard::is_ambiguous(request.headers()) {
            Either::Left(async { Ok(empty(StatusCode::BAD_REQUEST)) })
        } else {
            Either::Right(answer(request, peer))
        };
        async move { Ok::<_, Unanswered>(for_version(version, answering.await?)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(headers_within)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.with_upgrades().await {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

/// Closes the connection after a body without a length to an HTTP/1.0 client, even if it asked for keep-alive. Such a
/// client recognises the end of the body only by the end of the connection.
fn for_version(version: Version, mut answer: Answer) -> Answer {
    if version == Version::HTTP_10 && answer.body().size_hint().exact().is_none() {
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(header::CONNECTION, close);
    }
    answer
}

/// Returns a response with a JSON body.
#[must_use]
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with_type(status, "application/json", body)
}

/// Returns a response with a body of the given type.
#[must_use]
pub fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Body::from(body.into()));
    *answer.status_mut() = status;
    let value = HeaderValue::from_static(content_type);
    answer.headers_mut().insert(header::CONTENT_TYPE, value);
    answer
}

/// Returns a response without a body.
#[must_use]
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Body::default());
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn half_sent_headers_end_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        // A response may take longer than the headers.
        let slowly = |_| async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            Ok(empty(StatusCode::NO_CONTENT))
        };
        let within = Duration::from_millis(100);
        let speaking = tokio::spawn(speak(
            stream,
            peer.ip(),
            move |request, _| slowly(request),
            within,
        ));

        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut first = [0; 12];
        client.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 204");

        client.write_all(b"GET / HTTP/1.1\r\nHost: ").await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(30), speaking).await;
        ended.unwrap().unwrap();
        client.read_to_end(&mut Vec::new()).await.unwrap();
    }
}
