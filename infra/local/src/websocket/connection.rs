//! One open connection: reads and writes frames until it ends.
//!
//! One task handles the socket in both directions, so that a connection costs little more than its read buffer.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::registry::{Closing, Command, Connection, Orders};
use crate::ids;

/// "WebSocket frame size: 32 KB", API Gateway quotas page.
const LARGEST_FRAME: usize = 32 * 1024;
/// "Message payload size: 128 KB", API Gateway quotas page.
const LARGEST_MESSAGE: usize = 128 * 1024;
/// The size of the read and the write buffer. It is small, because most connections are idle most of the time.
const BUFFER: usize = 4 * 1024;
/// How long a client has to read the last frames.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long a connection may live.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    /// The longest time without a message.
    pub idle: Duration,
    /// The longest time in all.
    pub max: Duration,
}

/// An open connection with its socket.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    orders: Orders,
    /// The queued close, once the task has seen it.
    closing: Option<Closing>,
    connection: Arc<Connection>,
    unflushed: bool,
}

enum Step {
    Command(Command),
    Closing(Closing),
    Read(Option<Result<Message, Error>>),
    Broken,
    TimeUp,
}

impl Socket {
    /// Takes over a TCP connection after its 101. `early` contains the bytes that the client sent directly after its
    /// request.
    pub async fn new(
        stream: TcpStream,
        early: Bytes,
        connection: Arc<Connection>,
        orders: Orders,
    ) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(BUFFER)
            .max_frame_size(Some(LARGEST_FRAME))
            .max_message_size(Some(LARGEST_MESSAGE));
        let early = early.to_vec();
        let stream =
            WebSocketStream::from_partially_read(stream, early, Role::Server, Some(config)).await;
        Self {
            stream,
            orders,
            closing: None,
            connection,
            unflushed: false,
        }
    }

    /// Carries messages in both directions until the connection ends, and returns how it ended. The gateway's close
    /// frame is then written, but the socket is still open: see [`Self::farewell`].
    pub async fn run(&mut self, lifetime: Lifetime, mut receive: impl FnMut(Utf8Bytes)) -> Closing {
        let mut sleep = pin!(tokio::time::sleep(lifetime.idle.min(lifetime.max)));
        let end = Instant::now() + lifetime.max;
        loop {
            match poll_fn(|cx| self.poll_step(cx, sleep.as_mut())).await {
                Step::Command(Command::Send(text)) => {
                    self.connection.taken(text.len());
                    if self.write(Message::Text(text)).await.is_err() {
                        return abnormal();
                    }
                }
                Step::Command(Command::Close(closing)) => return self.close(closing).await,
                Step::Closing(closing) => {
                    self.closing = Some(closing);
                    sleep.as_mut().reset(Instant::now() + FAREWELL);
                }
                Step::Read(Some(Ok(Message::Text(text)))) => {
                    self.connection.touch();
                    receive(text);
                }
                Step::Read(Some(Ok(Message::Binary(_)))) => {
                    return self.close(Closing::new(1003, "")).await;
                }
                Step::Read(Some(Ok(Message::Close(frame)))) => {
                    self.unflushed = true;
                    return frame.map_or_else(
                        || Closing::new(1005, "Client-side close frame status not set"),
                        |frame| Closing::new(frame.code.into(), &frame.reason),
                    );
                }
                // A pong has been queued. AWS does not document if pings keep a connection alive. Here they do not.
                Step::Read(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => {
                    self.unflushed = true;
                }
                Step::Read(Some(Err(error))) => return self.fail(&error).await,
                Step::Read(None) | Step::Broken => return abnormal(),
                Step::TimeUp => {
                    // The client did not read the frames before the close, so it would not read the close either.
                    if let Some(closing) = self.closing.take() {
                        return closing;
                    }
                    let left = self.time_left(lifetime.idle);
                    if left.is_zero() || Instant::now() >= end {
                        return self.close(Closing::new(1001, "Going away")).await;
                    }
                    sleep.as_mut().reset((Instant::now() + left).min(end));
                }
            }
        }
    }

    /// Lets the client read the last frames, then closes the TCP connection. Reads until the client's end, because
    /// closing a socket with unread data would reset it, and the client might lose the close frame.
    pub async fn farewell(mut self) {
        let goodbye = async {
            let _ = self.stream.flush().await;
            let mut stream = self.stream.into_inner();
            let _ = stream.shutdown().await;
            let mut rest = [0; 1024];
            while stream.read(&mut rest).await.is_ok_and(|length| length > 0) {}
        };
        let _ = tokio::time::timeout(FAREWELL, goodbye).await;
    }

    fn poll_step(&mut self, cx: &mut Context<'_>, sleep: Pin<&mut Sleep>) -> Poll<Step> {
        // Check for a close first, even if the client reads nothing. This happens once: afterwards the task waits for
        // the queued close.
        if self.closing.is_none()
            && let Poll::Ready(Ok(closing)) = self.orders.closes.poll_unpin(cx)
        {
            return Poll::Ready(Step::Closing(closing));
        }
        // Write only if the socket accepts more. The rest waits in the queue, where it is counted.
        match self.stream.poll_ready_unpin(cx) {
            Poll::Ready(Ok(())) => {
                if let Poll::Ready(Some(command)) = self.orders.commands.poll_recv(cx) {
                    return Poll::Ready(Step::Command(command));
                }
            }
            Poll::Ready(Err(_)) => return Poll::Ready(Step::Broken),
            Poll::Pending => {}
        }
        if self.unflushed {
            match self.stream.poll_flush_unpin(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(_)) => return Poll::Ready(Step::Broken),
                Poll::Pending => {}
            }
        }
        if let Poll::Ready(read) = self.stream.poll_next_unpin(cx) {
            return Poll::Ready(Step::Read(read));
        }
        sleep.poll(cx).map(|()| Step::TimeUp)
    }

    async fn write(&mut self, message: Message) -> Result<(), Error> {
        self.unflushed = true;
        self.stream.feed(message).await
    }

    async fn close(&mut self, closing: Closing) -> Closing {
        let frame = CloseFrame {
            code: closing.code.into(),
            reason: closing.reason.as_str().into(),
        };
        let _ = tokio::time::timeout(FAREWELL, self.write(Message::Close(Some(frame)))).await;
        closing
    }

    async fn fail(&mut self, error: &Error) -> Closing {
        let code = match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => 1009,
            Error::Utf8(_) => 1007,
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return abnormal(),
            Error::Protocol(_) => 1002,
            _ => return abnormal(),
        };
        self.close(Closing::new(code, "")).await
    }

    fn time_left(&self, idle: Duration) -> Duration {
        let quiet_ms = ids::now_ms().saturating_sub(self.connection.last_active_ms());
        idle.saturating_sub(Duration::from_millis(u64::try_from(quiet_ms).unwrap_or(0)))
    }
}

/// Returns the close status of a TCP connection that ended without a close frame.
fn abnormal() -> Closing {
    Closing::new(1006, "")
}
