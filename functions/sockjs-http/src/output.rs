//! Responses: a head, and a body that is sent in pieces.

use core::{convert::Infallible, future::poll_fn};

use bytes::Bytes;
use futures::channel::mpsc::{self, Receiver};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use lambda_runtime::{MetadataPrelude, streaming::Response};
use sockjs::{fixed, headers::Headers};

/// A streamed body. Each piece arrives as one chunk at the client.
pub type Body = Receiver<Result<Bytes, Infallible>>;

/// A streamed response.
pub type Answer = Response<Body>;

/// The client has disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left;

/// The writer of a body.
pub(crate) struct Output(mpsc::Sender<Result<Bytes, Infallible>>);

impl Output {
    /// Writes a piece. It returns only after the runtime has taken the piece, so that no message is removed that was never
    /// sent.
    pub(crate) async fn send(&mut self, piece: impl Into<Bytes>) -> Result<(), Left> {
        self.ready().await?;
        self.0.start_send(Ok(piece.into())).map_err(|_| Left)?;
        self.ready().await
    }

    /// Fails if the client has disconnected, where that can be detected. Sends nothing over the wire.
    pub(crate) async fn check(&mut self) -> Result<(), Left> {
        self.send(Bytes::new()).await
    }

    async fn ready(&mut self) -> Result<(), Left> {
        poll_fn(|context| self.0.poll_ready(context))
            .await
            .map_err(|_| Left)
    }
}

/// Begins a response. The body is written to the returned [`Output`].
pub(crate) fn begin(status: u16, headers: Headers) -> (Output, Answer) {
    // A capacity of zero: only the one piece that a futures channel always grants each sender.
    let (sender, body) = mpsc::channel(0);
    let mut fields = HeaderMap::new();
    let mut cookies = Vec::new();
    for (name, value) in headers {
        if name == "Set-Cookie" {
            cookies.push(value);
            continue;
        }
        let name = HeaderName::from_bytes(name.as_bytes());
        // Some values come from the request. A value that is invalid in a header is omitted.
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
            fields.append(name, value);
        }
    }
    let answer = Response {
        metadata_prelude: MetadataPrelude {
            status_code: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers: fields,
            cookies,
        },
        stream: body,
    };
    (Output(sender), answer)
}

/// Returns a complete response.
pub(crate) fn whole(status: u16, headers: Headers, body: String) -> Answer {
    let (mut output, answer) = begin(status, headers);
    if !body.is_empty() {
        // The channel always has room for one piece.
        let _ = output.0.start_send(Ok(body.into()));
    }
    answer
}

/// Returns a response that depends only on the request.
pub(crate) fn fixed(response: fixed::Response) -> Answer {
    whole(response.status, response.headers, response.body)
}
