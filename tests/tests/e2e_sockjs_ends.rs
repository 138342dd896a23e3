//! SockJS over HTTP: how sessions end, and what is kept when something dies.

#![allow(clippy::indexing_slicing, reason = "a test fails where it stands")]

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

/// A session that has said hello, and heard the answer.
async fn greeted(site: &Site, token: &str) -> Result<Session> {
    let session = session(site, token)?;
    ensure!(session.frame().await? == "o");
    let hello = session.send(&[json!({"type": "hello"})]).await?;
    ensure!(hello.status == StatusCode::NO_CONTENT, "{hello:?}");
    let welcome = session.frame().await?;
    ensure!(welcome.contains("welcome"), "{welcome}");
    Ok(session)
}

/// Its frames until the last one of the session.
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

/// Not yet, and not soon: each look is an invocation.
async fn later<T>() -> Result<Option<T>> {
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(None)
}

/// Kills every process of the function that has requests for frames.
async fn kill_receivers(site: &Site) -> Result<()> {
    let lambda = site.urls.lambda.as_deref().context("it has no Lambda")?;
    let instances = get(&format!("{lambda}/_local/functions")).await?;
    let instances = instances.as_array().context("no list of functions")?;
    let receivers = instances
        .iter()
        .filter(|it| it["function"] == "SockjsFunction");
    let pids: Vec<String> = receivers.map(|it| it["pid"].to_string()).collect();
    ensure!(!pids.is_empty(), "nobody receives: {instances:?}");
    Command::new("kill").arg("-9").args(&pids).status()?;
    Ok(())
}

#[tokio::test]
async fn what_came_while_a_receiver_was_dead_is_there_once_its_lease_is_over() -> Result<()> {
    if Site::is_deployed() {
        return Ok(());
    }
    let gateway = Gateway::without_schedules()?;
    let site = Site::at(gateway.urls().clone());
    let alice = greeted(&site, &site.token("alice").await?).await?;
    let mut bob = site.connect("bob").await?;
    let mut stream = alice.stream("xhr_streaming").await?;
    // Its response has begun, so the lease is its own.
    stream.next().await?;
    kill_receivers(&site).await?;
    ensure!(alice.frame().await? == ANOTHER, "the lease still stands");
    let said = json!("while nobody received");
    bob.tell("alice", &said).await?;
    let frame = eventually("the lease is over", async || {
        let frame = alice.frame().await?;
        if frame == ANOTHER {
            return later().await;
        }
        Ok(Some(frame))
    })
    .await?;
    // The same session: it does not begin again.
    let texts: Vec<String> = serde_json::from_str(frame.strip_prefix('a').context(frame.clone())?)?;
    let first: Value = serde_json::from_str(texts.first().context("it is empty")?)?;
    ensure!(first["content"] == said, "{first}");
    let ping = alice.send(&[json!({"type": "ping", "id": "1"})]).await?;
    ensure!(ping.status == StatusCode::NO_CONTENT, "{ping:?}");
    ensure!(alice.frame().await?.contains("ack"));
    Ok(())
}

#[tokio::test]
async fn an_invalidation_between_two_requests_is_told_to_the_next() -> Result<()> {
    let site = Site::new()?;
    let token = site.token("alice").await?;
    let alice = greeted(&site, &token).await?;
    site.invalidate(&token).await?;
    let frames = rest(&alice).await?;
    let (last, before) = frames.split_last().context("nothing is told")?;
    ensure!(last == "c[4401,\"token-invalidated\"]", "{frames:?}");
    ensure!(before.concat().contains("disconnect"), "{frames:?}");
    let sent = alice.send(&[json!({"type": "ping"})]).await?;
    ensure!(sent.status == StatusCode::UNAUTHORIZED, "{sent:?}");
    let anew = session(&site, &token)?.poll().await?;
    ensure!(anew.status == StatusCode::UNAUTHORIZED, "{anew:?}");
    Ok(())
}

#[tokio::test]
async fn the_minute_s_run_ends_what_is_dead_and_what_outlived_its_token() -> Result<()> {
    if Site::is_deployed() {
        return Ok(());
    }
    let gateway = Gateway::without_schedules()?;
    let site = Site::at(gateway.urls().clone());
    // Not at once: the run that ends the one would end the other before that has been looked at.
    dead(&site).await?;
    outlived(&site).await
}

/// Nobody asks for alice's frames any more: bob sees her gone.
async fn dead(site: &Site) -> Result<()> {
    let alice = greeted(site, &site.token("alice").await?).await?;
    let connections = async || {
        let about = get(site.about("alice", "").trim_end_matches('/')).await?;
        let connections = about["connections"].as_array().map(Vec::len);
        connections.with_context(|| format!("no connections: {about}"))
    };
    ensure!(connections().await? == 1);
    eventually("her session is dead", async || {
        let sent = alice.send(&[]).await?;
        if sent.status == StatusCode::NO_CONTENT {
            return later().await;
        }
        ensure!(sent.status == StatusCode::NOT_FOUND, "{sent:?}");
        Ok(Some(()))
    })
    .await?;
    ensure!(connections().await? == 1, "nobody has noticed yet");
    // It stands in the minute in which it would have ended with its first receiver.
    eventually("she is gone", async || {
        site.expire().await?;
        if connections().await? > 0 {
            return later().await;
        }
        Ok(Some(()))
    })
    .await
}

/// Carol's token ends while her session goes on polling.
async fn outlived(site: &Site) -> Result<()> {
    let token = site.short_token("carol", 10).await?;
    let carol = greeted(site, &token).await?;
    let polling = tokio::spawn(async move { rest(&carol).await });
    let info = format!("{}/info?access_token={token}", base(site)?);
    eventually("the token has ended", async || {
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
    let (last, before) = frames.split_last().context("nothing is told")?;
    ensure!(last == "c[4401,\"token-expired\"]", "{frames:?}");
    ensure!(before.concat().contains("disconnect"), "{frames:?}");
    Ok(())
}
