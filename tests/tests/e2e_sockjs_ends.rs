//! SockJS over HTTP: the ends of sessions, and the messages that survive a dead receiver.

#![allow(clippy::indexing_slicing, reason = "a failed test shows the line")]

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tests::{
    Gateway, Site, eventually, get,
    sockjs::{Session, exchange},
};

const ANOTHER: &str = "c[2010,\"Another connection still open\"]";

fn base(site: &Site) -> Result<&str> {
    let base = site.urls.sockjs.as_deref();
    base.context("the deployment serves no SockJS")
}

fn session(site: &Site, token: &str) -> Result<Session> {
    Ok(Session::new(base(site)?, Some(token)))
}

/// Opens a session, sends `hello` and reads the answer.
async fn greeted(site: &Site, token: &str) -> Result<Session> {
    let session = session(site, token)?;
    ensure!(session.frame().await? == "o");
    let hello = session.send(&[json!({"type": "hello"})]).await?;
    ensure!(hello.status == StatusCode::NO_CONTENT, "{hello:?}");
    let welcome = session.frame().await?;
    ensure!(welcome.contains("welcome"), "{welcome}");
    Ok(session)
}

/// Returns the frames up to the last one of the session.
async fn rest(session: &Session) -> Result<Vec<String>> {
    let mut frames = Vec::new();
    loop {
        let frame = session.frame().await?;
        let last = frame.starts_with('c');
        frames.push(frame);
        if last {
            return Ok(frames);
        }
    }
}

/// Waits before the next check, because each check is an invocation.
async fn later<T>() -> Result<Option<T>> {
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(None)
}

/// Kills all processes of the function `sockjs`, which hold the clients' receive requests.
async fn kill_receivers(site: &Site) -> Result<()> {
    let lambda = site
        .urls
        .lambda
        .as_deref()
        .context("the deployment has no Lambda URL")?;
    let instances = get(&format!("{lambda}/_local/functions")).await?;
    let instances = instances.as_array().context("no list of functions")?;
    let receivers = instances
        .iter()
        .filter(|it| it["function"] == "SockjsFunction");
    let pids: Vec<String> = receivers.map(|it| it["pid"].to_string()).collect();
    ensure!(
        !pids.is_empty(),
        "no process of the function: {instances:?}"
    );
    Command::new("kill").arg("-9").args(&pids).status()?;
    Ok(())
}

#[tokio::test]
async fn dead_receiver_loses_no_messages() -> Result<()> {
    if Site::is_deployed() {
        return Ok(());
    }
    let gateway = Gateway::without_schedules()?;
    let site = Site::at(gateway.urls().clone());
    let alice = greeted(&site, &site.token("alice").await?).await?;
    let mut bob = site.connect("bob").await?;
    let mut stream = alice.stream("xhr_streaming").await?;
    // The response has begun, so its request holds the session's lease.
    stream.next().await?;
    kill_receivers(&site).await?;
    ensure!(alice.frame().await? == ANOTHER, "the lease still holds");
    let said = json!("sent without a receiver");
    bob.tell("alice", &said).await?;
    let frame = eventually("the lease ends", async || {
        let frame = alice.frame().await?;
        if frame == ANOTHER {
            return later().await;
        }
        Ok(Some(frame))
    })
    .await?;
    // It is the same session: the frame is `a` and not `o`.
    let texts: Vec<String> = serde_json::from_str(frame.strip_prefix('a').context(frame.clone())?)?;
    let first: Value = serde_json::from_str(texts.first().context("the frame has no message")?)?;
    ensure!(first["content"] == said, "{first}");
    let ping = alice.send(&[json!({"type": "ping", "id": "1"})]).await?;
    ensure!(ping.status == StatusCode::NO_CONTENT, "{ping:?}");
    ensure!(alice.frame().await?.contains("ack"));
    Ok(())
}

#[tokio::test]
async fn next_poll_reports_invalidation() -> Result<()> {
    let site = Site::new()?;
    let token = site.token("alice").await?;
    let alice = greeted(&site, &token).await?;
    site.invalidate(&token).await?;
    let frames = rest(&alice).await?;
    let (last, before) = frames.split_last().context("there is no frame")?;
    ensure!(last == "c[4401,\"token-invalidated\"]", "{frames:?}");
    ensure!(before.concat().contains("disconnect"), "{frames:?}");
    let sent = alice.send(&[json!({"type": "ping"})]).await?;
    ensure!(sent.status == StatusCode::UNAUTHORIZED, "{sent:?}");
    let fresh = session(&site, &token)?.poll().await?;
    ensure!(fresh.status == StatusCode::UNAUTHORIZED, "{fresh:?}");
    Ok(())
}

#[tokio::test]
async fn expiry_run_ends_dead_sessions() -> Result<()> {
    if Site::is_deployed() {
        return Ok(());
    }
    let gateway = Gateway::without_schedules()?;
    let site = Site::at(gateway.urls().clone());
    // One after the other: the run that ends the first session would end the second before its checks.
    dead(&site).await?;
    outlived(&site).await
}

/// Alice's client stops polling. The expiry run removes her connection.
async fn dead(site: &Site) -> Result<()> {
    let alice = greeted(site, &site.token("alice").await?).await?;
    let connections = async || {
        let about = get(site.about("alice", "").trim_end_matches('/')).await?;
        let connections = about["connections"].as_array().map(Vec::len);
        connections.with_context(|| format!("no connections: {about}"))
    };
    ensure!(connections().await? == 1);
    eventually("alice's session ends", async || {
        let sent = alice.send(&[]).await?;
        if sent.status == StatusCode::NO_CONTENT {
            return later().await;
        }
        ensure!(sent.status == StatusCode::NOT_FOUND, "{sent:?}");
        Ok(Some(()))
    })
    .await?;
    ensure!(
        connections().await? == 1,
        "the connection is not removed before the run"
    );
    // The index lists the session in the minute in which it would have ended after its first receiver.
    eventually("alice's connection is removed", async || {
        site.expire().await?;
        if connections().await? > 0 {
            return later().await;
        }
        Ok(Some(()))
    })
    .await
}

/// Carol's token expires while her session is polling.
async fn outlived(site: &Site) -> Result<()> {
    let token = site.short_token("carol", 10).await?;
    let carol = greeted(site, &token).await?;
    let polling = tokio::spawn(async move { rest(&carol).await });
    let info = format!("{}/info?access_token={token}", base(site)?);
    eventually("the token expires", async || {
        let answer = exchange(Method::GET, &info, &[], "").await?;
        if answer.status == StatusCode::OK {
            return later().await;
        }
        ensure!(answer.status == StatusCode::UNAUTHORIZED, "{answer:?}");
        Ok(Some(()))
    })
    .await?;
    site.expire().await?;
    let frames = polling.await??;
    let (last, before) = frames.split_last().context("there is no frame")?;
    ensure!(last == "c[4401,\"token-expired\"]", "{frames:?}");
    ensure!(before.concat().contains("disconnect"), "{frames:?}");
    Ok(())
}
