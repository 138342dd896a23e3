//! SockJS over HTTP: the protocol's rules, and messages over each transport.

#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed test shows the line, and prints its figure"
)]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tests::{
    Gateway, Site, eventually, get,
    sockjs::{Session, Stream, exchange},
};

/// The streaming transports, with the text before and after a frame.
const STREAMS: [(&str, &str, &str); 2] = [
    ("xhr_streaming", "", "\n"),
    ("eventsource", "data: ", "\r\n\r\n"),
];

fn base(site: &Site) -> Result<String> {
    let url = site.urls.sockjs.clone();
    url.context("the deployment serves no SockJS")
}

/// Returns the messages of an `a[…]` frame.
fn messages(frame: &str) -> Result<Vec<Value>> {
    let array = frame.strip_prefix('a').context(frame.to_owned())?;
    let texts: Vec<String> = serde_json::from_str(array)?;
    let parsed = texts.iter().map(|it| serde_json::from_str(it));
    Ok(parsed.collect::<Result<_, _>>()?)
}

/// A client that polls or streams.
enum Line {
    Polling(Session),
    Streaming(Session, Stream, &'static str, &'static str),
}

impl Line {
    async fn polling(session: Session) -> Result<Self> {
        ensure!(session.frame().await? == "o");
        Ok(Self::Polling(session))
    }

    async fn streaming(
        session: Session,
        (transport, before, after): (&str, &'static str, &'static str),
    ) -> Result<Self> {
        let mut stream = session.stream(transport).await?;
        ensure!(stream.status == StatusCode::OK);
        // The first chunk is the transport's prelude.
        stream.next().await?;
        ensure!(stream.next().await? == format!("{before}o{after}"));
        Ok(Self::Streaming(session, stream, before, after))
    }

    fn session(&self) -> &Session {
        match self {
            Self::Polling(session) | Self::Streaming(session, ..) => session,
        }
    }

    async fn frame(&mut self) -> Result<String> {
        match self {
            Self::Polling(session) => session.frame().await,
            Self::Streaming(_, stream, before, after) => {
                let chunk = stream.next().await?;
                let frame = chunk
                    .strip_prefix(*before)
                    .and_then(|it| it.strip_suffix(*after));
                let frame = frame.with_context(|| format!("not exactly one frame: {chunk:?}"))?;
                // No message of these tests has a percent sign.
                Ok(frame.to_owned())
            }
        }
    }

    /// Reads until a message of this type and returns that message.
    async fn until(&mut self, kind: &str) -> Result<Value> {
        loop {
            let frame = self.frame().await?;
            if frame == "h" {
                continue;
            }
            let messages = messages(&frame)?;
            if let Some(found) = messages.into_iter().find(|it| it["type"] == kind) {
                return Ok(found);
            }
        }
    }

    async fn say(&self, message: Value) -> Result<()> {
        let answer = self.session().send(&[message]).await?;
        ensure!(answer.status == StatusCode::NO_CONTENT, "{answer:?}");
        ensure!(answer.body.is_empty());
        Ok(())
    }
}

/// Sends `hello`, creates a channel, and exchanges messages with a WebSocket client in both directions.
async fn talks(site: &Site, line: &mut Line) -> Result<()> {
    line.say(json!({"type": "hello", "id": "1"})).await?;
    let welcome = line.until("welcome").await?;
    ensure!(welcome["subscriber-id"] == "alice" && welcome["reply-to"] == "1");
    line.say(json!({"type": "create-channel", "id": "2", "name": "talk"}))
        .await?;
    let channel = line.until("invitation").await?["channel-id"].clone();
    line.say(json!({"type": "invite-subscriber", "id": "3", "channel-id": channel, "subscriber-id": "bob"}))
        .await?;
    let mut bob = site.connect("bob").await?;
    bob.join(
        channel
            .as_str()
            .context("the invitation has no channel id")?,
    )
    .await?;
    line.until("subscriber-joined").await?;
    let text = "\"\\ é \u{2028}\u{200c}😀";
    line.say(json!({"type": "channel-message", "id": "4", "channel-id": channel, "content": text}))
        .await?;
    let delivery = line.until("delivery").await?;
    ensure!(delivery["status"] == "stored");
    let heard = bob.push_of("channel-message").await?;
    ensure!(heard["content"] == text, "{heard:?}");
    bob.request(json!({"type": "channel-message", "channel-id": channel, "content": text}))
        .await?;
    let heard = line.until("channel-message").await?;
    ensure!(
        heard["from"] == "bob" && heard["content"] == text,
        "{heard}"
    );
    Ok(())
}

