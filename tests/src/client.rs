//! A WebSocket client that checks the protocol in every test: an answer that breaks the rules is an error.

use std::collections::VecDeque;
use std::ops::Index;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message, client::IntoClientRequest};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::{DEADLINE, Refused};

/// A connection.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pushes: VecDeque<Frame>,
    asked: u64,
}

/// A server message.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The text as it was received.
    pub text: String,
    /// The parsed JSON.
    pub json: Value,
}

/// The answer to a client message.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The response, if the message has one.
    pub response: Option<Frame>,
    /// The `ack` that follows the response.
    pub ack: Frame,
}

impl Client {
    /// Opens a connection. Also returns the headers of the handshake response.
    ///
    /// # Errors
    /// Fails if the connection is refused. Returns [`Refused`] if the server answers with an HTTP status.
    pub async fn open(url: &str, headers: &[(&'static str, &str)]) -> Result<(Self, HeaderMap)> {
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            request
                .headers_mut()
                .append(*name, HeaderValue::from_str(value)?);
        }
        match timely("the handshake", connect_async(request)).await? {
            Ok((socket, response)) => Ok((
                Self {
                    socket,
                    pushes: VecDeque::new(),
                    asked: 0,
                },
                response.headers().clone(),
            )),
            Err(Error::Http(response)) => bail!(Refused(response.status())),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a message and reads until its `ack`. Adds an `id` if the message has none.
    ///
    /// # Errors
    /// Fails if the answer breaks the protocol or the connection ends.
    pub async fn ask(&mut self, mut message: Value) -> Result<Answer> {
        let fresh = self.fresh_id();
        let object = message.as_object_mut().context("a message is an object")?;
        let id = object.entry("id").or_insert_with(|| fresh.into()).clone();
        let id = id.as_str().context("an `id` is a string")?.to_owned();
        self.ask_text(&message.to_string(), &id).await
    }

    /// Sends a text that contains this `id` and reads until its `ack`.
    ///
    /// # Errors
    /// Fails if the answer breaks the protocol or the connection ends.
    pub async fn ask_text(&mut self, text: &str, id: &str) -> Result<Answer> {
        self.send_text(text).await?;
        self.answer(id).await
    }

    /// Reads until the `ack` of the message with this `id`. Keeps the pushes that arrive meanwhile.
    ///
    /// # Errors
    /// Fails if another answer arrives or the connection ends.
    pub async fn answer(&mut self, id: &str) -> Result<Answer> {
        let mut response = None;
        loop {
            let frame = self.frame().await?;
            let Some(reply_to) = frame.json.get("reply-to") else {
                ensure!(
                    frame["type"] != "ack",
                    "an `ack` without `reply-to`: {}",
                    frame.text
                );
                self.pushes.push_back(frame);
                continue;
            };
            ensure!(
                *reply_to == id,
                "expected an answer to {id:?}, got {}",
                frame.text
            );
            if frame["type"] == "ack" {
                ensure!(
                    frame["id"] == id,
                    "an `ack` for another message: {}",
                    frame.text
                );
                let refused = frame["status"] == false;
                ensure!(!(refused && response.is_some()), "refused after a response");
                return Ok(Answer {
                    response,
                    ack: frame,
                });
            }
            ensure!(response.is_none(), "a second response: {}", frame.text);
            response = Some(frame);
        }
    }

    /// Sends a message and returns its response, or its `ack` if the message has no response.
    ///
    /// # Errors
    /// Fails if the message is rejected.
    pub async fn request(&mut self, message: Value) -> Result<Frame> {
        let what = message.to_string();
        self.ask(message).await?.honoured().context(what)
    }

    /// Sends a message that must be rejected and returns the error code.
    ///
    /// # Errors
    /// Fails if the message succeeds.
    pub async fn refused(&mut self, message: Value) -> Result<String> {
        let what = message.to_string();
        self.ask(message).await?.refused().context(what)
    }

    /// Returns an id that this client has not used.
    pub fn fresh_id(&mut self) -> String {
        self.asked += 1;
        self.asked.to_string()
    }

    /// Sends any text.
    ///
    /// # Errors
    /// Fails if the connection has ended.
    pub async fn send_text(&mut self, text: &str) -> Result<()> {
        self.send_message(Message::text(text)).await
    }

    /// Sends any WebSocket frame.
    ///
    /// # Errors
    /// Fails if the connection has ended.
    pub async fn send_message(&mut self, message: Message) -> Result<()> {
        Ok(timely("sending", self.socket.send(message)).await??)
    }

    /// Returns the next push.
    ///
    /// # Errors
    /// Fails if nothing arrives, or if another frame arrives.
    pub async fn push(&mut self) -> Result<Frame> {
        match self.pushes.pop_front() {
            Some(push) => Ok(push),
            None => self.fresh_push().await,
        }
    }

    /// Returns the next push of a type. Keeps the pushes before it.
    ///
    /// # Errors
    /// Fails if nothing arrives, or if an answer arrives.
    pub async fn push_of(&mut self, message_type: &str) -> Result<Frame> {
        let is_wanted = |frame: &Frame| frame["type"] == message_type;
        if let Some(kept) = self.pushes.iter().position(is_wanted) {
            return self.pushes.remove(kept).context("it was there");
        }
        loop {
            let frame = self.fresh_push().await.context(message_type.to_owned())?;
            if is_wanted(&frame) {
                return Ok(frame);
            }
            self.pushes.push_back(frame);
        }
    }

    /// Returns the pushes that were received but not yet returned.
    pub fn kept(&mut self) -> Vec<Frame> {
        self.pushes.drain(..).collect()
    }

    async fn fresh_push(&mut self) -> Result<Frame> {
        let frame = self.frame().await?;
        ensure!(
            frame.json.get("reply-to").is_none() && frame["type"] != "ack",
            "an answer without a question: {}",
            frame.text
        );
        Ok(frame)
    }

    /// Returns the next server message of any type.
    ///
    /// # Errors
    /// Fails if nothing arrives.
    pub async fn frame(&mut self) -> Result<Frame> {
        match self.message(DEADLINE).await? {
            Ok(frame) => Ok(frame),
            Err(close) => bail!("the connection was closed: {close:?}"),
        }
    }

    /// Reads until the service closes the connection. Returns the frames before that and the close frame.
    ///
    /// # Errors
    /// Fails if the connection is still open after `limit`.
    pub async fn closed_within(
        &mut self,
        limit: Duration,
    ) -> Result<(Vec<Frame>, Option<CloseFrame>)> {
        let mut frames = self.kept();
        let closed = async {
            loop {
                match self.message(DEADLINE).await? {
                    Ok(frame) => frames.push(frame),
                    Err(close) => return anyhow::Ok(close),
                }
            }
        };
        let close = tokio::time::timeout(limit, closed)
            .await
            .context("the connection stays open")??;
        Ok((frames, close))
    }

    /// Closes the connection and waits for the end of the close handshake.
    ///
    /// # Errors
    /// Fails if the connection stays open.
    pub async fn close(mut self) -> Result<()> {
        self.socket.close(None).await?;
        self.closed_within(DEADLINE).await?;
        Ok(())
    }

    async fn message(&mut self, limit: Duration) -> Result<Result<Frame, Option<CloseFrame>>> {
        loop {
            let next = tokio::time::timeout(limit, self.socket.next()).await;
            match next.context("nothing arrives")? {
                Some(Ok(Message::Text(text))) => {
                    return Ok(Ok(Frame::read(&text)?));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Binary(_))) => bail!("a binary frame"),
                Some(Ok(Message::Close(frame))) => {
                    // The other side waits for our close frame, which the library sends during further reads.
                    while self.socket.next().await.is_some_and(|it| it.is_ok()) {}
                    return Ok(Err(frame));
                }
                Some(Err(_)) | None => return Ok(Err(None)),
            }
        }
    }
}

impl Answer {
    /// Returns the response, or the `ack` if the message has no response.
    ///
    /// # Errors
    /// Fails if the message was rejected.
    pub fn honoured(self) -> Result<Frame> {
        ensure!(self.ack["status"] == true, "refused: {}", self.ack.text);
        ensure!(self.ack.json.get("error").is_none(), "{}", self.ack.text);
        Ok(self.response.unwrap_or(self.ack))
    }

    /// Returns the error code of a rejected message.
    ///
    /// # Errors
    /// Fails if the message succeeded.
    pub fn refused(self) -> Result<String> {
        ensure!(
            self.ack["status"] == false,
            "not rejected: {}",
            self.ack.text
        );
        let error = &self.ack["error"];
        let reason = error.get("reason").and_then(Value::as_str);
        ensure!(reason.is_some_and(|it| !it.is_empty()), "{}", self.ack.text);
        let code = error.get("code").and_then(Value::as_str);
        Ok(code.context("an error has no code")?.to_owned())
    }
}

impl Frame {
    fn read(text: &str) -> Result<Self> {
        // Every number that the service passes on fits into a double, so any decoder reads the frame.
        let json = serde_json::from_str(text)?;
        Ok(Self {
            text: text.to_owned(),
            json,
        })
    }

    /// Returns a field that must be a number.
    ///
    /// # Errors
    /// Fails if the field is absent or has another type.
    pub fn number(&self, name: &str) -> Result<u64> {
        let number = self.json.get(name).and_then(Value::as_u64);
        number.with_context(|| format!("no number `{name}` in {}", self.text))
    }

    /// Returns a field that must be a string.
    ///
    /// # Errors
    /// Fails if the field is absent or has another type.
    pub fn text_of(&self, name: &str) -> Result<String> {
        let text = self.json.get(name).and_then(Value::as_str);
        Ok(text
            .with_context(|| format!("no string `{name}` in {}", self.text))?
            .to_owned())
    }

    /// Returns a field that must be an array.
    ///
    /// # Errors
    /// Fails if the field is absent or has another type.
    pub fn list(&self, name: &str) -> Result<&[Value]> {
        let list = self.json.get(name).and_then(Value::as_array);
        Ok(list.with_context(|| format!("no array `{name}` in {}", self.text))?)
    }
}

impl Index<&str> for Frame {
    type Output = Value;

    /// Returns a field, or null if it is absent.
    fn index(&self, name: &str) -> &Value {
        self.json.get(name).unwrap_or(&Value::Null)
    }
}

async fn timely<T>(what: &str, work: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(DEADLINE, work)
        .await
        .with_context(|| format!("{what} does not end in time"))
}
