//! The actions of administrators: invitations, removal, rights, updates and deletion of a channel.

#![allow(clippy::indexing_slicing, reason = "a failed test shows the line")]

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{Client, Site, eventually};

async fn act(client: &mut Client, message_type: &str, fields: Value) -> Result<tests::Answer> {
    let mut message = fields;
    message["type"] = message_type.into();
    client.ask(message).await
}

#[tokio::test]
async fn offline_subscriber_joins_by_invitation_once() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let channel = alice.create().await?;
    let invite = json!({ "channel-id": channel, "subscriber-id": "bob" });
    act(&mut alice, "invite-subscriber", invite.clone())
        .await?
        .honoured()?;

    let mut bob = site.connect("bob").await?;
    let invitation = bob.push_of("invitation").await?;
    ensure!(invitation["channel-id"] == channel && invitation["from"] == "alice");
    ensure!(invitation["administrator"] == false && invitation.json.get("invite-token").is_none());
    let join = json!({ "channel-id": channel });
    act(&mut bob, "join-channel", join.clone())
        .await?
        .honoured()?;
    let joined = alice.push_of("subscriber-joined").await?;
    ensure!(joined["subscriber"]["id"] == "bob");

    bob.leave(&channel).await?;
    ensure!(
        act(&mut bob, "join-channel", join).await?.refused()? == "not-found",
        "the invitation works twice"
    );
    // Inviting a member does nothing.
    let again = json!({ "channel-id": channel, "subscriber-id": "alice" });
    act(&mut alice, "invite-subscriber", again)
        .await?
        .honoured()?;
    Ok(())
}

#[tokio::test]
async fn invitation_can_be_declined() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let channel = alice.create().await?;
    let invite = json!({ "channel-id": channel, "subscriber-id": "bob" });
    act(&mut alice, "invite-subscriber", invite)
        .await?
        .honoured()?;
    bob.push_of("invitation").await?;
    bob.leave(&channel).await?;
    let join = json!({ "channel-id": channel });
    ensure!(act(&mut bob, "join-channel", join).await?.refused()? == "not-found");
    Ok(())
}

#[tokio::test]
async fn removed_member_gets_no_later_events() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let channel = alice.create().await?;
    bob.join(&channel).await?;
    let remove = json!({ "channel-id": channel, "subscriber-id": "bob" });
    act(&mut alice, "remove-subscriber", remove.clone())
        .await?
        .honoured()?;
    let left = bob.push_of("subscriber-left").await?;
    ensure!(left["subscriber-id"] == "bob" && left["reason"] == "removed");
    alice.say(&channel, &json!("after")).await?;
    ensure!(
        act(&mut alice, "remove-subscriber", remove)
            .await?
            .refused()?
            == "not-found"
    );
    bob.request(json!({ "type": "ping" })).await?;
    ensure!(
        bob.kept().is_empty(),
        "bob gets a later event of the channel"
    );
    let history = json!({ "type": "get-history", "channel-id": channel });
    ensure!(bob.refused(history).await? == "not-found");
    Ok(())
}

