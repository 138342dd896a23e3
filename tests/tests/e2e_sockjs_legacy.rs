//! SockJS's transports for old browsers on the wire, enabled and disabled.

#![allow(clippy::indexing_slicing, reason = "a failed test shows the line")]

use anyhow::{Context as _, Result, ensure};
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;
use tests::{
    Gateway, Site,
    sockjs::{Session, Stream, Whole, exchange},
};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const PING: &str = r#"["{\"type\":\"ping\",\"id\":\"100%\"}"]"#;

fn base(site: &Site) -> Result<&str> {
    let base = site.urls.sockjs.as_deref();
    base.context("the deployment serves no SockJS")
}

async fn ask(url: &str, headers: &[(&str, &str)]) -> Result<Whole> {
    exchange(Method::GET, url, headers, "").await
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers.get("set-cookie").and_then(|it| it.to_str().ok())
}

/// Returns the URL of a session's endpoint with the callback parameter.
fn called(session: &Session, what: &str) -> String {
    format!("{}&c=parent.cb", session.url(what))
}

/// Returns the first message of an `a[…]` frame.
fn acked(frame: &str) -> Result<Value> {
    let array = frame.strip_prefix('a').context(frame.to_owned())?;
    let texts: Vec<String> = serde_json::from_str(array)?;
    Ok(serde_json::from_str(
        texts.first().context("the frame has no message")?,
    )?)
}

fn is_pong(ack: &Value) -> bool {
    ack["type"] == "ack" && ack["reply-to"] == "100%"
}

#[tokio::test]
async fn legacy_transports_work_when_enabled() -> Result<()> {
    if Site::is_deployed() {
        return Ok(());
    }
    let gateway = Gateway::start(&["--parameter", "SockjsLegacy=true"])?;
    let site = Site::at(gateway.urls().clone());
    let token = site.token("alice").await?;
    let session = || anyhow::Ok(Session::new(base(&site)?, Some(&token)));
    iframe(&site).await?;
    cookies(&site, &token, &session()?).await?;
    jsonp(&session()?).await?;
    htmlfile(&session()?).await
}

/// Checks the iframe page: it needs no token and can be cached.
async fn iframe(site: &Site) -> Result<()> {
    let url = format!("{}/iframe-1.6.1.html?t=1", base(site)?);
    let page = ask(&url, &[]).await?;
    ensure!(page.status == StatusCode::OK);
    ensure!(page.headers["content-type"] == "text/html; charset=UTF-8");
    ensure!(page.body.contains("SockJS.bootstrap_iframe()"));
    ensure!(page.body.contains("sockjs-client@1.6.1"), "{}", page.body);
    ensure!(cookie(&page.headers).is_none());
    let tag = page.headers["etag"].to_str()?;
    let again = ask(&url, &[("if-none-match", tag)]).await?;
    ensure!(again.status == StatusCode::NOT_MODIFIED && again.body.is_empty());
    Ok(())
}

/// Checks the load balancer's cookie: answers repeat its value, or set a default.
async fn cookies(site: &Site, token: &str, session: &Session) -> Result<()> {
    let info = ask(&format!("{}/info?access_token={token}", base(site)?), &[]).await?;
    ensure!(info.body.contains("\"cookie_needed\":true"), "{info:?}");
    ensure!(cookie(&info.headers).is_none());
    let sent = [("cookie", "other=1; JSESSIONID=abc")];
    let url = session.url("xhr");
    for (headers, expected) in [
        (&[][..], "JSESSIONID=dummy; path=/"),
        (&sent, "JSESSIONID=abc; path=/"),
    ] {
        let options = exchange(Method::OPTIONS, &url, headers, "").await?;
        ensure!(cookie(&options.headers) == Some(expected), "{options:?}");
    }
    let first = exchange(Method::POST, &url, &sent, "").await?;
    ensure!(first.body == "o\n");
    ensure!(cookie(&first.headers) == Some("JSESSIONID=abc; path=/"));
    Ok(())
}

async fn jsonp(session: &Session) -> Result<()> {
    let wrong = ask(&session.url("jsonp"), &[]).await?;
    ensure!(wrong.status == StatusCode::INTERNAL_SERVER_ERROR);
    ensure!(wrong.body == "\"callback\" parameter required", "{wrong:?}");
    let url = called(session, "jsonp");
    let first = ask(&url, &[]).await?;
    ensure!(first.body == "/**/parent.cb(\"o\");\r\n", "{first:?}");
    ensure!(first.headers["content-type"] == "application/javascript; charset=UTF-8");
    ensure!(first.headers["x-content-type-options"] == "nosniff");
    let form: String = ["d=", PING].concat();
    let form = form.replace('%', "%25").replace('"', "%22");
    for (headers, body) in [(&[FORM][..], form.as_str()), (&[], PING)] {
        let sent = exchange(Method::POST, &session.url("jsonp_send"), headers, body).await?;
        ensure!(
            sent.status == StatusCode::OK && sent.body == "ok",
            "{sent:?}"
        );
        let told = ask(&url, &[]).await?.body;
        let frame = told.strip_prefix("/**/parent.cb(");
        let frame = frame.and_then(|it| it.strip_suffix(");\r\n"));
        let frame: String = serde_json::from_str(frame.context(told.clone())?)?;
        ensure!(is_pong(&acked(&frame)?), "{told}");
    }
    Ok(())
}

async fn htmlfile(session: &Session) -> Result<()> {
    let mut stream = Stream::open(Method::GET, &called(session, "htmlfile")).await?;
    ensure!(stream.headers["content-type"] == "text/html; charset=UTF-8");
    let page = stream.next().await?;
    ensure!(page.contains("var c = parent.parent.cb;"), "{page}");
    ensure!(page.len() > 1024 && page.ends_with("\r\n\r\n"));
    ensure!(stream.next().await? == "<script>\np(\"o\");\n</script>\r\n");
    exchange(Method::POST, &session.url("xhr_send"), &[], PING).await?;
    let told = stream.next().await?;
    let frame = told.strip_prefix("<script>\np(");
    let frame = frame.and_then(|it| it.strip_suffix(");\n</script>\r\n"));
    let frame: String = serde_json::from_str(frame.context(told.clone())?)?;
    ensure!(is_pong(&acked(&frame)?), "{told}");
    Ok(())
}

#[tokio::test]
async fn legacy_transports_return_404_when_disabled() -> Result<()> {
    let site = Site::new()?;
    let token = site.token("alice").await?;
    let session = Session::new(base(&site)?, Some(&token));
    for url in [
        format!("{}/iframe.html", base(&site)?),
        called(&session, "jsonp"),
        called(&session, "htmlfile"),
    ] {
        let answer = ask(&url, &[]).await?;
        ensure!(answer.status == StatusCode::NOT_FOUND, "{url}: {answer:?}");
    }
    let sent = exchange(Method::POST, &session.url("jsonp_send"), &[FORM], "d=[]").await?;
    ensure!(sent.status == StatusCode::NOT_FOUND, "{sent:?}");
    let first = session.poll().await?;
    ensure!(first.body == "o\n" && cookie(&first.headers).is_none());
    Ok(())
}
