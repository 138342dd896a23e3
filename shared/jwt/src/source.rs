//! The issuer's keys in this process. They are fetched when they are first needed, and fetched again when they are old or
//! when a token names an unknown key. If a fetch fails, the old keys are kept for a while.

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
/// How long keys are kept while they cannot be fetched.
pub(crate) const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// The minimum time between two fetches. Any client can name an unknown key and cause one.
pub(crate) const PAUSE: Duration = Duration::from_secs(30);
/// The minimum time between two fetches while there are no keys. No client with a signed token can connect meanwhile.
const PAUSE_WITHOUT: Duration = Duration::from_secs(1);

/// Fetches and keeps the keys.
#[derive(Debug)]
pub(crate) struct Source {
    fetcher: Fetcher,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The keys, and when they were fetched.
    keys: Option<(KeySet, Timestamp)>,
    /// When the last fetch began, failed or not.
    asked: Option<Timestamp>,
}

impl Source {
    pub(crate) fn new(settings: &Settings) -> std::io::Result<Self> {
        Ok(Self {
            fetcher: Fetcher::new(settings)?,
            state: Mutex::default(),
        })
    }

    /// Returns true if the token is signed with one of the issuer's keys.
    ///
    /// # Errors
    /// Fails if there are no keys.
    pub(crate) async fn has_signed(
        &self,
        token: &Parsed<'_>,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        // The lock is held during a fetch, so concurrent calls wait for the same answer.
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

    /// Fetches the keys, unless the last fetch was a short while ago. Returns true if the keys are now fresh.
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
                tracing::info!(keys = keys.len(), "fetched the issuer's keys");
                state.keys = Some((keys, now));
                true
            }
            Err(error) => {
                tracing::error!(%error, "fetching the issuer's keys failed");
                false
            }
        }
    }
}

impl State {
    /// Returns true if there are no keys, or they were fetched at least `age` ago.
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
                "the issuer's keys are not available".to_owned(),
            )),
        }
    }
}

/// Returns true if `now` is less than `age` after `at`. `now` may be a little before `at`, if the clock was set back.
fn is_within(age: Duration, at: Timestamp, now: Timestamp) -> bool {
    now < at.plus(age) && at <= now.plus(age)
}
