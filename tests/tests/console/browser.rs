//! A browser, its windows, and a user's actions in them.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use chromiumoxide::cdp::browser_protocol::emulation::SetDeviceMetricsOverrideParams;
use chromiumoxide::cdp::browser_protocol::input::InsertTextParams;
use chromiumoxide::cdp::browser_protocol::target::{
    CreateBrowserContextParams, CreateTargetParams,
};
use chromiumoxide::cdp::js_protocol::runtime::EvaluateParams;
use futures::StreamExt;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

/// The longest wait for a condition. The first message may wait for cold starts of functions.
const DEADLINE_MS: u32 = 40_000;

/// The script that every page runs before its own scripts. It records errors and defines helpers to read the page.
const PRELUDE: &str = "
    window.errors = [];
    addEventListener('error', (event) => errors.push(event.message));
    addEventListener('unhandledrejection', (event) => errors.push(String(event.reason)));
    addEventListener('securitypolicyviolation', (event) => errors.push('policy: ' + event.violatedDirective));
    window.$ = (selector) => document.querySelector(selector);
    window.$$ = (selector) => [...document.querySelectorAll(selector)];
    window.texts = () => $$('[data-testid=text]').map((node) => node.textContent);
    window.markOf = (text) => $$('[data-testid=message]').findLast((node) =>
        node.querySelector('[data-testid=text]')?.textContent === text)?.dataset.mark;
    window.seen = (node) => Boolean(node?.checkVisibility({ visibilityProperty: true }) && node.getClientRects().length);
";

/// A Chromium process with its own profile.
pub(crate) struct Browser {
    chromium: chromiumoxide::Browser,
    events: JoinHandle<()>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts the browser without a window.
    pub(crate) async fn start() -> Result<Self> {
        let profile = tempfile::tempdir()?;
        let config = chromiumoxide::BrowserConfig::builder()
            .new_headless_mode()
            .no_sandbox()
            .user_data_dir(profile.path())
            .request_timeout(Duration::from_millis(2 * u64::from(DEADLINE_MS)))
            .viewport(None)
            .args([
                "disable-gpu",
                "disable-quic",
                "no-first-run",
                "disable-background-networking",
                "disable-component-update",
                "disable-sync",
            ])
            .build()
            .map_err(|reason| anyhow!("no usable Chromium: {reason}"))?;
        let (chromium, mut handler) = chromiumoxide::Browser::launch(config).await?;
        // The stream reports events that the library does not know as errors and then goes on.
        let events = tokio::spawn(async move { while handler.next().await.is_some() {} });
        Ok(Self {
            chromium,
            events,
            _profile: profile,
        })
    }

    /// Opens `url` in a new window that shares no data with the others.
    pub(crate) async fn window(&self, url: &str, (width, height): (i64, i64)) -> Result<Window> {
        let context = self
            .chromium
            .create_browser_context(CreateBrowserContextParams::default())
            .await?;
        let target = CreateTargetParams::builder()
            .url("about:blank")
            .browser_context_id(context)
            .new_window(true)
            .build()
            .map_err(|reason| anyhow!(reason))?;
        let page = self.chromium.new_page(target).await?;
        let phone = width < 700;
        page.execute(SetDeviceMetricsOverrideParams::new(
            width, height, 1.0, phone,
        ))
        .await?;
        page.evaluate_on_new_document(PRELUDE).await?;
        page.goto(url).await?;
        Ok(Window { page })
    }

    /// Closes the browser and waits for its end.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.chromium.close().await?;
        self.chromium.wait().await?;
        self.events.abort();
        Ok(())
    }
}

/// A window with one page.
pub(crate) struct Window {
    page: chromiumoxide::Page,
}

impl Window {
    /// Returns the value of a JavaScript expression. Awaits a promise.
    pub(crate) async fn value<T: DeserializeOwned>(&self, expression: &str) -> Result<T> {
        let params = EvaluateParams::builder()
            .expression(expression)
            .await_promise(true)
            .return_by_value(true)
            .build()
            .map_err(|reason| anyhow!(reason))?;
        let value = self.page.evaluate_expression(params).await;
        value
            .with_context(|| format!("in the page: {expression}"))?
            .into_value()
            .with_context(|| format!("the value of {expression}"))
    }

