//! Answers: a head, and a body that goes out piece by piece.

use core::{convert::Infallible, future::poll_fn};

use bytes::Bytes;
use futures::channel::mpsc::{self, Receiver};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use lambda_runtime::{MetadataPrelude, streaming::Response};
use sockjs::{fixed, headers::Headers};

/// What is streamed: each piece becomes one chunk at the client.
pub type Body = Receiver<Result<Bytes, Infallible>>;

/// A streamed answer.
pub type Answer = Response<Body>;

/// The client is not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left;

/// Where a body is written to.
pub(crate) struct Output(mpsc::Sender<Result<Bytes, Infallible>>);

impl Output {
    /// Writes a piece; once this returns it was taken, so that nothing is forgotten that was never sent.
    pub(crate) async fn send(&mut self, piece: impl Into<Bytes>) -> Result<(), Left> {
        self.ready().await?;
        self.0.start_send(Ok(piece.into())).map_err(|_| Left)?;
        self.ready().await
    }

    /// Whether the client is still there, where that can be noticed: nothing goes over the wire.
    pub(crate) async fn check(&mut self) -> Result<(), Left> {
        self.send(Bytes::new()).await
    }

    async fn ready(&mut self) -> Result<(), Left> {
        poll_fn(|context| self.0.poll_ready(context))
            .await
            .map_err(|_| Left)
    }
}

/// An answer whose body is still to be written.
pub(crate) fn begin(status: u16, headers: Headers) -> (Output, Answer) {
    // Room for nothing beside the one piece that each sender may always leave.
    let (sender, body) = mpsc::channel(0);
    let mut fields = HeaderMap::new();
    let mut cookies = Vec::new();
    for (name, value) in headers {
        if name == "Set-Cookie" {
            cookies.push(value);
            continue;
        }
        let name = HeaderName::from_bytes(name.as_bytes());
        // A header that a request's own text would break is left out.
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

/// A whole answer.
pub(crate) fn whole(status: u16, headers: Headers, body: String) -> Answer {
    let (mut output, answer) = begin(status, headers);
    if !body.is_empty() {
        // The one piece for which there is room.
        let _ = output.0.start_send(Ok(body.into()));
    }
    answer
}

/// An answer that depends on nothing but the request.
pub(crate) fn fixed(response: fixed::Response) -> Answer {
    whole(response.status, response.headers, response.body)
}
