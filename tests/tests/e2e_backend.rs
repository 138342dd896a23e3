//! The HTTP API for back ends.

#![allow(clippy::indexing_slicing, reason = "a failed test shows the line")]

use anyhow::{Result, ensure};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tests::{DEADLINE, Site, eventually, send};

fn at(site: &Site, path: &str) -> String {
    format!("{}/domains/{}/{path}", site.urls.api, site.domain)
}

async fn call(site: &Site, method: Method, path: &str, body: &str) -> Result<(u16, Value)> {
    let (status, body) = send(method, &at(site, path), body).await?;
    Ok((status.as_u16(), body))
}

#[tokio::test]
async fn back_end_manages_channel() -> Result<()> {
    let site = Site::new()?;
    let put =
        json!({ "name": "Support", "attributes": { "big": 12345678901234567890_u64 } }).to_string();
    ensure!(call(&site, Method::PUT, "channels/c", &put).await?.0 == 201);
    ensure!(
        call(&site, Method::PUT, "channels/c", &put).await?.0 == 200,
        "the repetition is not idempotent"
    );
    // Add members.
    let mut alice = site.connect("alice").await?;
    ensure!(
        call(&site, Method::PUT, "channels/c/subscribers/alice", "")
            .await?
            .0
            == 204
    );
    let joined = alice.push_of("subscriber-joined").await?;
    ensure!(
        joined["subscriber"]["administrator"] == true,
        "the first member is no administrator"
    );
    ensure!(
        call(&site, Method::PUT, "channels/c/subscribers/bob", "{}")
            .await?
            .0
            == 204
    );
    ensure!(
        call(&site, Method::PUT, "channels/c/subscribers/bob", "{}")
            .await?
            .0
            == 204
    );

    // Send a message twice.
    let message = json!({ "from": "bob", "content": "hello", "message-id": "m" }).to_string();
    let (status, stored) = call(&site, Method::POST, "channels/c/messages", &message).await?;
    ensure!(
        status == 201 && stored["sequence"] == 3 && stored["duplicate"] == false,
        "{stored}"
    );
    let (status, again) = call(&site, Method::POST, "channels/c/messages", &message).await?;
    ensure!(
        status == 200 && again["sequence"] == 3 && again["duplicate"] == true,
        "{again}"
    );
    let pushed = alice.push_of("channel-message").await?;
    ensure!(pushed["from"] == "bob" && pushed["content"] == "hello");

    // Read the channel, its events and its members.
    let (_, shown) = call(&site, Method::GET, "channels/c", "").await?;
    ensure!(shown["members"] == 2 && shown["administrators"] == 1 && shown["last-sequence"] == 3);
    let (_, events) = call(&site, Method::GET, "channels/c/events?after=1&limit=1", "").await?;
    ensure!(
        events["events"][0]["sequence"] == 2 && events["more"] == true,
        "{events}"
    );
    let (_, members) = call(&site, Method::GET, "channels/c/subscribers?limit=1", "").await?;
    ensure!(members["subscribers"][0]["id"] == "alice" && members["next"] == "alice");

    // Remove a member and delete the channel, each twice.
    ensure!(
        call(&site, Method::DELETE, "channels/c/subscribers/bob", "")
            .await?
            .0
            == 204
    );
    ensure!(
        call(&site, Method::DELETE, "channels/c/subscribers/bob", "")
            .await?
            .0
            == 204
    );
    ensure!(alice.push_of("subscriber-left").await?["reason"] == "removed");
    ensure!(call(&site, Method::DELETE, "channels/c", "").await?.0 == 204);
    ensure!(call(&site, Method::DELETE, "channels/c", "").await?.0 == 204);
    alice.push_of("channel-deleted").await?;
    ensure!(call(&site, Method::GET, "channels/c", "").await?.0 == 404);
    ensure!(
        call(&site, Method::PUT, "channels/c", &put).await?.0 == 409,
        "the id can be used again"
    );
    Ok(())
}

