//! What every listener of the front shares: binding, accepting, and answers.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::body::Body;

/// A response, whole or with a body that is still being written.
pub type Answer = Response<Body>;

/// The request is not answered: its TCP connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed without an answer, as asked for by a fault")]
pub struct Unanswered;

/// Why a port cannot be listened on.
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

/// Listens on `host:port`; `option` is what chooses the port on the command line.
///
/// # Errors
/// When the port is taken or the host is not this machine's.
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

/// Answers requests on `listener` until the handle is aborted. Requests that were accepted before run on.
pub fn serve<A, F>(listener: TcpListener, answer: A) -> AbortHandle
where
    A: Fn(Request<Incoming>, IpAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Answer, Unanswered>> + Send + 'static,
{
    let accepting = tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    drop(tokio::spawn(speak(stream, peer.ip(), answer.clone())));
                }
                // Mostly too many open files: accepting again at once would only spin.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    });
    accepting.abort_handle()
}

async fn speak<A, F>(stream: TcpStream, peer: IpAddr, answer: A)
where
    A: Fn(Request<Incoming>, IpAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Answer, Unanswered>> + Send + 'static,
{
    // Without it a small answer may wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let version = request.version();
        let answering = answer(request, peer);
        async move { Ok::<_, Unanswered>(for_version(version, answering.await?)) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.with_upgrades().await {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

/// A client of HTTP/1.0 sees the end of a body without a length by the end of its connection, so that is not kept for it,
/// whatever it asked for.
fn for_version(version: Version, mut answer: Answer) -> Answer {
    if version == Version::HTTP_10 && answer.body().size_hint().exact().is_none() {
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(header::CONNECTION, close);
    }
    answer
}

/// A response with a JSON body.
#[must_use]
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with_type(status, "application/json", body)
}

/// A response with a body of the given type.
#[must_use]
pub fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Body::from(body.into()));
    *answer.status_mut() = status;
    let value = HeaderValue::from_static(content_type);
    answer.headers_mut().insert(header::CONTENT_TYPE, value);
    answer
}

/// A response without a body.
#[must_use]
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Body::default());
    *answer.status_mut() = status;
    answer
}

/// Whether a page of another site may have sent this through a name that resolves to this machine (DNS rebinding).
/// Only asked when listening on loopback, where no other name than these is honest.
#[must_use]
pub fn is_rebound(headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    !host.is_some_and(is_loopback_authority)
}

/// Whether `authority` (a `Host` header, or what follows the scheme in an origin) names this machine.
#[must_use]
pub fn is_loopback_authority(authority: &str) -> bool {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    };
    let bracketed = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    // An address cannot resolve to another one: that takes a name.
    let is_loopback = match bracketed {
        Some(address) => address.parse().is_ok_and(|it: Ipv6Addr| it.is_loopback()),
        None => name.parse().is_ok_and(|it: Ipv4Addr| it.is_loopback()),
    };
    is_loopback || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for yes in [
            "localhost",
            "localhost:8080",
            "127.0.0.1:1",
            "127.0.0.2:8080",
            "127.1.2.3",
            "[::1]:8080",
            "[::1]",
            "LOCALHOST",
        ] {
            assert!(is_loopback_authority(yes), "{yes}");
        }
        for no in [
            "example.com",
            "localhost.example.com:8080",
            "127.0.0.1.example.com",
            "",
            "10.0.0.1",
            "127.0.0.2.example.com:8080",
            "[::2]:8080",
            "[127.0.0.1]",
        ] {
            assert!(!is_loopback_authority(no), "{no}");
        }
        assert!(is_rebound(&HeaderMap::new()));
    }
}
