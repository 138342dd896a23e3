//! Checks the policies of the template: each function has exactly the rights that it uses.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a failed test shows the line"
)]

mod issuer;
#[path = "rights/scenario.rs"]
mod scenario;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, anyhow, ensure};
use http::{Method, StatusCode};
use local_gateway::template::{Statement, Template};
use protocol::{ChannelId, ChannelKey, Domain, LogId, Subscriber, SubscriberId, Timestamp};
use serde::Deserialize;
use serde_json::json;
use service::{
    Identity,
    ports::{
        Allocation, Framing, Lease, Logs as _, Minute, SessionId, SessionKey, Sessions as _,
        TokenHash, Tokens as _,
    },
};
use tests::{DEADLINE, Site, eventually, get, send, sockjs::Session};

use issuer::Issuer;
use tables::store;

/// A right: an action and the ARN of its resource.
type Right = (String, String);

/// A use of a right as the local gateway lists it.
#[derive(Debug, Deserialize)]
struct Use {
    function: String,
    action: String,
    resource: String,
    allowed: bool,
}

#[tokio::test]
async fn functions_have_exactly_needed_rights() -> Result<()> {
    let (issuer, gateway) = Issuer::start().await?;
    let site = Site::at(gateway.urls().clone());
    let expire = async || run(&site, "ExpireFunction").await;
    // This must come first: a run warns only of ends that no earlier run, including a scheduled one, has looked ahead to.
    scenario::minute(&site, expire).await?;
    scenario::everything(&site).await?;
    scenario::signed_tokens(&site, &issuer).await?;
    died_half_way(&site, expire).await?;
    parked(&site).await?;
    left_at_once(&site).await?;
    over_http(&site, expire).await?;

    // No use may have been denied.
    let seen = seen(&site).await?;
    let denied: Vec<_> = seen.iter().filter(|it| !it.allowed).collect();
    ensure!(denied.is_empty(), "not in the template: {denied:#?}");
    let mut used: BTreeMap<String, BTreeSet<Right>> = BTreeMap::new();
    for right in seen {
        let rights = used.entry(right.function).or_default();
        rights.insert((right.action, right.resource));
    }
    // Every right in the template must have been used.
    let template = Template::read(&root().join("template.yaml"), &BTreeMap::new())?;
    let mut idle = Vec::new();
    for (id, function) in &template.functions {
        let statements = function
            .rights
            .as_deref()
            .context("the function has no policy")?;
        let mut used_here = used.get(id).cloned().unwrap_or_default();
        if id == "SockjsFunction" {
            // It runs the same message flow as `message`, so it needs the same rights.
            used_here.extend(used.get("MessageFunction").cloned().unwrap_or_default());
        }
        let used = used_here;
        for (action, resource) in statements.iter().flat_map(rights_of) {
            // A connection's resource ends in `*`, both in the template and in the list of uses.
            if !used.contains(&(action.clone(), resource.clone())) {
                idle.push(format!("{id}: {action} on {resource}"));
            }
        }
    }
    ensure!(idle.is_empty(), "unused rights: {idle:#?}");
    Ok(())
}

/// The expiry run finishes the work of functions that died after their first write: an invalidation, and an event whose
/// slot was allocated.
async fn died_half_way(site: &Site, expire: impl AsyncFn() -> Result<()>) -> Result<()> {
    let token = site.token("kim").await?;
    let mut kim = site.connect_with(&token).await?;
    let channel = kim.create().await?;
    let store = store(site)?;
    let now = Timestamp::from_millis(i64::try_from(
        SystemTime::UNIX_EPOCH.elapsed()?.as_millis(),
    )?);
    let log = LogId::Channel(ChannelKey {
        domain: Domain::parse(&site.domain).map_err(|it| anyhow!("{it:?}"))?,
        id: ChannelId::parse(&channel).map_err(|it| anyhow!("{it:?}"))?,
    });
    let allocation = Allocation {
        count: 1,
        at: now,
        lease: Lease {
            holder: "died".to_owned(),
            until: now,
        },
        close: false,
        removal: false,
    };
    store.allocate(&log, &allocation).await?;
    expire().await?;
    store
        .invalidate_token(&TokenHash::of(&token), now)
        .await?
        .context("the token is missing")?;
    expire().await?;
    let (frames, _) = kim.closed_within(DEADLINE).await?;
    ensure!(frames.last().context("no frame before the close")?["code"] == "token-invalidated");
    Ok(())
}

