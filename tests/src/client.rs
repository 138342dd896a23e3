//! A client that holds the service to the protocol: whatever breaks its rules of answers is an error, in every test.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Index;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, value::RawValue};
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
    /// As it came.
    pub text: String,
    /// What it says.
    pub json: Value,
}

/// What a client message was answered with.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The response, if there was one.
    pub response: Option<Frame>,
    /// The `ack` after it.
    pub ack: Frame,
}

impl Client {
    /// Opens a connection; gives the headers of the answer too.
    ///
    /// # Errors
    /// When it is refused; by an HTTP answer, as [`Refused`].
    pub async fn open(url: &str, headers: &[(&'static str, &str)]) -> Result<(Self, HeaderMap)> {
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            request
                .headers_mut()
                .insert(*name, HeaderValue::from_str(value)?);
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

    /// Sends a message and reads on to its `ack`. It gets an `id` if it has none.
    ///
    /// # Errors
    /// When it is not answered as the protocol says, or the connection ends.
    pub async fn ask(&mut self, mut message: Value) -> Result<Answer> {
        let fresh = self.fresh_id();
        let object = message.as_object_mut().context("a message is an object")?;
        let id = object.entry("id").or_insert_with(|| fresh.into()).clone();
        let id = id.as_str().context("an `id` is a string")?.to_owned();
        self.ask_text(&message.to_string(), &id).await
    }

    /// Sends a text, which has this `id`, and reads on to its `ack`.
    ///
    /// # Errors
    /// When it is not answered as the protocol says, or the connection ends.
    pub async fn ask_text(&mut self, text: &str, id: &str) -> Result<Answer> {
        self.send_text(text).await?;
        self.answer(id).await
    }

    /// Reads on to the `ack` of the message with this `id`. What is pushed meanwhile is kept.
    ///
    /// # Errors
    /// When another answer comes, or the connection ends.
    pub async fn answer(&mut self, id: &str) -> Result<Answer> {
        let mut response = None;
        loop {
            let frame = self.frame().await?;
            let Some(reply_to) = frame.json.get("reply-to") else {
                ensure!(
                    frame["type"] != "ack",
                    "an `ack` for nothing: {}",
                    frame.text
                );
                self.pushes.push_back(frame);
                continue;
            };
            ensure!(*reply_to == id, "asked {id:?} and not {}", frame.text);
            if frame["type"] == "ack" {
                ensure!(frame["id"] == id, "an `ack` for another: {}", frame.text);
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

    /// Asks, and gives the response to what was honoured; the `ack` if it has none.
    ///
    /// # Errors
    /// When it is not honoured.
    pub async fn request(&mut self, message: Value) -> Result<Frame> {
        let what = message.to_string();
        self.ask(message).await?.honoured().context(what)
    }

    /// Asks, and gives the code that it is refused with.
    ///
    /// # Errors
    /// When it is honoured.
    pub async fn refused(&mut self, message: Value) -> Result<String> {
        let what = message.to_string();
        self.ask(message).await?.refused().context(what)
    }

    /// An id that this client has not used.
    pub fn fresh_id(&mut self) -> String {
        self.asked += 1;
        self.asked.to_string()
    }

    /// Sends a text, whatever it is.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send_text(&mut self, text: &str) -> Result<()> {
        self.send_message(Message::text(text)).await
    }

    /// Sends a frame, whatever it is.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send_message(&mut self, message: Message) -> Result<()> {
        Ok(timely("sending", self.socket.send(message)).await??)
    }

    /// The next push.
    ///
    /// # Errors
    /// When none comes, or something else.
    pub async fn push(&mut self) -> Result<Frame> {
        match self.pushes.pop_front() {
            Some(push) => Ok(push),
            None => self.fresh_push().await,
        }
    }

    /// The next push of a type; those before it are kept.
    ///
    /// # Errors
    /// When none comes, or something else.
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

    /// The pushes that have come and that nobody took.
    pub fn kept(&mut self) -> Vec<Frame> {
        self.pushes.drain(..).collect()
    }

    async fn fresh_push(&mut self) -> Result<Frame> {
        let frame = self.frame().await?;
        ensure!(
            frame.json.get("reply-to").is_none() && frame["type"] != "ack",
            "an answer to nothing: {}",
            frame.text
        );
        Ok(frame)
    }

    /// The next server message, whatever it is.
    ///
    /// # Errors
    /// When none comes.
    pub async fn frame(&mut self) -> Result<Frame> {
        match self.message(DEADLINE).await? {
            Ok(frame) => Ok(frame),
            Err(close) => bail!("the connection was closed: {close:?}"),
        }
    }

    /// Reads until the service closes the connection: what came before, and how it closed.
    ///
    /// # Errors
    /// When it stays open so long.
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

    /// Closes the connection and waits until that is done.
    ///
    /// # Errors
    /// When it stays open.
    pub async fn close(mut self) -> Result<()> {
        self.socket.close(None).await?;
        self.closed_within(DEADLINE).await?;
        Ok(())
    }

    async fn message(&mut self, limit: Duration) -> Result<Result<Frame, Option<CloseFrame>>> {
        loop {
            let next = tokio::time::timeout(limit, self.socket.next()).await;
            match next.context("nothing comes")? {
                Some(Ok(Message::Text(text))) => {
                    return Ok(Ok(Frame::read(&text)?));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Binary(_))) => bail!("a binary frame"),
                Some(Ok(Message::Close(frame))) => {
                    // The other side waits for the answer, which is sent by reading on.
                    while self.socket.next().await.is_some_and(|it| it.is_ok()) {}
                    return Ok(Err(frame));
                }
                Some(Err(_)) | None => return Ok(Err(None)),
            }
        }
    }
}

impl Answer {
    /// The response to what was honoured; the `ack` if it has none.
    ///
    /// # Errors
    /// When it was refused.
    pub fn honoured(self) -> Result<Frame> {
        ensure!(self.ack["status"] == true, "refused: {}", self.ack.text);
        ensure!(self.ack.json.get("error").is_none(), "{}", self.ack.text);
        Ok(self.response.unwrap_or(self.ack))
    }

    /// The code of what was refused.
    ///
    /// # Errors
    /// When it was honoured.
    pub fn refused(self) -> Result<String> {
        ensure!(self.ack["status"] == false, "honoured: {}", self.ack.text);
        let error = &self.ack["error"];
        let reason = error.get("reason").and_then(Value::as_str);
        ensure!(reason.is_some_and(|it| !it.is_empty()), "{}", self.ack.text);
        let code = error.get("code").and_then(Value::as_str);
        Ok(code.context("an error has no code")?.to_owned())
    }
}

impl Frame {
    fn read(text: &str) -> Result<Self> {
        let json = serde_json::from_str(text).or_else(|_| {
            // Content may have numbers that no Rust type holds; such a field is read as null, and its text is there.
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
            let value = |raw: &RawValue| serde_json::from_str(raw.get()).unwrap_or(Value::Null);
            anyhow::Ok(
                fields
                    .into_iter()
                    .map(|(name, raw)| (name, value(raw)))
                    .collect(),
            )
        })?;
        Ok(Self {
            text: text.to_owned(),
            json,
        })
    }

    /// A number of it.
    ///
    /// # Errors
    /// When it is none.
    pub fn number(&self, name: &str) -> Result<u64> {
        let number = self.json.get(name).and_then(Value::as_u64);
        number.with_context(|| format!("no number `{name}` in {}", self.text))
    }

    /// A text of it.
    ///
    /// # Errors
    /// When it is none.
    pub fn text_of(&self, name: &str) -> Result<String> {
        let text = self.json.get(name).and_then(Value::as_str);
        Ok(text
            .with_context(|| format!("no text `{name}` in {}", self.text))?
            .to_owned())
    }

    /// A list of it.
    ///
    /// # Errors
    /// When it is none.
    pub fn list(&self, name: &str) -> Result<&[Value]> {
        let list = self.json.get(name).and_then(Value::as_array);
        Ok(list.with_context(|| format!("no list `{name}` in {}", self.text))?)
    }
}

impl Index<&str> for Frame {
    type Output = Value;

    /// A field, null if it is absent.
    fn index(&self, name: &str) -> &Value {
        self.json.get(name).unwrap_or(&Value::Null)
    }
}

async fn timely<T>(what: &str, it: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(DEADLINE, it)
        .await
        .with_context(|| format!("{what} does not end"))
}
