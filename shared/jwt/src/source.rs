//! The issuer's keys as this process has them: fetched when they are first needed, again when they are old or when a token
//! names one that is not there, and kept for a while when that fails.

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

/// After so long they are fetched again: a removed key counts no longer than this.
pub(crate) const OLD: Duration = Duration::from_secs(10 * 60);
/// How long they are kept while they cannot be fetched.
pub(crate) const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How long nobody makes us ask again: anybody can name a key that there is not.
pub(crate) const PAUSE: Duration = Duration::from_secs(30);
/// The same after a failure while there are no keys at all: nobody can connect until then.
const PAUSE_WITHOUT: Duration = Duration::from_secs(1);

/// Where the keys come from.
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

    /// Whether the token is signed with a key of the issuer's.
    ///
    /// A fault if nobody knows, for there are no keys.
    pub(crate) async fn has_signed(
        &self,
        token: &Parsed<'_>,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        // Held while the keys are fetched: who comes meanwhile waits for the same answer.
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

    /// Fetches the keys, unless that was tried a short while ago; whether they are fresh.
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
                tracing::info!(keys = keys.len(), "the issuer's keys were fetched");
                state.keys = Some((keys, now));
                true
            }
            Err(error) => {
                tracing::error!(%error, "the issuer's keys cannot be fetched");
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
            None => Err(Fault::Refused("the issuer's keys cannot be had".to_owned())),
        }
    }
}

/// Whether `now` is less than `age` after `at`. It may seem to be before, when a clock is set back.
fn is_within(age: Duration, at: Timestamp, now: Timestamp) -> bool {
    now < at.plus(age) && at <= now.plus(age)
}
