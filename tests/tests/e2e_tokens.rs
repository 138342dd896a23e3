//! Authentication of handshakes, and the connections of invalidated tokens.

#![allow(clippy::indexing_slicing, reason = "a failed test shows the line")]

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use http::StatusCode;
use serde_json::json;
use tests::{Client, DEADLINE, Refused, Site, eventually};

/// The limit for closing the connections of an invalidated token.
const DROPPED: Duration = Duration::from_secs(5);

#[tokio::test]
async fn token_is_accepted_in_three_places() -> Result<()> {
    let site = Site::new()?;
    let token = site.token("alice").await?;
    let url = &site.urls.websocket;
    let bearer = format!("Bearer {token}");
    let offer = format!("messaging.v1, bearer.{token}");
    let query = format!("{url}?access_token={token}");
    let (by_header, _) = Client::open(url, &[("authorization", &bearer)]).await?;
    let (by_query, _) = Client::open(&query, &[]).await?;
    let (by_offer, answer) = Client::open(url, &[("sec-websocket-protocol", &offer)]).await?;
    ensure!(answer["sec-websocket-protocol"] == "messaging.v1");
    for value in answer.values() {
        ensure!(!value.to_str()?.contains(&token), "the token is echoed");
    }
    for mut client in [by_header, by_query, by_offer] {
        let welcome = client.request(json!({ "type": "hello" })).await?;
        ensure!(welcome["subscriber-id"] == "alice");
        ensure!(welcome["domain"] == site.domain);
    }
    Ok(())
}

#[tokio::test]
async fn two_tokens_get_401() -> Result<()> {
    let site = Site::new()?;
    let token = site.token("alice").await?;
    let bearer = format!("Bearer {token}");
    let offer = format!("messaging.v1, bearer.{token}");
    let two_offers = format!("messaging.v1, bearer.{token}, bearer.{token}");
    let header = ("authorization", bearer.as_str());
    let offered = ("sec-websocket-protocol", offer.as_str());
    let urls = [Some(&site.urls.websocket), site.urls.stage.as_ref()];
    for url in urls.into_iter().flatten() {
        let query = format!("{url}?access_token={token}");
        let twice = format!("{query}&access_token={token}");
        for (url, headers) in [
            (&query, &[header][..]),
            (url, &[header, header]),
            (&query, &[("authorization", "Basic YTpi")]),
            (&query, &[("authorization", "Bearer")]),
            (&query, &[offered]),
            (&twice, &[]),
            (url, &[header, offered]),
            (url, &[("sec-websocket-protocol", &two_offers)]),
        ] {
            unauthorized(Client::open(url, headers).await)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn handshake_without_valid_token_gets_401() -> Result<()> {
    let site = Site::new()?;
    let invalidated = site.token("alice").await?;
    site.connect_with(&invalidated).await?.close().await?;
    site.invalidate(&invalidated).await?;
    let long = "x".repeat(2000);
    let garbage = [
        "",
        "garbage",
        "a.b.c",
        "%00",
        "%F0%9F%98%80",
        &long,
        &invalidated,
    ];
    let urls = [Some(&site.urls.websocket), site.urls.stage.as_ref()];
    for url in urls.into_iter().flatten() {
        unauthorized(Client::open(url, &[]).await)?;
        unauthorized(Client::open(url, &[("authorization", "Basic YTpi")]).await)?;
        unauthorized(Client::open(url, &[("authorization", "Bearer")]).await)?;
        unauthorized(Client::open(url, &[("sec-websocket-protocol", "messaging.v1")]).await)?;
        for token in garbage {
            unauthorized(Client::open(&format!("{url}?access_token={token}"), &[]).await)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn expired_token_gets_401() -> Result<()> {
    let site = Site::new()?;
    let token = site.short_token("alice", 1).await?;
    eventually("an expired token is refused", || async {
        Ok(match site.connect_with(&token).await {
            Ok(_) => None,
            Err(error) => Some(unauthorized::<Client>(Err(error))?),
        })
    })
    .await
}

#[tokio::test]
async fn invalidation_closes_only_own_connections() -> Result<()> {
    let site = Site::new()?;
    let token = site.token("alice").await?;
    let mut dropped = [
        site.connect_with(&token).await?,
        site.connect_with(&token).await?,
    ];
    let mut other = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    for client in &mut dropped {
        client.request(json!({ "type": "ping" })).await?;
    }
    site.invalidate(&token).await?;
    for client in &mut dropped {
        let (frames, _) = client.closed_within(DROPPED).await?;
        ensure!(frames.len() == 1, "{frames:?}");
        ensure!(frames[0]["type"] == "disconnect", "{frames:?}");
        ensure!(frames[0]["code"] == "token-invalidated", "{frames:?}");
        ensure!(frames[0]["reconnect"].is_boolean(), "{frames:?}");
    }
    unauthorized(site.connect_with(&token).await)?;
    other.request(json!({ "type": "ping" })).await?;
    bob.request(json!({ "type": "ping" })).await?;
    ensure!(other.kept().is_empty() && bob.kept().is_empty());
    // A second invalidation changes nothing, nor does an invalidation of an unknown token.
    site.invalidate(&token).await?;
    site.invalidate("garbage").await
}

#[tokio::test]
async fn all_subscriber_tokens_are_invalidated() -> Result<()> {
    let site = Site::new()?;
    let mut first = site.connect("alice").await?;
    let mut second = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    site.invalidate_all("alice").await?;
    for client in [&mut first, &mut second] {
        let (frames, _) = client.closed_within(DEADLINE).await?;
        ensure!(
            frames.iter().any(|it| it["code"] == "token-invalidated"),
            "{frames:?}"
        );
    }
    bob.request(json!({ "type": "ping" })).await?;
    site.connect("alice")
        .await?
        .request(json!({ "type": "ping" }))
        .await?;
    Ok(())
}

#[tokio::test]
async fn nothing_is_accepted_after_invalidation() -> Result<()> {
    let site = Site::new()?;
    let token = site.token("alice").await?;
    let mut alice = site.connect_with(&token).await?;
    let mut bob = site.connect("bob").await?;
    let message = json!({ "type": "direct-message", "subscriber-id": "bob", "content": 1 });
    alice.request(message.clone()).await?;
    let sender = tokio::spawn(async move {
        // Sends until the service closes the connection.
        while alice.ask(message.clone()).await.is_ok() {}
    });
    bob.push_of("direct-message").await?;
    site.invalidate(&token).await?;
    let history = json!({ "type": "get-history", "subscriber-id": "alice", "limit": 1 });
    let last = bob
        .request(history.clone())
        .await?
        .number("last-sequence")?;
    sender.await?;
    let later = bob.request(history).await?.number("last-sequence")?;
    // A message sent before the invalidation may be stored after it. Alice has one message in flight at a time.
    ensure!(
        later <= last + 1,
        "{} messages after the invalidation",
        later - last
    );
    Ok(())
}

fn unauthorized<T>(connected: Result<T>) -> Result<()> {
    match connected {
        Ok(_) => bail!("the handshake was accepted"),
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(Refused(StatusCode::UNAUTHORIZED)) => Ok(()),
            _ => Err(error),
        },
    }
}
