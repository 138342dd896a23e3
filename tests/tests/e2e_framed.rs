//! SockJS framing over a WebSocket, byte for byte.

#![allow(clippy::print_stdout, reason = "a test may print its measurements")]

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tests::{DEADLINE, Site, eventually, post};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Text with characters that some encoding on the way escapes.
const TEXT: &str = "100% \"\\ é \u{2028} \u{200c} \u{fffe} \0 😀 </script>\r\n";

/// A SockJS-framed connection.
struct SockjsClient(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl SockjsClient {
    /// Connects to the WebSocket API itself, as the edge does for a SockJS URL.
    async fn connect(site: &Site, token: &str) -> Result<Self> {
        let stage = site.urls.stage.as_deref().unwrap_or(&site.urls.websocket);
        let url = format!("{stage}?framing=sockjs&access_token={token}");
        Ok(Self(connect_async(url).await?.0))
    }

    /// Connects and reads the open frame.
    async fn open(site: &Site, subscriber: &str) -> Result<Self> {
        let mut client = Self::connect(site, &site.token(subscriber).await?).await?;
        let first = client.frame().await?;
        ensure!(first.as_deref() == Some("o"), "{first:?} before `o`");
        Ok(client)
    }

    async fn send(&mut self, text: &str) -> Result<()> {
        Ok(self.0.send(Message::text(text)).await?)
    }

    /// Sends messages in one frame.
    async fn say(&mut self, messages: &[Value]) -> Result<()> {
        let messages: Vec<String> = messages.iter().map(Value::to_string).collect();
        self.send(&json!(messages).to_string()).await
    }

    /// Returns the next frame, or `None` if the connection was closed.
    async fn frame(&mut self) -> Result<Option<String>> {
        loop {
            let next = tokio::time::timeout(DEADLINE, self.0.next()).await;
            match next.context("nothing arrives")? {
                Some(Ok(Message::Text(text))) => return Ok(Some(text.to_string())),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Binary(_))) => bail!("a binary frame"),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(None),
            }
        }
    }

    /// Returns the messages of the next frame, and the frame itself.
    async fn messages(&mut self) -> Result<(Vec<Value>, String)> {
        let frame = self.frame().await?.context("closed")?;
        let array = frame.strip_prefix('a').context(frame.clone())?;
        let texts: Vec<String> = serde_json::from_str(array)?;
        let messages = texts.iter().map(|it| serde_json::from_str(it));
        Ok((messages.collect::<Result<_, _>>()?, frame))
    }

    /// Returns the next frame that contains a message of this type. Skips earlier frames, such as delivery notices.
    async fn messages_with(&mut self, kind: &str) -> Result<(Vec<Value>, String)> {
        loop {
            let (messages, frame) = self.messages().await?;
            if types(&messages).contains(&kind) {
                return Ok((messages, frame));
            }
        }
    }

    /// Returns all frames until the connection is closed.
    async fn rest(&mut self) -> Result<Vec<String>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame().await? {
            frames.push(frame);
        }
        Ok(frames)
    }
}

fn types(messages: &[Value]) -> Vec<&str> {
    let kinds = messages.iter().map(|it| it.get("type"));
    kinds.filter_map(|it| it.and_then(Value::as_str)).collect()
}

#[tokio::test]
async fn response_and_ack_share_one_frame() -> Result<()> {
    let site = Site::new()?;
    let mut alice = SockjsClient::open(&site, "alice").await?;
    alice.say(&[json!({"type": "hello", "id": "1"})]).await?;
    let (messages, _) = alice.messages().await?;
    ensure!(types(&messages) == ["welcome", "ack"], "{messages:?}");
    Ok(())
}

#[tokio::test]
async fn text_is_escaped_and_preserved() -> Result<()> {
    let site = Site::new()?;
    let mut alice = SockjsClient::open(&site, "alice").await?;
    let mut bob = site.connect("bob").await?;
    let said = |to: &str| json!({"type": "direct-message", "subscriber-id": to, "content": TEXT});
    alice.say(&[said("bob")]).await?;
    ensure!(bob.push_of("direct-message").await?["content"] == TEXT);
    let (answer, _) = alice.messages_with("ack").await?;
    ensure!(types(&answer) == ["delivery", "ack"], "{answer:?}");
    bob.request(said("alice")).await?;
    let (pushed, frame) = alice.messages_with("direct-message").await?;
    let content = pushed.first().and_then(|it| it.get("content"));
    ensure!(content.is_some_and(|it| it == TEXT), "{frame}");
    for escape in [r"\u2028", r"\u200c", r"\ufffe", r"\ud83d\ude00"] {
        ensure!(frame.contains(escape), "{escape} is not in {frame}");
    }
    Ok(())
}

