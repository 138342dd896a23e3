//! A scenario that uses every right at least once.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tests::{Client, DEADLINE, Refused, Site, eventually, send};

use crate::issuer::Issuer;

/// One connection more than a subscriber may have.
const CONNECTIONS: usize = 21;

/// Runs all actions of clients and back ends.
pub(crate) async fn everything(site: &Site) -> Result<()> {
    channels(site).await?;
    conversations(site).await?;
    too_many_connections(site).await?;
    dropped(site).await?;
    back_end(site).await
}

async fn channels(site: &Site) -> Result<()> {
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    alice.request(json!({ "type": "hello" })).await?;
    announce(&mut alice).await?;
    let channel = alice.create().await?;
    bob.join(&channel).await?;
    announce(&mut bob).await?;
    alice.push_of("presence").await?;
    let about = |message_type: &str, more: Value| {
        let mut message = more;
        message["type"] = message_type.into();
        message["channel-id"] = channel.clone().into();
        message
    };
    let said = about(
        "channel-message",
        json!({ "content": "said", "message-id": "m" }),
    );
    alice.request(said.clone()).await?;
    ensure!(alice.request(said).await?["duplicate"] == true);
    let event = bob.push_of("channel-message").await?;
    let read = json!({ "sequence": event["sequence"], "status": "read" });
    bob.request(about("delivery", read)).await?;
    bob.request(about("typing", json!({ "active": true })))
        .await?;
    alice.push_of("typing").await?;
    bob.request(about("get-history", json!({ "before": 9 })))
        .await?;
    let positions = json!([{ "channel-id": channel, "sequence": 0 }]);
    let since = "2000-01-01T00:00:00.000Z";
    bob.request(json!({ "type": "resume", "positions": positions, "since": since }))
        .await?;
    for list in ["list-channels", "list-conversations"] {
        bob.request(json!({ "type": list })).await?;
    }
    bob.request(about("list-subscribers", json!({}))).await?;
    let right = json!({ "subscriber-id": "bob", "administrator": true });
    alice.request(about("set-administrator", right)).await?;
    alice
        .request(about("update-channel", json!({ "name": "Other" })))
        .await?;
    // Carol is invited while she is connected, Dora before she connects.
    let mut carol = site.connect("carol").await?;
    for invited in ["carol", "dora"] {
        let invited = json!({ "subscriber-id": invited });
        alice.request(about("invite-subscriber", invited)).await?;
    }
    carol.push_of("invitation").await?;
    carol.leave(&channel).await?;
    let mut dora = site.connect("dora").await?;
    dora.push_of("invitation").await?;
    dora.request(about("join-channel", json!({}))).await?;
    let removed = json!({ "subscriber-id": "dora" });
    alice.request(about("remove-subscriber", removed)).await?;
    dora.push_of("subscriber-left").await?;
    alice.leave(&channel).await?;
    bob.push_of("subscriber-left").await?;
    bob.request(about("delete-channel", json!({}))).await?;
    alice.request(json!({ "type": "unannounce" })).await?;
    bob.close().await
}

async fn announce(client: &mut Client) -> Result<()> {
    let message = json!({ "type": "announce", "availability": "available" });
    client.request(message).await?;
    Ok(())
}

async fn conversations(site: &Site) -> Result<()> {
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let fresh = site.token("alice").await?;
    alice
        .request(json!({ "type": "authorize", "token": fresh }))
        .await?;
    announce(&mut bob).await?;
    alice.tell("bob", &json!("told")).await?;
    let told = bob.push_of("direct-message").await?;
    alice.push_of("delivery").await?;
    let read = json!({ "type": "delivery", "subscriber-id": "alice", "sequence": told["sequence"], "status": "read" });
    bob.request(read).await?;
    alice.push_of("delivery").await?;
    // Peers of a conversation get the presence of a subscriber that leaves.
    bob.close().await?;
    let gone = alice.push_of("presence").await?;
    ensure!(gone["subscriber"]["id"] == "bob", "{}", gone.text);
    Ok(())
}

async fn too_many_connections(site: &Site) -> Result<()> {
    let mut first = site.connect("erin").await?;
    let mut others = Vec::new();
    for _ in 1..CONNECTIONS {
        others.push(site.connect("erin").await?);
    }
    let (frames, _) = first.closed_within(DEADLINE).await?;
    ensure!(frames.last().context("no frame before the close")?["code"] == "connection-limit");
    Ok(())
}

