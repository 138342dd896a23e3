//! How a place at which SockJS is served behaves.

use core::time::Duration;
use std::env;

use lambda::Origins;
use sockjs::Mount;

/// The client for the page in the iframe, of the version that the edge names too.
const CLIENT_URL: &str = "https://cdn.jsdelivr.net/npm/sockjs-client@1.6.1/dist/sockjs.min.js";

/// Everything that a function serves.
#[derive(Clone, Debug)]
pub struct Site {
    /// The places; the first whose prefix a path has is meant.
    pub mounts: Vec<Settings>,
    /// The pages that may use it.
    pub origins: Origins,
    /// What the edge sends with every request in `x-origin-secret`, so that nobody goes around it; none is not asked for.
    pub secret: Option<String>,
    /// The WebSocket API's own URL, where a receiver's doorbell is; without one receivers look again and again.
    pub doorbell: Option<String>,
    /// How often to look whether the client is still there, where that can be noticed. Lambda tells nobody that its client
    /// left ("Response streaming", docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html, 2026-08).
    pub watch: Option<Duration>,
}

/// One place.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What its paths begin with.
    pub prefix: String,
    /// Whether there are WebSockets.
    pub websocket: bool,
    /// Whether there are iframe, htmlfile and jsonp.
    pub legacy: bool,
    /// Whether load balancers get their cookie.
    pub cookies: bool,
    /// Where the page in the iframe finds its client.
    pub client_url: String,
    /// The bytes after which a stream ends.
    pub response_limit: usize,
    /// How long `info` takes at least: clients give a transport time in proportion to it (sockjs-client 1.6).
    pub info_floor: Duration,
}

/// What is configured wrongly.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not a number.
    #[error("the environment variable {0} is no number")]
    Number(&'static str),
}

/// The reference server's limit; a browser keeps the whole response in memory.
const RESPONSE_LIMIT: usize = 128 * 1024;

impl Site {
    /// The messaging service's one place, from the environment.
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `SOCKJS_PREFIX` | what its paths begin with; `/messaging` if it is not set |
    /// | `SOCKJS_LEGACY` | `true` serves iframe, htmlfile and jsonp too |
    /// | `SOCKJS_CLIENT_URL` | the script for the page in the iframe, instead of the public one |
    /// | `SOCKJS_INFO_MILLIS` | how long `info` takes at least; 0 if it is not set |
    /// | `DOORBELL_URL` | the WebSocket API's own URL; without it receivers look again and again |
    /// | `ALLOWED_ORIGINS` | see [`Origins::from_env`] |
    /// | `ORIGIN_SECRET` | what the edge sends with every request; empty is not asked for |
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn from_env() -> Result<Self, SettingsError> {
        let legacy = variable("SOCKJS_LEGACY").is_some_and(|it| it == "true");
        let millis = match variable("SOCKJS_INFO_MILLIS") {
            Some(millis) => millis
                .parse()
                .map_err(|_| SettingsError::Number("SOCKJS_INFO_MILLIS"))?,
            None => 0,
        };
        let settings = Settings {
            prefix: variable("SOCKJS_PREFIX").unwrap_or_else(|| "/messaging".to_owned()),
            websocket: true,
            legacy,
            cookies: legacy,
            client_url: variable("SOCKJS_CLIENT_URL").unwrap_or_else(|| CLIENT_URL.to_owned()),
            response_limit: RESPONSE_LIMIT,
            info_floor: Duration::from_millis(millis),
        };
        Ok(Self {
            mounts: vec![settings],
            origins: Origins::from_env(),
            secret: variable("ORIGIN_SECRET"),
            doorbell: variable("DOORBELL_URL"),
            watch: None,
        })
    }

    /// The place that a path is in.
    pub(crate) fn at(&self, path: &str) -> Option<&Settings> {
        self.mounts.iter().find(|it| {
            let below = path.strip_prefix(it.prefix.as_str());
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        })
    }
}

impl Settings {
    pub(crate) fn mount(&self) -> Mount<'_> {
        Mount {
            prefix: &self.prefix,
            websocket: self.websocket,
            legacy: self.legacy,
            cookies: self.cookies,
        }
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