#[tokio::test]
async fn batched_messages_are_answered_in_order() -> Result<()> {
    let site = Site::new()?;
    let mut alice = SockjsClient::open(&site, "alice").await?;
    let pings: Vec<Value> = (0..10)
        .map(|it| json!({"type": "ping", "id": it.to_string()}))
        .collect();
    alice.say(&pings).await?;
    for ping in &pings {
        let (answer, frame) = alice.messages().await?;
        ensure!(types(&answer) == ["ack"], "{frame}");
        ensure!(
            answer.first().and_then(|it| it.get("id")) == ping.get("id"),
            "{frame}"
        );
    }
    // No message, a message without an array, and a message that is not a string.
    for text in [
        "[]",
        r#""{\"type\":\"ping\",\"id\":\"a\"}""#,
        r#"[{"type": "ping", "id": "b"}]"#,
    ] {
        alice.send(text).await?;
    }
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (answer, _) = alice.messages().await?;
        ids.extend(answer.iter().map(|it| it.get("id").cloned()));
    }
    // Separate frames may be answered in any order.
    ids.sort_by_key(|it| format!("{it:?}"));
    ensure!(ids == [Some(json!("a")), Some(json!("b"))], "{ids:?}");
    Ok(())
}

#[tokio::test]
async fn broken_frame_ends_session() -> Result<()> {
    let site = Site::new()?;
    let mut alice = SockjsClient::open(&site, "alice").await?;
    alice.send(r#"["{"#).await?;
    let rest = alice.rest().await?;
    ensure!(rest == [r#"c[3000,"Broken framing."]"#], "{rest:?}");
    Ok(())
}

/// Ends sessions with `end` until one gets a `disconnect` message before its close frame. Right after `o` the service may not
/// know yet that the client received it, so it then sends only the close frame. The close frame always has the reason.
async fn ends_with_reason(
    site: &Site,
    code: &str,
    close: &str,
    end: impl AsyncFn(&str) -> Result<()>,
) -> Result<()> {
    eventually(
        "the session gets a message before its close frame",
        async || {
            let token = site.token("alice").await?;
            let mut session = SockjsClient::connect(site, &token).await?;
            ensure!(session.frame().await?.as_deref() == Some("o"));
            session.say(&[json!({"type": "ping", "id": "1"})]).await?;
            session.messages_with("ack").await?;
            end(&token).await?;
            let frames = session.rest().await?;
            let [before @ .., last] = frames.as_slice() else {
                bail!("no close frame");
            };
            ensure!(last == close, "{frames:?}");
            let said = format!(r#"\"code\":\"{code}\""#);
            match before {
                [] => Ok(None),
                [frame] if frame.contains(&said) && frame.contains("disconnect") => Ok(Some(())),
                _ => bail!("{frames:?}"),
            }
        },
    )
    .await
}

#[tokio::test]
async fn last_frame_has_close_reason() -> Result<()> {
    let site = Site::new()?;
    ends_with_reason(&site, "shutdown", r#"c[3001,"shutdown"]"#, async |_| {
        post(&site.about("alice", "disconnect"), &json!({})).await?;
        Ok(())
    })
    .await?;
    let close = r#"c[4401,"token-invalidated"]"#;
    ends_with_reason(&site, "token-invalidated", close, async |token| {
        site.invalidate(token).await?;
        let refused = SockjsClient::connect(&site, token).await.is_err();
        ensure!(refused, "the invalidated token is still accepted");
        Ok(())
    })
    .await
}

/// Measures without asserting the figures. `--no-capture` shows them.
#[tokio::test]
async fn session_opening_time_is_measured() -> Result<()> {
    let site = Site::new()?;
    let token = site.token("alice").await?;
    let mut times = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        let mut client = SockjsClient::connect(&site, &token).await?;
        let handshake = begun.elapsed();
        ensure!(client.frame().await?.as_deref() == Some("o"));
        times.push((begun.elapsed().saturating_sub(handshake), handshake));
        client.0.close(None).await?;
    }
    times.sort();
    let middle = times.get(times.len() / 2).context("no measurements")?;
    println!(
        "`o` after the handshake: median {:?} of {:?} in total",
        middle.0,
        middle.0 + middle.1
    );
    Ok(())
}