#[tokio::test]
async fn polling_client_reaches_websocket_client() -> Result<()> {
    let site = Site::new()?;
    let token = site.token("alice").await?;
    let mut line = Line::polling(Session::new(&base(&site)?, Some(&token))).await?;
    talks(&site, &mut line).await
}

#[tokio::test]
async fn streaming_client_gets_frames_as_chunks() -> Result<()> {
    for transport in STREAMS {
        let site = Site::new()?;
        let token = site.token("alice").await?;
        let session = Session::new(&base(&site)?, Some(&token));
        let mut line = Line::streaming(session, transport).await?;
        talks(&site, &mut line).await?;
    }
    Ok(())
}

#[tokio::test]
async fn requests_without_valid_token_get_401() -> Result<()> {
    let site = Site::new()?;
    let base = base(&site)?;
    let token = site.token("alice").await?;
    site.invalidate(&token).await?;
    let good = site.token("alice").await?;
    let twice = format!("{good}&access_token={good}");
    for bad in [None, Some("garbage"), Some(token.as_str()), Some(&twice)] {
        let session = Session::new(&base, bad);
        let info = bad.map_or(format!("{base}/info"), |it| {
            format!("{base}/info?access_token={it}")
        });
        let origin = [("origin", "http://page.example")];
        for (method, url) in [
            (Method::GET, info),
            (Method::POST, session.url("xhr")),
            (Method::POST, session.url("xhr_streaming")),
            (Method::GET, session.url("eventsource")),
            (Method::POST, session.url("xhr_send")),
        ] {
            let answer = exchange(method, &url, &origin, "[\"x\"]").await?;
            ensure!(
                answer.status == StatusCode::UNAUTHORIZED,
                "{url}: {answer:?}"
            );
            let readable = &answer.headers["access-control-allow-origin"];
            ensure!(
                readable == "http://page.example",
                "a page cannot read the answer"
            );
        }
    }
    let greeting = exchange(Method::GET, &base, &[], "").await?;
    ensure!(
        greeting.body == "Welcome to SockJS!\n",
        "the greeting needs no token"
    );
    Ok(())
}

#[tokio::test]
async fn info_is_complete_and_uncached() -> Result<()> {
    let site = Site::new()?;
    let token = site.token("alice").await?;
    let url = format!("{}/info?access_token={token}", base(&site)?);
    let (one, other) = (
        exchange(Method::GET, &url, &[], "").await?,
        exchange(Method::GET, &url, &[("origin", "null")], "").await?,
    );
    let (first, second): (Value, Value) = (
        serde_json::from_str(&one.body)?,
        serde_json::from_str(&other.body)?,
    );
    ensure!(first["websocket"] == true && first["cookie_needed"] == false);
    ensure!(first["origins"] == json!(["*:*"]));
    ensure!(first["entropy"].is_u64() && first["entropy"] != second["entropy"]);
    ensure!(one.headers["content-type"] == "application/json; charset=UTF-8");
    ensure!(
        one.headers["cache-control"]
            == "no-store, no-cache, no-transform, must-revalidate, max-age=0"
    );
    ensure!(one.headers["access-control-allow-origin"] == "*");
    ensure!(other.headers["access-control-allow-origin"] == "null");
    ensure!(other.headers["access-control-allow-credentials"] == "true");
    Ok(())
}

#[tokio::test]
async fn session_belongs_to_its_token() -> Result<()> {
    let site = Site::new()?;
    let (alice, bob) = (site.token("alice").await?, site.token("bob").await?);
    let mine = Session::new(&base(&site)?, Some(&alice));
    ensure!(mine.frame().await? == "o");
    // The same id with another token is another session, which does not exist yet.
    let theirs = mine.with_token(&bob);
    let sent = theirs.send(&[json!({"type": "ping"})]).await?;
    ensure!(sent.status == StatusCode::NOT_FOUND, "{sent:?}");
    ensure!(theirs.frame().await? == "o");
    for (session, who) in [(&mine, "alice"), (&theirs, "bob")] {
        session.send(&[json!({"type": "hello"})]).await?;
        let welcome = messages(&session.frame().await?)?;
        ensure!(welcome[0]["subscriber-id"] == who);
    }
    // Another token of the same subscriber does not open it either.
    let again = mine.with_token(&site.token("alice").await?);
    ensure!(again.frame().await? == "o");
    Ok(())
}

