//! Signed tokens of another issuer. They work like the service's own tokens.

#![allow(clippy::indexing_slicing, reason = "a failed test shows the line")]

mod issuer;

use anyhow::{Result, bail, ensure};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tests::{Client, DEADLINE, Refused, Site, send};

use issuer::{ISSUER, Issuer, seconds};

#[tokio::test]
async fn signed_token_connects_and_is_invalidated() -> Result<()> {
    let (issuer, gateway) = Issuer::start().await?;
    let site = Site::at(gateway.urls().clone());
    let first = issuer.token(&site, "alice", &json!({"nonce": 1}))?;
    let mut alice = site.connect_with(&first).await?;
    let welcome = alice.request(json!({"type": "hello"})).await?;
    ensure!(welcome["subscriber-id"] == "alice", "{}", welcome.text);
    ensure!(welcome["domain"] == site.domain.as_str());
    ensure!(welcome["token-expires-at"].is_string(), "{}", welcome.text);

    let second = issuer.token(&site, "alice", &json!({"nonce": 2, "jti": "second"}))?;
    let theirs = issuer.token(&site, "bob", &json!({}))?;
    let elsewhere = issuer.token(&site.neighbour(), "alice", &json!({}))?;
    let ended = issuer.token(&site, "alice", &json!({"exp": seconds() - 1}))?;
    for (token, code) in [
        (&theirs, "token-mismatch"),
        (&elsewhere, "token-mismatch"),
        (&ended, "token-invalid"),
        (&format!("{second}AA"), "token-invalid"),
    ] {
        let refused = alice.refused(json!({"type": "authorize", "token": token}));
        ensure!(refused.await? == code, "{code}");
    }
    let authorize = json!({"type": "authorize", "token": second});
    let authorized = alice.request(authorize).await?;
    ensure!(authorized["type"] == "authorized", "{}", authorized.text);

    site.invalidate(&first).await?;
    unauthorized(site.connect_with(&first).await)?;
    alice.request(json!({"type": "ping"})).await?;
    let own = site.token("alice").await?;
    let mut by_own = site.connect_with(&own).await?;

    site.invalidate(&second).await?;
    dropped(&mut alice).await?;
    unauthorized(site.connect_with(&second).await)?;
    let back = json!({"type": "authorize", "token": second});
    ensure!(by_own.refused(back).await? == "token-invalid");

    // Replace one of the service's own tokens by a signed one, then invalidate all tokens of the subscriber.
    let third = issuer.token(&site, "alice", &json!({"nonce": 3}))?;
    by_own
        .request(json!({"type": "authorize", "token": third}))
        .await?;
    site.invalidate_all("alice").await?;
    dropped(&mut by_own).await?;
    unauthorized(site.connect_with(&third).await)?;

    // Invalidate a token before its first use.
    let unused = issuer.token(&site, "alice", &json!({"nonce": 4}))?;
    site.invalidate(&unused).await?;
    site.invalidate(&format!("{unused}AA")).await?;
    unauthorized(site.connect_with(&unused).await)?;
    let mut again = site
        .connect_with(&issuer.token(&site, "alice", &json!({"nonce": 5}))?)
        .await?;
    again.request(json!({"type": "ping"})).await?;
    Ok(())
}

#[tokio::test]
async fn invalid_signed_token_gets_401() -> Result<()> {
    let (issuer, gateway) = Issuer::start().await?;
    let site = Site::at(gateway.urls().clone());
    for more in [
        json!({"exp": seconds() - 1}),
        json!({"exp": seconds() + 100_000}),
        json!({"exp": seconds() + 100_000, "iat": seconds()}),
        json!({"exp": 253_402_300_799_u64}),
        json!({"nbf": seconds() + 300}),
        json!({"iss": "https://other.example"}),
        json!({"aud": "other"}),
        json!({"domain": "a#b"}),
        json!({"sub": ""}),
        json!({"jti": 7}),
    ] {
        let token = issuer.token(&site, "alice", &more)?;
        unauthorized(site.connect_with(&token).await)?;
    }
    let good = issuer.token(&site, "alice", &json!({}))?;
    let parts: Vec<&str> = good.split('.').collect();
    let other = issuer.token(&site, "bob", &json!({}))?;
    let theirs: Vec<&str> = other.split('.').collect();
    for token in [
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}.{}", parts[0], theirs[1], parts[2]),
        "a.b.c".to_owned(),
    ] {
        unauthorized(site.connect_with(&token).await)?;
    }
    site.connect_with(&good).await?.close().await
}