/// A push to a connection that is not active yet is parked. The worker reads the event again when it posts it.
async fn parked(site: &Site) -> Result<()> {
    let mut alice = site.connect("alice").await?;
    let channel = alice.create().await?;
    site.connect("bob").await?.join(&channel).await?;
    eventually("the worker reads a parked event", async || {
        let (coming, said) = tokio::join!(site.connect("bob"), async {
            for n in 0..5 {
                alice.say(&channel, &json!(n)).await?;
            }
            anyhow::Ok(())
        });
        said?;
        coming?.close().await?;
        worker_read(site, "Events").await
    })
    .await
}

/// While the worker waits for a connection to become active, it checks if the client has left.
async fn left_at_once(site: &Site) -> Result<()> {
    eventually("a client leaves before its activation", async || {
        site.connect("bob").await?.close().await?;
        worker_read(site, "Tokens").await
    })
    .await
}

/// Returns `Some` if the worker read an item of this table.
async fn worker_read(site: &Site, table: &str) -> Result<Option<()>> {
    let read = seen(site).await?.into_iter().find(|it| {
        it.function == "WorkerFunction"
            && it.action == "dynamodb:GetItem"
            && it.resource.ends_with(table)
    });
    Ok(read.map(drop))
}

/// Sessions over HTTP: each function that pushes pushes to one, and the expiry run finds dead sessions.
async fn over_http(site: &Site, expire: impl AsyncFn() -> Result<()>) -> Result<()> {
    let base = site
        .urls
        .sockjs
        .as_deref()
        .context("the deployment serves no SockJS")?;
    let mut bob = site.connect("bob").await?;
    let channel = bob.create().await?;
    let invite =
        json!({"type": "invite-subscriber", "channel-id": channel, "subscriber-id": "una"});
    bob.request(invite).await?;
    let token = site.token("una").await?;
    let session = Session::new(base, Some(&token));
    let mut stream = session.stream("xhr_streaming").await?;
    let mut until = async |part: &str| {
        loop {
            let chunk = stream.next().await;
            if chunk.with_context(|| format!("no {part}"))?.contains(part) {
                return anyhow::Ok(());
            }
        }
    };
    // The worker sends the invitation after the session is active.
    until("invitation").await?;
    let join = json!({"type": "join-channel", "channel-id": channel});
    session.send(&[join]).await?;
    until("channel-joined").await?;
    bob.say(&channel, &json!("hello")).await?;
    until("hello").await?;
    eventually("the doorbell is set", async || {
        let seen = seen(site).await?.into_iter();
        let uses = seen.filter(|it| it.function == "ConnectFunction");
        Ok(uses
            .into_iter()
            .find(|it| it.resource.ends_with("Sessions"))
            .map(drop))
    })
    .await?;
    site.invalidate(&token).await?;
    until("c[4401").await?;

    // Create a dead session and a live one, which the expiry run also reads.
    let store = store(site)?;
    let now = Timestamp::from_millis(i64::try_from(
        SystemTime::UNIX_EPOCH.elapsed()?.as_millis(),
    )?);
    for (name, seconds) in [("dead", -90), ("lives", 60)] {
        let token = TokenHash::of(name);
        let identity = Identity {
            subscriber: Subscriber {
                domain: Domain::parse(&site.domain).map_err(|it| anyhow!("{it:?}"))?,
                id: SubscriberId::parse(name).map_err(|it| anyhow!("{it:?}"))?,
            },
            token_expires: now.plus_seconds(3_600),
            jti: None,
            framing: Framing::Session,
            token: token.clone(),
        };
        let id = SessionId {
            key: SessionKey::of(&token, name),
            incarnation: "one".to_owned(),
        };
        let lease = Lease {
            holder: "died".to_owned(),
            until: now.plus_seconds(seconds),
        };
        let session = service::ports::Session::new(id.incarnation.clone(), identity, lease);
        store.begin_session(&id.key, &session, now).await?;
        store
            .postpone_session(&id, Minute::of(now).plus(-1))
            .await?;
    }
    expire().await
}