#[tokio::test]
async fn malformed_batch_gets_500() -> Result<()> {
    let site = Site::new()?;
    let token = site.token("alice").await?;
    let session = Session::new(&base(&site)?, Some(&token));
    ensure!(session.frame().await? == "o");
    let send = async |body: &str, kind: &str| {
        let kind = [("content-type", kind)];
        exchange(Method::POST, &session.url("xhr_send"), &kind, body).await
    };
    for (body, expected) in [
        ("", "Payload expected."),
        ("[\"x", "Broken JSON encoding."),
        ("{}", "Payload expected."),
        ("\"x\"", "Payload expected."),
    ] {
        let answer = send(body, "text/plain").await?;
        ensure!(answer.status == StatusCode::INTERNAL_SERVER_ERROR);
        ensure!(answer.body == expected, "{body}: {}", answer.body);
    }
    for kind in ["text/plain", "T", "application/json", "application/xml", ""] {
        let answer = send(
            "[\"{\\\"type\\\":\\\"ping\\\",\\\"id\\\":\\\"p\\\"}\"]",
            kind,
        )
        .await?;
        ensure!(answer.status == StatusCode::NO_CONTENT, "{answer:?}");
        let acked = messages(&session.frame().await?)?;
        ensure!(acked == [json!({"type": "ack", "id": "p", "reply-to": "p", "status": true})]);
    }
    ensure!(send("[]", "text/plain").await?.status == StatusCode::NO_CONTENT);
    Ok(())
}

#[tokio::test]
async fn batch_is_answered_in_one_frame() -> Result<()> {
    let site = Site::new()?;
    let token = site.token("alice").await?;
    let session = Session::new(&base(&site)?, Some(&token));
    ensure!(session.frame().await? == "o");
    let pings: Vec<Value> = (0..5)
        .map(|n| json!({"type": "ping", "id": n.to_string()}))
        .collect();
    ensure!(session.send(&pings).await?.status == StatusCode::NO_CONTENT);
    let acks = messages(&session.frame().await?)?;
    let ids: Vec<&Value> = acks.iter().map(|it| &it["reply-to"]).collect();
    ensure!(ids == ["0", "1", "2", "3", "4"], "{acks:?}");
    Ok(())
}

#[tokio::test]
async fn second_receiver_is_refused() -> Result<()> {
    let site = Site::new()?;
    let token = site.token("alice").await?;
    let session = Session::new(&base(&site)?, Some(&token));
    let mut line = Line::streaming(session.clone(), STREAMS[0]).await?;
    ensure!(session.frame().await? == "c[2010,\"Another connection still open\"]");
    let mut second = session.stream("eventsource").await?;
    let mut told = String::new();
    while let Some(chunk) = second.chunk().await? {
        told.push_str(&chunk);
    }
    ensure!(told == "\r\ndata: c[2010,\"Another connection still open\"]\r\n\r\n");
    line.say(json!({"type": "ping", "id": "1"})).await?;
    line.until("ack").await?;
    Ok(())
}

#[tokio::test]
async fn session_without_receiver_ends() -> Result<()> {
    let site = Site::new()?;
    let token = site.token("alice").await?;
    let session = Session::new(&base(&site)?, Some(&token));
    ensure!(session.frame().await? == "o");
    session
        .send(&[json!({"type": "announce", "availability": "available"})])
        .await?;
    session.frame().await?;
    let status = async || {
        let sent = session.send(&[]).await?;
        anyhow::Ok(sent.status)
    };
    ensure!(
        status().await? == StatusCode::NO_CONTENT,
        "the session is alive"
    );
    eventually("the session ends", async || {
        Ok((status().await? == StatusCode::NOT_FOUND).then_some(()))
    })
    .await?;
    // The same id begins a new session, and the connection of the old one is gone.
    ensure!(session.frame().await? == "o");
    let about = get(site.about("alice", "").trim_end_matches('/')).await?;
    ensure!(
        about["connections"].as_array().map(Vec::len) == Some(1),
        "{about}"
    );
    Ok(())
}

/// Invalidates the token while `line` waits, and checks its last frames.
async fn ends(site: &Site, token: &str, line: &mut Line) -> Result<()> {
    line.say(json!({"type": "hello"})).await?;
    line.until("ack").await?;
    let invalidated = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        site.invalidate(token).await
    };
    let told = async {
        let mut before = Vec::new();
        loop {
            let frame = line.frame().await?;
            if frame.starts_with('c') {
                return anyhow::Ok((before, frame));
            }
            before.extend(messages(&frame)?);
        }
    };
    let (invalidated, told) = tokio::join!(invalidated, told);
    invalidated?;
    let (before, last) = told?;
    let words = before.last().context("no message before the close frame")?;
    ensure!(words["type"] == "disconnect" && words["code"] == "token-invalidated");
    ensure!(last == "c[4401,\"token-invalidated\"]", "{last}");
    // The next poll gets the same close frame, and sending is refused at once.
    let sent = line.session().send(&[json!({"type": "ping"})]).await?;
    ensure!(sent.status == StatusCode::UNAUTHORIZED, "{sent:?}");
    ensure!(line.session().frame().await? == last);
    Ok(())
}