#[tokio::test]
async fn members_cannot_act_as_administrators() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let mut eve = site.connect("eve").await?;
    let channel = alice.create().await?;
    bob.join(&channel).await?;
    let right = |id: &str, to: bool| json!({ "channel-id": channel, "subscriber-id": id, "administrator": to });
    for (message_type, fields) in [
        (
            "update-channel",
            json!({ "channel-id": channel, "name": "x" }),
        ),
        ("delete-channel", json!({ "channel-id": channel })),
        (
            "invite-subscriber",
            json!({ "channel-id": channel, "subscriber-id": "eve" }),
        ),
        (
            "remove-subscriber",
            json!({ "channel-id": channel, "subscriber-id": "alice" }),
        ),
        ("set-administrator", right("bob", true)),
    ] {
        let refused = act(&mut bob, message_type, fields.clone())
            .await?
            .refused()?;
        ensure!(refused == "forbidden", "{message_type}: {refused}");
        let refused = act(&mut eve, message_type, fields).await?.refused()?;
        ensure!(refused == "not-found", "{message_type}: {refused}");
    }
    let refused = act(&mut alice, "set-administrator", right("alice", false))
        .await?
        .refused()?;
    ensure!(refused == "last-administrator");
    act(&mut alice, "set-administrator", right("bob", true))
        .await?
        .honoured()?;
    let changed = bob.push_of("administrator-changed").await?;
    ensure!(changed["subscriber-id"] == "bob" && changed["administrator"] == true);
    act(&mut bob, "set-administrator", right("alice", false))
        .await?
        .honoured()?;
    let refused = act(
        &mut alice,
        "update-channel",
        json!({ "channel-id": channel, "name": "x" }),
    );
    ensure!(refused.await?.refused()? == "forbidden");
    Ok(())
}

#[tokio::test]
async fn simultaneous_demotions_leave_one_administrator() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    for _ in 0..5 {
        let channel = alice.create().await?;
        bob.join(&channel).await?;
        let right = |id: &str, to: bool| json!({ "type": "set-administrator", "channel-id": channel, "subscriber-id": id, "administrator": to });
        alice.request(right("bob", true)).await?;
        let (a, b) = tokio::join!(
            alice.ask(right("alice", false)),
            bob.ask(right("bob", false))
        );
        let stepped_down = [a?, b?]
            .iter()
            .filter(|it| it.ack["status"] == true)
            .count();
        ensure!(stepped_down == 1, "{stepped_down} stepped down");
        let (a, b) = tokio::join!(alice.leave(&channel), bob.leave(&channel));
        ensure!(a.is_ok() && b.is_ok());
    }
    Ok(())
}

#[tokio::test]
async fn channel_update_keeps_unnamed_fields() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let channel = alice.create().await?;
    bob.join(&channel).await?;
    let update = json!({ "channel-id": channel, "attributes": { "topic": "new" } });
    let updated = act(&mut alice, "update-channel", update)
        .await?
        .honoured()?;
    ensure!(
        updated["type"] == "channel-updated" && updated["name"] == "Team",
        "{}",
        updated.text
    );
    let pushed = bob.push_of("channel-updated").await?;
    ensure!(pushed["attributes"]["topic"] == "new" && pushed["sequence"] == updated["sequence"]);
    let nothing = json!({ "channel-id": channel });
    ensure!(
        act(&mut alice, "update-channel", nothing)
            .await?
            .refused()?
            == "invalid-value"
    );
    Ok(())
}

#[tokio::test]
async fn deleted_channel_id_stays_taken() -> Result<()> {
    let site = Site::new()?;
    let mut alice = site.connect("alice").await?;
    let mut bob = site.connect("bob").await?;
    let channel = alice.create().await?;
    bob.join(&channel).await?;
    let end = json!({ "channel-id": channel });
    let deleted = act(&mut alice, "delete-channel", end.clone())
        .await?
        .honoured()?;
    ensure!(deleted["type"] == "channel-deleted", "{}", deleted.text);
    let pushed = bob.push_of("channel-deleted").await?;
    ensure!(pushed["sequence"] == deleted["sequence"]);
    let say = json!({ "type": "channel-message", "channel-id": channel, "content": 1 });
    ensure!(bob.refused(say).await? == "not-found");
    ensure!(act(&mut alice, "delete-channel", end).await?.refused()? == "not-found");
    eventually("the rows are removed", async || {
        let listed = bob.request(json!({ "type": "list-channels" })).await?;
        Ok(listed.list("channels")?.is_empty().then_some(()))
    })
    .await?;
    let create = json!({ "type": "create-channel", "name": "x", "channel-id": channel });
    ensure!(bob.refused(create).await? == "conflict");
    Ok(())
}
