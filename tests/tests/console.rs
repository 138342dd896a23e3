//! The console page in a real browser: two subscribers, one local gateway between them.

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
async fn two_subscribers_talk_in_a_channel_and_directly() -> Result<()> {
    let server = Server::start()?;
    let browser = Browser::start().await?;
    let alice = sign_in(&browser, &server, "alice", DESK).await?;
    let bob = browser
        .window(&invite(&alice, &server, "general").await?, PHONE)
        .await?;

    // Bob follows the link: it names the domain and the channel, he says who he is.
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

    // Presence: bob is busy, alice sees it in the member list.
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

    // A direct conversation, told as stored, received and read.
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
async fn an_invitation_by_name_opens_the_channel() -> Result<()> {
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
async fn the_sender_learns_what_was_read() -> Result<()> {
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

    // It stays read for bob, also in a page that begins anew.
    bob.reload().await?;
    bob.until("$('[data-testid=direct-entry][data-id=alice]').dataset.unread === '0'")
        .await?;

    alice.is_sound().await?;
    bob.is_sound().await?;
    browser.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn history_scrolls_back_without_a_jump() -> Result<()> {
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
        "only the latest page is loaded at first"
    );

    while !bob
        .value::<bool>("Boolean($('[data-testid=start]'))")
        .await?
    {
        // The topmost message stays under the eye while older ones come in above it; only its heading may go,
        // when the one before is by the same author.
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
        "history is whole and in order: {texts:?}"
    );

    bob.is_sound().await?;
    browser.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_heals_and_nothing_is_lost_or_doubled() -> Result<()> {
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

    // Cut in the middle of many: some are stored, some on their way, some not sent.
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
    ensure!(hers == his, "both see the same: {hers:?} and {his:?}");
    let mut mine: Vec<String> = (1..=MESSAGES)
        .map(|number| format!("Mine {number}"))
        .collect();
    mine.push("Written without a connection".to_owned());
    let others: Vec<String> = his.into_iter().filter(|text| text != "Meanwhile").collect();
    ensure!(
        others == mine,
        "each once and in the order of writing: {others:?}"
    );

    // What waits survives a reload of the page too.
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
async fn every_screen_fits_a_phone() -> Result<()> {
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
        "the list is a screen of its own"
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

/// A domain of the test's own, and where its page is.
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
            .context("the HTTP API ends in /v1")?;
        Ok(Self {
            url: url.to_owned(),
            site,
        })
    }

    /// The address that signs a subscriber in.
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

/// Creates a channel and gives the link that lets others in.
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
        "the link leads back here: {link}"
    );
    Ok(link)
}

/// Writes and sends many messages at once, as fast as the page takes them.
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