#[tokio::test]
async fn invalidation_ends_waiting_receivers() -> Result<()> {
    let site = Site::new()?;
    let base = base(&site)?;
    let token = site.token("alice").await?;
    let session = Session::new(&base, Some(&token));
    let mut polling = Line::polling(session).await?;
    let other = site.token("bob").await?;
    let session = Session::new(&base, Some(&other));
    let mut streaming = Line::streaming(session, STREAMS[0]).await?;
    let (one, two) = tokio::join!(
        ends(&site, &token, &mut polling),
        ends(&site, &other, &mut streaming)
    );
    one?;
    two
}

#[tokio::test]
async fn reauthorized_session_outlives_url_token() -> Result<()> {
    let site = Site::new()?;
    let (old, fresh) = (site.token("alice").await?, site.token("alice").await?);
    let session = Session::new(&base(&site)?, Some(&old));
    let mut line = Line::polling(session).await?;
    line.say(json!({"type": "authorize", "id": "1", "token": fresh}))
        .await?;
    line.until("authorized").await?;
    site.invalidate(&old).await?;
    line.say(json!({"type": "ping", "id": "2"})).await?;
    line.until("ack").await?;
    site.invalidate(&fresh).await?;
    let last = loop {
        let frame = line.frame().await?;
        if frame.starts_with('c') {
            break frame;
        }
    };
    ensure!(last == "c[4401,\"token-invalidated\"]", "{last}");
    Ok(())
}

/// The most database requests of an idle session: for a stream of one minute, and for two polls of 25 seconds.
const REQUESTS_OF_A_STREAM: u64 = 12;
const REQUESTS_OF_TWO_POLLS: u64 = 26;

#[tokio::test]
async fn idle_session_makes_few_requests() -> Result<()> {
    if Site::is_deployed() {
        return Ok(());
    }
    let streaming = async |session: &Session| {
        let mut stream = session.stream("xhr_streaming").await?;
        let mut heard = Vec::new();
        while let Some(chunk) = stream.chunk().await? {
            heard.push(chunk);
        }
        ensure!(heard[1..] == ["h\n", "h\n"], "{heard:?}");
        anyhow::Ok(())
    };
    let polling = async |session: &Session| {
        ensure!(session.frame().await? == "h");
        ensure!(session.frame().await? == "h");
        anyhow::Ok(())
    };
    let (stream, renewed, polls) = tokio::try_join!(
        idle(false, streaming),
        idle(true, streaming),
        idle(false, polling)
    )?;
    println!(
        "an idle stream of a minute: {stream} requests, with another token {renewed}, two idle polls of 25 s: {polls}"
    );
    ensure!(stream <= REQUESTS_OF_A_STREAM, "{stream} requests");
    ensure!(renewed <= REQUESTS_OF_A_STREAM, "{renewed} requests");
    ensure!(polls <= REQUESTS_OF_TWO_POLLS, "{polls} requests");
    Ok(())
}

/// Counts the database requests while one session runs `receive` and nothing else happens. If `renewed`, the session has
/// replaced its token, and the one in its URL is invalid.
async fn idle(renewed: bool, receive: impl AsyncFnOnce(&Session) -> Result<()>) -> Result<u64> {
    let gateway = Gateway::without_schedules()?;
    let site = Site::at(gateway.urls().clone());
    let token = site.token("alice").await?;
    let session = Session::new(&base(&site)?, Some(&token));
    let database = site.urls.dynamodb.as_deref();
    let units = format!(
        "{}/_local/units",
        database.context("the gateway has no DynamoDB URL")?
    );
    let requests = async || {
        let requests = get(&units).await?["requests"].as_u64();
        requests.context("the meter counts no requests")
    };
    ensure!(session.frame().await? == "o");
    if renewed {
        let fresh = site.token("alice").await?;
        let authorize = json!({"type": "authorize", "token": fresh});
        session.send(&[authorize]).await?;
        let frame = session.frame().await?;
        ensure!(frame.contains("authorized"), "{frame}");
        site.invalidate(&token).await?;
    }
    // All follow-up work of the connection is done when a poll ends with a heartbeat.
    ensure!(session.frame().await? == "h");
    let before = requests().await?;
    receive(&session).await?;
    Ok(requests().await? - before)
}