#[tokio::test]
async fn unlisted_domain_gets_401() -> Result<()> {
    let (issuer, gateway) = Issuer::start_for("acme,acme-test").await?;
    let mut site = Site::at(gateway.urls().clone());
    unauthorized(
        site.connect_with(&issuer.token(&site, "alice", &json!({}))?)
            .await,
    )?;
    // The service's own tokens may still be for any domain.
    let mut elsewhere = site.connect_with(&site.token("alice").await?).await?;
    elsewhere.request(json!({"type": "ping"})).await?;
    for domain in ["acme", "acme-test"] {
        site.domain = domain.to_owned();
        let token = issuer.token(&site, "alice", &json!({}))?;
        let mut alice = site.connect_with(&token).await?;
        let welcome = alice.request(json!({"type": "hello"})).await?;
        ensure!(welcome["domain"] == domain, "{}", welcome.text);
    }
    Ok(())
}

#[tokio::test]
async fn invalidating_jti_revokes_its_tokens() -> Result<()> {
    let (issuer, gateway) = Issuer::start().await?;
    let site = Site::at(gateway.urls().clone());
    let token =
        |jti: &str, nonce: u64| issuer.token(&site, "alice", &json!({"jti": jti, "nonce": nonce}));
    let (one, twin, other) = (token("one", 1)?, token("one", 2)?, token("other", 3)?);
    let mut lost = [
        site.connect_with(&one).await?,
        site.connect_with(&one).await?,
        site.connect_with(&twin).await?,
    ];
    let mut kept = site.connect_with(&other).await?;
    let invalidate = async |body: Value| {
        let url = format!("{}/tokens/invalidate", site.urls.api);
        let (status, answer) = send(Method::POST, &url, &body.to_string()).await?;
        ensure!(
            status == StatusCode::NO_CONTENT || status == StatusCode::BAD_REQUEST,
            "{status} {answer}"
        );
        anyhow::Ok(status)
    };
    let ends = "2999-01-01T00:00:00.000Z";
    let given = json!({"issuer": ISSUER, "jti": "one", "expires-at": ends});
    ensure!(invalidate(given).await? == StatusCode::NO_CONTENT);
    for client in &mut lost {
        dropped(client).await?;
    }
    kept.request(json!({"type": "ping"})).await?;
    for refused in [&one, &twin, &token("one", 4)?] {
        unauthorized(site.connect_with(refused).await)?;
        let authorize = json!({"type": "authorize", "token": refused});
        ensure!(kept.refused(authorize).await? == "token-invalid");
    }
    // Invalidate an id before its first use. Without `issuer` the configured issuer is meant.
    let given = json!({"jti": "later", "expires-at": "9999-12-31T23:59:59Z"});
    ensure!(invalidate(given).await? == StatusCode::NO_CONTENT);
    unauthorized(site.connect_with(&token("later", 5)?).await)?;
    for bad in [
        json!({"jti": "one"}),
        json!({"jti": "one", "expires-at": "tomorrow"}),
        json!({"jti": "", "expires-at": ends}),
        json!({"issuer": "https://other.example", "jti": "one", "expires-at": ends}),
        json!({"token": one, "jti": "one", "expires-at": ends}),
        json!({}),
    ] {
        ensure!(invalidate(bad).await? == StatusCode::BAD_REQUEST);
    }
    kept.request(json!({"type": "ping"})).await?;
    ensure!(kept.kept().is_empty());
    Ok(())
}

async fn dropped(client: &mut Client) -> Result<()> {
    let (frames, _) = client.closed_within(DEADLINE).await?;
    let last = frames.last().map(|it| it["code"].clone());
    ensure!(
        last == Some("token-invalidated".into()),
        "closed after {frames:?}"
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
