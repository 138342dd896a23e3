//! The console page in a real browser, with two subscribers on one local gateway.

#[path = "console/browser.rs"]
mod browser;
#[path = "console/line.rs"]
mod line;

use anyhow::{Context, Result, ensure};

use tests::Site;

use browser::{Browser, Window};
use line::Line;

const DESK: (i64, i64) = (1200, 800);
const PHONE: (i64, i64) = (360, 740);

#[tokio::test(flavor = "multi_thread")]
async fn two_subscribers_exchange_messages() -> Result<()> {
    let server = Server::start()?;
    let browser = Browser::start().await?;
    let alice = sign_in(&browser, &server, "alice", DESK).await?;
    let bob = browser
        .window(&invite(&alice, &server, "general").await?, PHONE)
        .await?;

    // Bob follows the link. It contains the domain and the channel; he enters his name.
    ensure!(bob.value::<String>("$('#sign-in-domain').value").await? == server.site.domain);
    bob.fill("#sign-in-subscriber", "bob").await?;
    bob.click("#sign-in-button").await?;
    bob.until("$('#open-title').textContent === 'general'")
        .await?;
    alice
        .until("$$('[data-testid=line]').some((line) => line.textContent === 'bob joined')")
        .await?;

    alice.say("Good morning <b>bob</b>").await?;
    bob.reads("Good morning <b>bob</b>").await?;
    bob.say("Good morning 🌻").await?;
    alice.reads("Good morning 🌻").await?;
    alice
        .until("markOf('Good morning <b>bob</b>') === 'stored'")
        .await?;
    ensure!(
        alice.value::<Vec<String>>("texts()").await? == bob.value::<Vec<String>>("texts()").await?
    );

    // Presence: Bob is busy, and Alice sees this in the member list.
    alice.click("#members-toggle").await?;
    alice
        .until("$('[data-testid=member][data-id=bob]').dataset.availability === 'available'")
        .await?;
    bob.click("#back").await?;
    let _: bool = bob
        .value("$('#availability').value = 'busy', $('#availability').dispatchEvent(new Event('change', { bubbles: true }))")
        .await?;
    alice
        .until("$('[data-testid=member][data-id=bob]').dataset.availability === 'busy'")
        .await?;

    // A direct conversation with the marks `stored`, `received` and `read`.
    alice
        .click("[data-testid=member][data-id=bob] button")
        .await?;
    alice
        .until("$('#open-title').textContent === 'bob'")
        .await?;
    alice.say("Only for you").await?;
    alice.until("markOf('Only for you') === 'received'").await?;
    bob.until("$('[data-testid=direct-entry][data-id=alice]').dataset.unread === '1'")
        .await?;
    bob.click("[data-testid=direct-entry][data-id=alice]")
        .await?;
    bob.reads("Only for you").await?;
    bob.say("Thank you").await?;
    alice.reads("Thank you").await?;
    ensure!(
        !bob.value::<Vec<String>>("texts()")
            .await?
            .contains(&"Good morning 🌻".to_owned())
    );

    alice.is_sound().await?;
    bob.is_sound().await?;
    browser.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn invitation_by_name_opens_channel() -> Result<()> {
    let server = Server::start()?;
    let browser = Browser::start().await?;
    let alice = sign_in(&browser, &server, "alice", DESK).await?;
    let bob = sign_in(&browser, &server, "bob", PHONE).await?;
    invite(&alice, &server, "by name").await?;
    alice.click("#invite-open").await?;
    alice.fill("#invite-subscriber", "bob").await?;
    alice.click("#invite-button").await?;
    bob.click("[data-testid=invitation] [data-testid=accept]")
        .await?;
    bob.until("$('#open-title').textContent === 'by name'")
        .await?;
    bob.say("Thank you for having me").await?;
    alice.reads("Thank you for having me").await?;

    alice.is_sound().await?;
    bob.is_sound().await?;
    browser.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn sender_sees_read_mark() -> Result<()> {
    let server = Server::start()?;
    let browser = Browser::start().await?;
    let alice = sign_in(&browser, &server, "alice", DESK).await?;
    let bob = sign_in(&browser, &server, "bob", PHONE).await?;
    alice.click("#direct-open").await?;
    alice.fill("#direct-subscriber", "bob").await?;
    alice.click("#direct-button").await?;
    alice.say("Have you seen this?").await?;
    alice
        .until("markOf('Have you seen this?') === 'received'")
        .await?;
    bob.click("[data-testid=direct-entry][data-id=alice]")
        .await?;
    alice
        .until("markOf('Have you seen this?') === 'read'")
        .await?;

    // The message stays read for Bob after a reload.
    bob.reload().await?;
    bob.until("$('[data-testid=direct-entry][data-id=alice]').dataset.unread === '0'")
        .await?;

    alice.is_sound().await?;
    bob.is_sound().await?;
    browser.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn history_scrolls_without_jump() -> Result<()> {
    const MESSAGES: usize = 120;
    let server = Server::start()?;
    let browser = Browser::start().await?;
    let alice = sign_in(&browser, &server, "alice", DESK).await?;
    let link = invite(&alice, &server, "archive").await?;
    say_many(&alice, "Message", MESSAGES).await?;
    alice
        .until(&format!(
            "$$('[data-testid=message][data-mark=stored]').length === {MESSAGES}"
        ))
        .await?;

    let bob = browser.window(&link, PHONE).await?;
    bob.fill("#sign-in-subscriber", "bob").await?;
    bob.click("#sign-in-button").await?;
    bob.reads(&format!("Message {MESSAGES}")).await?;
    let page = "$$('[data-testid=message]').length";
    ensure!(
        bob.value::<usize>(page).await? < MESSAGES,
        "the page loads more than the latest messages at first"
    );

    while !bob
        .value::<bool>("Boolean($('[data-testid=start]'))")
        .await?
    {
        // The topmost message keeps its position while older ones are inserted above it. Only its heading may go, if
        // the message before it has the same author.
        let moved: f64 = bob
            .value(
                "(async () => {
                    const [log, first] = [$('#log'), $('[data-testid=message]')];
                    log.scrollTop = 100;
                    const before = first.getBoundingClientRect().bottom;
                    await new Promise((resolve) => new MutationObserver(() =>
                        $('[data-testid=message]') !== first && resolve()).observe(log, { childList: true }));
                    return Math.abs(first.getBoundingClientRect().bottom - before);
                })()",
            )
            .await?;
        ensure!(moved < 2.0, "the page jumped by {moved} pixels");
    }
    let texts: Vec<String> = bob.value("texts()").await?;
    let expected: Vec<String> = (1..=MESSAGES)
        .map(|number| format!("Message {number}"))
        .collect();
    ensure!(
        texts == expected,
        "the history is incomplete or out of order: {texts:?}"
    );

    bob.is_sound().await?;
    browser.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn reconnect_loses_and_repeats_nothing() -> Result<()> {
    const MESSAGES: usize = 40;
    let server = Server::start()?;
    let line = Line::to(&server.url).await?;
    let browser = Browser::start().await?;
    let bob = sign_in(&browser, &server, "bob", DESK).await?;
    let link = invite(&bob, &server, "general").await?;
    let link = link.replace(&server.url, line.url());
    let alice = browser.window(&link, PHONE).await?;
    alice.fill("#sign-in-subscriber", "alice").await?;
    alice.click("#sign-in-button").await?;
    alice
        .until("$('#open-title').textContent === 'general'")
        .await?;

    // Cut the connection while some messages are stored, some under way and some not sent.
    say_many(&alice, "Mine", MESSAGES).await?;
    bob.reads("Mine 5").await?;
    line.cut();
    alice.online(false).await?;
    alice.say("Written without a connection").await?;
    alice
        .until("markOf('Written without a connection') === 'waiting'")
        .await?;
    bob.say("Meanwhile").await?;
    bob.until("markOf('Meanwhile') === 'stored'").await?;
    line.mend();

    alice.online(true).await?;
    bob.reads("Written without a connection").await?;
    alice.reads("Meanwhile").await?;
    alice
        .until("$$('[data-mark=waiting]').length === 0")
        .await?;
    let (hers, his): (Vec<String>, Vec<String>) =
        (alice.value("texts()").await?, bob.value("texts()").await?);
    ensure!(
        hers == his,
        "they see different texts: {hers:?} and {his:?}"
    );
    let mut mine: Vec<String> = (1..=MESSAGES)
        .map(|number| format!("Mine {number}"))
        .collect();
    mine.push("Written without a connection".to_owned());
    let others: Vec<String> = his.into_iter().filter(|text| text != "Meanwhile").collect();
    ensure!(
        others == mine,
        "messages are lost, repeated or out of order: {others:?}"
    );

    // Waiting messages also survive a reload of the page.
    line.cut();
    alice.online(false).await?;
    alice.say("Kept over a reload").await?;
    alice
        .until("markOf('Kept over a reload') === 'waiting'")
        .await?;
    line.mend();
    alice.reload().await?;
    bob.reads("Kept over a reload").await?;

    alice.is_sound().await?;
    bob.is_sound().await?;
    browser.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_navigation_asks_before_sign_in() -> Result<()> {
    let server = Server::start()?;
    let browser = Browser::start().await?;
    // The same page under another name is another site. It sends no referrer.
    let elsewhere = server.url.replace("127.0.0.1", "localhost");
    let victim = browser.window(&elsewhere, DESK).await?;
    victim.until("seen($('#sign-in-form'))").await?;
    let link = format!("{}?join=trap&token=t", server.address("ceo"));
    victim.go(&link).await?;
    victim
        .until("location.hostname === '127.0.0.1' && $('#sign-in-lead').textContent.startsWith('Another site opened this page')")
        .await?;
    ensure!(
        victim
            .value::<String>("$('#sign-in-lead').textContent")
            .await?
            .contains("trap")
    );
    ensure!(!victim.value::<bool>("seen($('#console'))").await?);

    // The user agrees. A reload then does not ask again for the same subscriber.
    victim.click("#sign-in-button").await?;
    victim.online(true).await?;
    victim.until("$('#join-dialog').open").await?;
    victim.reload().await?;
    victim.online(true).await?;
    victim.is_sound().await?;
    browser.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_screen_fits_phone() -> Result<()> {
    let server = Server::start()?;
    let browser = Browser::start().await?;
    let phone = browser.window(&server.url, PHONE).await?;
    phone.until("seen($('#sign-in-form'))").await?;
    phone.fits("the sign-in form").await?;
    phone
        .go(&server.address("a-subscriber.with-a-rather.long-name@example.org"))
        .await?;
    phone.online(true).await?;
    phone.fits("the empty list").await?;

    for name in ["create", "join", "direct"] {
        phone.click(&format!("#{name}-open")).await?;
        phone.until(&format!("$('#{name}-dialog').open")).await?;
        phone.fits(name).await?;
        phone.click(&format!("#{name}-dialog [data-close]")).await?;
    }
    phone.click("#create-open").await?;
    phone.fill("#create-name", &"Wide".repeat(32)).await?;
    phone.click("#create-button").await?;
    phone.say(&"long".repeat(60)).await?;
    phone
        .until("markOf('long'.repeat(60)) === 'stored'")
        .await?;
    phone.fits("the conversation").await?;
    ensure!(
        !phone.value::<bool>("seen($('#sidebar'))").await?,
        "the list is still visible"
    );
    phone.click("#members-toggle").await?;
    phone.fits("the member list").await?;
    phone.click("#members-close").await?;
    phone.click("#invite-open").await?;
    phone.fits("the invite dialog").await?;
    phone.click("#invite-dialog [data-close]").await?;
    phone.click("#back").await?;
    phone
        .until("seen($('[data-testid=channel-entry]')) && !seen($('#conversation'))")
        .await?;
    phone.fits("the list").await?;

    phone.is_sound().await?;
    browser.stop().await
}

/// A fresh domain, and the URL of its page.
struct Server {
    url: String,
    site: Site,
}

impl Server {
    fn start() -> Result<Self> {
        let site = Site::new()?;
        let url = site
            .urls
            .api
            .strip_suffix("/v1")
            .context("the HTTP API's URL does not end in /v1")?;
        Ok(Self {
            url: url.to_owned(),
            site,
        })
    }

    /// Returns the address that signs a subscriber in.
    fn address(&self, subscriber: &str) -> String {
        format!("{}/#{}/{subscriber}", self.url, self.site.domain)
    }
}

async fn sign_in(
    browser: &Browser,
    server: &Server,
    subscriber: &str,
    size: (i64, i64),
) -> Result<Window> {
    let window = browser.window(&server.address(subscriber), size).await?;
    window.online(true).await?;
    Ok(window)
}

/// Creates a channel and returns its invitation link.
async fn invite(creator: &Window, server: &Server, name: &str) -> Result<String> {
    creator.click("#create-open").await?;
    creator.fill("#create-name", name).await?;
    creator.click("#create-button").await?;
    creator
        .until(&format!("$('#open-title').textContent === {name:?}"))
        .await?;
    creator.click("#invite-open").await?;
    let link: String = creator.value("$('#invite-link').value").await?;
    creator.click("#invite-dialog [data-close]").await?;
    ensure!(
        link.starts_with(&server.url),
        "the link leads to another server: {link}"
    );
    Ok(link)
}

/// Sends many messages as fast as the page takes them.
async fn say_many(window: &Window, text: &str, count: usize) -> Result<()> {
    let _: bool = window
        .value(&format!(
            "(() => {{
                for (let number = 1; number <= {count}; number += 1) {{
                    $('#message').value = {text:?} + ' ' + number;
                    $('#composer').requestSubmit();
                }}
                return true;
            }})()"
        ))
        .await?;
    Ok(())
}