#[tokio::test]
async fn invalid_requests_get_problem_documents() -> Result<()> {
    let site = Site::new()?;
    for (method, path, body, status) in [
        (Method::GET, "channels/none", "", 404),
        (Method::PUT, "channels/a%20b", r#"{"name":"x"}"#, 400),
        (Method::PUT, "channels/c", "{", 400),
        (Method::PUT, "channels/c", "[]", 400),
        (Method::PUT, "channels/c", r#"{"name":1}"#, 400),
        (Method::PUT, "channels/c", r#"{"name":"x","other":1}"#, 400),
        (Method::PUT, "channels/c", r#"{"name":"\ud800"}"#, 400),
        (Method::PATCH, "channels/c", "", 405),
        (Method::GET, "nothing", "", 404),
        (
            Method::POST,
            "subscribers/a/tokens",
            r#"{"expires-in":0}"#,
            400,
        ),
        (
            Method::POST,
            "subscribers/a/messages",
            r#"{"from":"a","content":1}"#,
            400,
        ),
        (
            Method::POST,
            "channels/none/messages",
            r#"{"from":"a","content":1}"#,
            404,
        ),
    ] {
        let (answered, problem) = call(&site, method.clone(), path, body).await?;
        ensure!(
            answered == status,
            "{method} {path} {body}: {answered} {problem}"
        );
        ensure!(
            problem["status"] == status && problem["detail"].is_string(),
            "{problem}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn disconnected_subscriber_keeps_its_tokens() -> Result<()> {
    let site = Site::new()?;
    let token = site.token("alice").await?;
    let mut alice = site.connect_with(&token).await?;
    alice
        .request(json!({ "type": "announce", "availability": "busy" }))
        .await?;
    let (_, shown) = call(&site, Method::GET, "subscribers/alice", "").await?;
    ensure!(
        shown["connections"].as_array().map(Vec::len) == Some(1),
        "{shown}"
    );
    ensure!(shown["presence"]["availability"] == "busy", "{shown}");
    ensure!(
        call(&site, Method::POST, "subscribers/alice/disconnect", "")
            .await?
            .0
            == 204
    );
    let last = alice.push_of("disconnect").await?;
    ensure!(last["code"] == "shutdown" && last["reconnect"] == true);
    alice.closed_within(DEADLINE).await?;
    site.connect_with(&token).await?;
    Ok(())
}

#[tokio::test]
async fn erasing_subscriber_keeps_event_order() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let (here, left) = (alice.create().await?, alice.create().await?);
    for channel in [&here, &left] {
        bob.join(channel).await?;
        bob.say(channel, &json!("secret")).await?;
        alice.say(channel, &json!("kept")).await?;
    }
    bob.leave(&left).await?;
    bob.tell("alice", &json!("secret")).await?;
    alice.tell("bob", &json!("kept")).await?;
    bob.request(json!({ "type": "announce", "availability": "available" }))
        .await?;
    let token = site.token("bob").await?;

    let (status, _) = call(&site, Method::POST, "subscribers/bob/erase", "").await?;
    ensure!(status == StatusCode::ACCEPTED.as_u16());
    bob.closed_within(DEADLINE).await?;
    ensure!(
        site.connect_with(&token).await.is_err(),
        "a token of the erased subscriber is accepted"
    );
    for destination in [
        json!({ "channel-id": here }),
        json!({ "channel-id": left }),
        json!({ "subscriber-id": "bob" }),
    ] {
        let events = eventually("the erased subscriber's messages are gone", async || {
            let events = alice.whole_history(&destination).await?;
            let secret = events.iter().any(|it| it.to_string().contains("secret"));
            Ok((!secret).then_some(events))
        })
        .await?;
        let numbers: Vec<u64> = events
            .iter()
            .filter_map(|it| it["sequence"].as_u64())
            .collect();
        ensure!(numbers == (1..=u64::try_from(numbers.len())?).collect::<Vec<_>>());
        ensure!(events.iter().any(|it| it["kind"] == "void"));
        ensure!(events.iter().any(|it| it["content"] == "kept"));
    }
    eventually("the erased subscriber is no longer a member", async || {
        let members = json!({ "type": "list-subscribers", "channel-id": here });
        let members = alice.request(members).await?;
        Ok((members.list("subscribers")?.len() == 1).then_some(()))
    })
    .await?;
    let (_, shown) = call(&site, Method::GET, "subscribers/bob", "").await?;
    ensure!(shown["presence"]["availability"] == "invisible");
    Ok(())
}
