//! The issuer's keys, cached by this process.
//!
//! They are fetched when they are first needed. They are fetched again when they are old, or when a token names an unknown
//! key. If a fetch fails, the old keys stay in use for a while.

use core::time::Duration;

use protocol::Timestamp;
use service::ports::Fault;
use tokio::sync::Mutex;

use crate::{
    Settings,
    fetch::Fetcher,
    keys::{KeySet, Verdict},
    parse::Parsed,
};

/// The age at which the keys are fetched again. A removed key is accepted no longer than this.
pub(crate) const OLD: Duration = Duration::from_secs(10 * 60);
/// The age up to which the keys stay in use while they cannot be fetched.
pub(crate) const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// The minimum time between two fetches. It bounds the fetches that tokens with unknown keys cause.
pub(crate) const PAUSE: Duration = Duration::from_secs(30);
/// The minimum time between two fetches while there are no keys. It is short, because no client can connect until then.
const PAUSE_WITHOUT: Duration = Duration::from_secs(1);

/// The source of the issuer's keys.
#[derive(Debug)]
pub(crate) struct Source {
    fetcher: Fetcher,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keys: Option<(KeySet, Timestamp)>,
    asked: Option<Timestamp>,
}

impl Source {
    pub(crate) fn new(settings: &Settings) -> std::io::Result<Self> {
        Ok(Self {
            fetcher: Fetcher::new(settings)?,
            state: Mutex::default(),
        })
    }

    /// Returns true if the token is signed with a key of the issuer.
    ///
    /// Fails if there are no keys to verify it with.
    pub(crate) async fn has_signed(
        &self,
        token: &Parsed<'_>,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        // The lock is held while the keys are fetched, so concurrent callers wait for the same fetch.
        let mut state = self.state.lock().await;
        if state.is_older(OLD, now) {
            self.refresh(&mut state, now).await;
        }
        if state.is_older(KEPT, now) {
            state.keys = None;
        }
        let mut verdict = state.verdict(token)?;
        if verdict == Verdict::Unknown && self.refresh(&mut state, now).await {
            verdict = state.verdict(token)?;
        }
        Ok(verdict == Verdict::Good)
    }

    /// Fetches the keys, unless the last attempt was too recent. Returns true if the keys are fresh now.
    async fn refresh(&self, state: &mut State, now: Timestamp) -> bool {
        let pause = if state.keys.is_some() {
            PAUSE
        } else {
            PAUSE_WITHOUT
        };
        if state.asked.is_some_and(|at| is_within(pause, at, now)) {
            return false;
        }
        state.asked = Some(now);
        match self.fetcher.fetch().await {
            Ok(keys) => {
                tracing::info!(keys = keys.len(), "issuer keys fetched");
                state.keys = Some((keys, now));
                true
            }
            Err(error) => {
                tracing::error!(%error, "fetching issuer keys failed");
                false
            }
        }
    }
}

impl State {
    fn is_older(&self, age: Duration, now: Timestamp) -> bool {
        !self
            .keys
            .as_ref()
            .is_some_and(|(_, at)| is_within(age, *at, now))
    }

    fn verdict(&self, token: &Parsed<'_>) -> Result<Verdict, Fault> {
        match &self.keys {
            Some((keys, _)) => Ok(keys.verify(token)),
            None => Err(Fault::Refused(
                "the issuer's keys are unavailable".to_owned(),
            )),
        }
    }
}

/// Returns true if `now` is less than `age` after `at`. If a clock was set back, `now` may be up to `age` before `at`.
fn is_within(age: Duration, at: Timestamp, now: Timestamp) -> bool {
    now < at.plus(age) && at <= now.plus(age)
}