async fn seen(site: &Site) -> Result<Vec<Use>> {
    let lambda = site
        .urls
        .lambda
        .as_deref()
        .context("the deployment has no Lambda URL")?;
    let seen = get(&format!("{lambda}/_local/rights")).await?;
    Ok(serde_json::from_value(seen)?)
}

/// Runs the scenario on a named deployment, which enforces rights itself. On a local gateway the test above covers this.
#[tokio::test]
async fn deployment_grants_needed_rights() -> Result<()> {
    if Site::is_deployed() {
        scenario::everything(&Site::new()?).await?;
    }
    Ok(())
}

#[test]
fn dependencies_match_rights() {
    let template = Template::read(&root().join("template.yaml"), &BTreeMap::new()).unwrap();
    for (id, function) in &template.functions {
        let services: BTreeSet<_> = function
            .rights
            .iter()
            .flatten()
            .flat_map(rights_of)
            .filter_map(|(action, _)| action.split_once(':').map(|it| it.0.to_owned()))
            .collect();
        let adapters = dependencies(&function.binary);
        for (service, adapter) in [("dynamodb", "store"), ("execute-api", "gateway")] {
            assert_eq!(
                services.contains(service),
                adapters.contains(adapter),
                "{id}: {services:?} with {adapters:?}"
            );
        }
    }
}

/// `sam build` builds the binary of each function from the root, where cargo considers only default members. `cargo run`
/// there must still start the local gateway.
#[test]
fn functions_build_from_workspace_root() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let default_members = metadata["workspace_default_members"].as_array().unwrap();
    let found: Vec<_> = packages
        .iter()
        .filter(|it| default_members.contains(&it["id"]))
        .collect();
    let binaries: Vec<_> = found
        .iter()
        .flat_map(|it| it["targets"].as_array().unwrap())
        .filter(|it| it["kind"] == json!(["bin"]))
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    let template = Template::read(&root().join("template.yaml"), &BTreeMap::new()).unwrap();
    for (id, function) in &template.functions {
        assert!(binaries.contains(&function.binary.as_str()), "{id}");
    }
    let run = found.iter().filter_map(|it| it["default_run"].as_str());
    assert_eq!(run.collect::<Vec<_>>(), ["local-gateway"]);
}

fn rights_of(statement: &Statement) -> impl Iterator<Item = Right> + '_ {
    statement.actions.iter().flat_map(|action| {
        let resources = statement.resources.iter();
        resources.map(|resource| (action.clone(), resource.clone()))
    })
}

/// Returns the workspace crates that a function depends on.
fn dependencies(function: &str) -> BTreeSet<String> {
    let packages = metadata()["packages"].as_array().unwrap();
    let package = packages.iter().find(|it| it["name"] == function).unwrap();
    let dependencies = package["dependencies"].as_array().unwrap();
    dependencies
        .iter()
        .filter(|it| it["kind"].is_null() && it["path"].is_string())
        .map(|it| it["name"].as_str().unwrap().to_owned())
        .collect()
}

fn metadata() -> &'static serde_json::Value {
    static METADATA: std::sync::OnceLock<serde_json::Value> = std::sync::OnceLock::new();
    METADATA.get_or_init(|| {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
            .current_dir(root())
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    })
}

/// Invokes a function and waits for its end.
async fn run(site: &Site, function: &str) -> Result<()> {
    let lambda = site
        .urls
        .lambda
        .as_deref()
        .context("the deployment has no Lambda URL")?;
    let url = format!("{lambda}/2015-03-31/functions/{function}/invocations");
    let (status, answer) = send(Method::POST, &url, "{}").await?;
    ensure!(status == StatusCode::OK && answer.is_null(), "{answer}");
    Ok(())
}

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
