//! The settings of the mounts at which SockJS is served.

use core::time::Duration;
use std::env;

use lambda::Origins;
use sockjs::Mount;

/// The script for the iframe page, in the same version as at the edge.
const CLIENT_URL: &str = "https://cdn.jsdelivr.net/npm/sockjs-client@1.6.1/dist/sockjs.min.js";

/// Everything that the function serves.
#[derive(Clone, Debug)]
pub struct Site {
    /// The mounts. The first whose prefix matches a path serves it.
    pub mounts: Vec<Settings>,
    /// The origins of pages that may use the site.
    pub origins: Origins,
    /// The secret that the edge sends with every request in `x-origin-secret`, so that clients cannot bypass the edge.
    /// `None` disables the check.
    pub secret: Option<String>,
    /// The URL of the WebSocket API, to which receivers connect their doorbells. Without it receivers poll.
    pub doorbell: Option<String>,
    /// How often to check that the client is still connected, where that is possible. Lambda does not report that a client
    /// left ("Response streaming", docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html, 2026-08).
    pub watch: Option<Duration>,
}

/// The settings of one mount.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The prefix of the mount's paths.
    pub prefix: String,
    /// True if `info` offers WebSockets.
    pub websocket: bool,
    /// True if iframe, htmlfile and jsonp are served.
    pub legacy: bool,
    /// True if responses set the cookie for load balancers.
    pub cookies: bool,
    /// The URL of the script for the iframe page.
    pub client_url: String,
    /// The number of bytes after which a stream ends.
    pub response_limit: usize,
}

/// The limit of SockJS's reference server. A browser keeps the whole response in memory.
const RESPONSE_LIMIT: usize = 128 * 1024;

impl Site {
    /// Reads the messaging service's single mount from the environment.
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `SOCKJS_PREFIX` | the prefix of the paths, by default `/messaging` |
    /// | `SOCKJS_LEGACY` | `true` also serves iframe, htmlfile and jsonp |
    /// | `SOCKJS_CLIENT_URL` | the script for the iframe page, by default the public one |
    /// | `DOORBELL_URL` | the URL of the WebSocket API; without it receivers poll |
    /// | `ALLOWED_ORIGINS` | see [`Origins::from_env`] |
    /// | `ORIGIN_SECRET` | the secret that the edge sends with every request; if empty, it is not checked |
    #[must_use]
    pub fn from_env() -> Self {
        let legacy = variable("SOCKJS_LEGACY").is_some_and(|it| it == "true");
        let settings = Settings {
            prefix: variable("SOCKJS_PREFIX").unwrap_or_else(|| "/messaging".to_owned()),
            websocket: true,
            legacy,
            cookies: legacy,
            client_url: variable("SOCKJS_CLIENT_URL").unwrap_or_else(|| CLIENT_URL.to_owned()),
            response_limit: RESPONSE_LIMIT,
        };
        Self {
            mounts: vec![settings],
            origins: Origins::from_env(),
            secret: variable("ORIGIN_SECRET"),
            doorbell: variable("DOORBELL_URL"),
            watch: None,
        }
    }

    /// Returns the mount that serves a path.
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