/// Connections are closed after an invalidation and after the end of their token.
async fn dropped(site: &Site) -> Result<()> {
    let token = site.token("frank").await?;
    let mut frank = site.connect_with(&token).await?;
    announce(&mut frank).await?;
    site.invalidate(&token).await?;
    frank.closed_within(DEADLINE).await?;
    let mut frank = site.connect("frank").await?;
    frank.request(json!({ "type": "ping" })).await?;
    site.invalidate_all("frank").await?;
    frank.closed_within(DEADLINE).await?;
    // The function `message` closes a connection whose client sends after the end of its token.
    let token = site.short_token("frank", 10).await?;
    let mut frank = site.connect_with(&token).await?;
    eventually("the token expires", async || {
        frank.send_text(r#"{"type":"ping"}"#).await?;
        let frame = frank.frame().await?;
        Ok((frame["type"] == "disconnect").then_some(()))
    })
    .await
}

async fn back_end(site: &Site) -> Result<()> {
    let call = async |method: Method, path: &str, body: Value| -> Result<Value> {
        let url = format!("{}/domains/{}/{path}", site.urls.api, site.domain);
        let (status, answer) = send(method, &url, &body.to_string()).await?;
        ensure!(status.is_success(), "{path}: {status} {answer}");
        Ok(answer)
    };
    let nothing = json!({});
    let mut grace = site.connect("grace").await?;
    announce(&mut grace).await?;
    call(Method::PUT, "channels/c", json!({ "name": "Support" })).await?;
    for member in ["grace", "heidi"] {
        let path = format!("channels/c/subscribers/{member}");
        call(Method::PUT, &path, nothing.clone()).await?;
    }
    let message = json!({ "from": "heidi", "content": "hello", "message-id": "m" });
    for _ in 0..2 {
        call(Method::POST, "channels/c/messages", message.clone()).await?;
    }
    grace.push_of("channel-message").await?;
    for path in [
        "channels/c",
        "channels/c/events",
        "channels/c/subscribers",
        "subscribers/grace",
    ] {
        call(Method::GET, path, nothing.clone()).await?;
    }
    grace.tell("heidi", &json!("told")).await?;
    grace.say("c", &json!("said")).await?;
    let kept = json!({ "name": "Other", "invite-token": "t" });
    call(Method::PUT, "channels/d", kept).await?;
    call(Method::PUT, "channels/d/subscribers/grace", nothing.clone()).await?;
    call(
        Method::DELETE,
        "channels/c/subscribers/heidi",
        nothing.clone(),
    )
    .await?;
    call(Method::DELETE, "channels/c", nothing.clone()).await?;
    grace.push_of("channel-deleted").await?;
    call(
        Method::POST,
        "subscribers/grace/disconnect",
        nothing.clone(),
    )
    .await?;
    grace.closed_within(DEADLINE).await?;
    call(Method::POST, "subscribers/grace/erase", nothing.clone()).await?;
    let mut heidi = site.connect("heidi").await?;
    let with = json!({ "subscriber-id": "grace" });
    eventually("the erased subscriber's messages are gone", async || {
        let events = heidi.whole_history(&with).await?;
        Ok(events.iter().all(|it| it["kind"] == "void").then_some(()))
    })
    .await?;
    heidi.close().await
}

/// Uses signed tokens of another issuer.
pub(crate) async fn signed_tokens(site: &Site, issuer: &Issuer) -> Result<()> {
    let token = |nonce: u64| {
        issuer.token(
            site,
            "ivan",
            &json!({ "nonce": nonce, "jti": nonce.to_string() }),
        )
    };
    let first = token(1)?;
    let mut ivan = site.connect_with(&first).await?;
    let second = token(2)?;
    ivan.request(json!({ "type": "authorize", "token": second }))
        .await?;
    site.invalidate(&first).await?;
    let invalidate = json!({ "jti": "2", "expires-at": "2999-01-01T00:00:00.000Z" });
    let url = format!("{}/tokens/invalidate", site.urls.api);
    let (status, answer) = send(Method::POST, &url, &invalidate.to_string()).await?;
    ensure!(status == StatusCode::NO_CONTENT, "{status} {answer}");
    ivan.closed_within(DEADLINE).await?;
    let mut ivan = site.connect_with(&token(3)?).await?;
    ivan.request(json!({ "type": "ping" })).await?;
    Ok(())
}

/// Runs `expire` with an expiring token: it warns the connection, then closes it.
pub(crate) async fn minute(site: &Site, run: impl AsyncFn() -> Result<()>) -> Result<()> {
    let token = site.short_token("judy", 10).await?;
    let mut judy = site.connect_with(&token).await?;
    announce(&mut judy).await?;
    run().await?;
    judy.push_of("token-expiring").await?;
    eventually("the token expires", async || {
        Ok(match site.connect_with(&token).await {
            Ok(client) => {
                client.close().await?;
                // Too many connections at once would replace the first one.
                tokio::time::sleep(Duration::from_millis(500)).await;
                None
            }
            Err(error) if error.downcast_ref::<Refused>().is_some() => Some(()),
            Err(error) => return Err(error),
        })
    })
    .await?;
    let (frames, _) = loop {
        run().await?;
        if let Ok(closed) = judy.closed_within(Duration::from_secs(5)).await {
            break closed;
        }
    };
    ensure!(frames.last().context("no frame before the close")?["code"] == "token-expired");
    Ok(())
}