    /// Waits until a JavaScript expression is true.
    pub(crate) async fn until(&self, condition: &str) -> Result<()> {
        let waiting = format!(
            "new Promise((resolve) => {{
                const end = performance.now() + {DEADLINE_MS};
                const look = () => {{
                    let holds = false;
                    try {{ holds = Boolean({condition}); }} catch {{ /* not there yet */ }}
                    if (holds || performance.now() > end) resolve(holds);
                    else setTimeout(look, 25);
                }};
                look();
            }})"
        );
        let mut navigations = 0;
        let holds = loop {
            match self.value(&waiting).await {
                // A navigation replaced the document in which the condition was looked at.
                Err(error) if navigations < 10 && format!("{error:#}").contains("context") => {
                    navigations += 1;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                holds => break holds?,
            }
        };
        if holds {
            return Ok(());
        }
        let shown: String = self.value("document.body.innerText").await?;
        bail!("this did not become true in time: {condition}\nThe page shows:\n{shown}")
    }

    /// Goes to `url` in the same document, like a followed link.
    pub(crate) async fn go(&self, url: &str) -> Result<()> {
        let _: String = self.value(&format!("location.href = {url:?}")).await?;
        Ok(())
    }

    /// Reloads the page.
    pub(crate) async fn reload(&self) -> Result<()> {
        self.page.reload().await?;
        Ok(())
    }

    /// Clicks the selector's element when it is visible.
    pub(crate) async fn click(&self, selector: &str) -> Result<()> {
        self.until(&format!("seen($({selector:?}))")).await?;
        self.page.find_element(selector).await?.click().await?;
        Ok(())
    }

    /// Replaces the text of a field, like an input method does.
    pub(crate) async fn fill(&self, selector: &str, text: &str) -> Result<()> {
        self.click(selector).await?;
        let _: bool = self
            .value(&format!("$({selector:?}).select(), true"))
            .await?;
        self.page.execute(InsertTextParams::new(text)).await?;
        Ok(())
    }

    /// Types a message into the open conversation and sends it with the Enter key.
    pub(crate) async fn say(&self, text: &str) -> Result<()> {
        self.fill("#message", text).await?;
        self.page
            .find_element("#message")
            .await?
            .press_key("Enter")
            .await?;
        Ok(())
    }

    /// Waits until the page shows a message with this text.
    pub(crate) async fn reads(&self, text: &str) -> Result<()> {
        self.until(&format!("texts().includes({text:?})")).await
    }

    /// Waits until the connection is open, or until it is not if `up` is false.
    pub(crate) async fn online(&self, up: bool) -> Result<()> {
        let sign = if up { "===" } else { "!==" };
        self.until(&format!("$('#connection').dataset.state {sign} 'online'"))
            .await
    }

    /// Fails if the page had a script error, an unhandled rejection or a violation of its content security policy.
    pub(crate) async fn is_sound(&self) -> Result<()> {
        let errors: Vec<String> = self.value("errors").await?;
        if errors.is_empty() {
            Ok(())
        } else {
            bail!("errors in the page: {errors:?}")
        }
    }

    /// Fails if an element extends beyond the width of the window.
    pub(crate) async fn fits(&self, screen: &str) -> Result<()> {
        let beyond: Vec<String> = self
            .value(
                "$$('body *').filter((node) => seen(node) && !node.closest('svg, .visually-hidden')
                    && (node.getBoundingClientRect().right > innerWidth + 0.5 || node.getBoundingClientRect().left < -0.5))
                    .map((node) => node.tagName + '#' + node.id + '.' + node.className)
                    .concat(document.documentElement.scrollWidth > innerWidth ? ['the document'] : [])",
            )
            .await?;
        if beyond.is_empty() {
            Ok(())
        } else {
            bail!("{screen} is too wide for the window: {beyond:?}")
        }
    }
}
