//! The expiry run: connections and tokens that end, warnings before that, and logs whose events were not pushed to the end.
//!
//! It runs each minute. Every step is safe to repeat. If a run dies, the next one begins at the checkpoint of the last run that
//! ended.

use core::{pin::pin, time::Duration};
use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, join, stream};
use protocol::{
    ConnectionId, ConnectionKey, LogId, ServerMessage, Timestamp, limits,
    server_message::DisconnectCode,
};

use crate::{
    Service, Store,
    closer::{Closer, code_at_end},
    connections::sessions::Reaper,
    delivery::post::Sender,
    pages::pages,
    parts::part,
    ports::{
        Connection, Ending, Environment, ExpiryCheckpoint, Fault, Minute, Outcome, Parked,
        ParkedOutcome, Pushes, Reference, SHARDS, TokenHash, TokenState, Workers,
    },
    retry::STORE,
    tokens::revoke::Revoker,
};

/// How long before its end a connection is warned: two runs ahead, so that it has a minute left even if it ends right after a
/// run.
const NOTICE: Duration = Duration::from_secs(120);
/// Minutes that are looked at a second time after they are over: the index and other functions' clocks may be that late.
const LATE: i64 = 1;
/// Minutes to look back in the first run.
const FIRST_TIME: i64 = 5;
/// Minutes to look back at most. Connections and their rows are kept for a day after their end.
const FURTHEST: i64 = 24 * 60;
/// After this, no further minute is begun. The next run goes on. The function may take a minute.
const PATIENCE: Duration = Duration::from_secs(30);
/// Tokens, or logs, that are worked on at the same time.
const AT_ONCE: usize = 16;
/// Shards that are swept at the same time.
const SHARDS_AT_ONCE: usize = 4;

part! {
    /// Ends what is due.
    Expiry
}

/// What ends of one token in one minute.
struct Due {
    token: TokenHash,
    /// True if the token itself ends.
    itself: bool,
    connections: Vec<ConnectionId>,
}

/// The time of a run, and the time up to which earlier runs warned.
#[derive(Clone, Copy)]
struct Moment {
    now: Timestamp,
    warned: Timestamp,
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Closes connections past their end, warns those whose token ends soon, finishes invalidations that died half-way, and has
    /// abandoned logs drained. A step that fails does not stop the others.
    ///
    /// # Errors
    /// A fault, once everything else is done. Each fault is logged. The next run repeats what failed.
    ///
    /// # Cost
    /// A query of the index for each minute (five if no run is missing), and one for each shard: half a unit for each 4 KiB of
    /// keys. For each token that ends or has connections that end: its item and its subscriber's connections, one unit each.
    pub async fn expire(&self) -> Result<(), Fault> {
        // At the same time: neither waits if there is too much of the other.
        let expiry = Expiry::of(self.ports());
        let (ended, swept) = join!(Box::pin(expiry.end_what_is_due()), Box::pin(expiry.sweep()));
        ended.and(swept)
    }
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Expiry<'_, S, G, W, E> {
    async fn end_what_is_due(&self) -> Result<(), Fault> {
        let now = self.ports.environment.now();
        let this = Minute::of(now);
        let stored = self.ports.store.expiry_checkpoint().await?;
        let begin = stored.map_or_else(|| this.plus(-FIRST_TIME), |it| it.minute);
        let moment = Moment {
            now,
            warned: stored.map_or(now, |it| it.warned.max(now)),
        };
        let soon = now.plus(NOTICE);
        let impatient = now.plus(PATIENCE);

        let mut done = this.plus(-LATE);
        let mut warned = soon.max(moment.warned);
        let mut failed = None;
        let mut minute = begin.max(this.plus(-FURTHEST)).min(done);
        while minute <= Minute::of(soon) {
            if self.ports.environment.now() >= impatient {
                tracing::warn!(
                    minutes = this.number() - minute.number(),
                    "expiry run is behind"
                );
                done = done.min(minute);
                warned = moment.warned;
                break;
            }
            if let Err(fault) = self.end_minute(minute, moment).await {
                // A corrupt item must not hold up the checkpoint for a day.
                if !matches!(fault, Fault::Corrupt(_)) {
                    done = done.min(minute);
                }
                failed = worse(failed, Err(fault), "expiry of a minute failed");
            }
            minute = minute.plus(1);
        }
        // Last: if the run dies before this, the next one repeats it.
        let checkpoint = ExpiryCheckpoint {
            minute: done,
            warned,
        };
        self.ports.store.set_expiry_checkpoint(&checkpoint).await?;
        failed.map_or(Ok(()), Err)
    }

    async fn end_minute(&self, minute: Minute, moment: Moment) -> Result<(), Fault> {
        let store = self.ports.store;
        let mut failed = None;
        // A session moves in its index for as long as it lives, so one that is not due stands in a later minute.
        if minute <= Minute::of(moment.now) {
            let ended = Reaper::of(self.ports).end_sessions(minute).await;
            failed = worse(failed, ended, "expiry of sessions failed");
        }
        let mut ending = pin!(pages(
            |after: Option<Ending>| async move {
                store.ending(minute, after.as_ref(), limits::PAGE).await
            },
            Clone::clone,
        ));
        while let Some(endings) = ending.try_next().await? {
            let mut ends = stream::iter(by_token(endings))
                .map(|due| async move { Box::pin(self.end(&due, moment)).await })
                .buffer_unordered(AT_ONCE);
            while let Some(ended) = ends.next().await {
                failed = worse(failed, ended, "expiry of a token failed");
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Ends what is due of one token.
    async fn end(&self, due: &Due, moment: Moment) -> Result<(), Fault> {
        let token = &due.token;
        let Some(record) = self.ports.store.token(token).await? else {
            // A token is kept a day longer than any connection under it lives, so none of them is open.
            for id in &due.connections {
                self.ports.store.forget_token_connection(token, id).await?;
            }
            return Ok(());
        };
        if due.itself && record.state == TokenState::Invalidated {
            Revoker::of(self.ports).invalidate(token).await?;
            return Ok(());
        }
        if due.connections.is_empty() {
            return Ok(());
        }
        let entries = self.ports.store.connections(&record.subscriber).await?;
        let mut failed = None;
        for id in &due.connections {
            let ended = self
                .end_connection(
                    &record.subscriber.connection(id.clone()),
                    token,
                    entries.get(id),
                    moment,
                )
                .await;
            failed = worse(failed, ended, "expiry of a token failed");
        }
        failed.map_or(Ok(()), Err)
    }

    async fn end_connection(
        &self,
        key: &ConnectionKey,
        token: &TokenHash,
        entry: Option<&Connection>,
        Moment { now, warned }: Moment,
    ) -> Result<(), Fault> {
        match entry {
            Some(entry) if entry.token == *token && now < entry.ends_at => {
                let ends = entry.ends_at;
                if entry.ends_with_token() && warned < ends && ends <= now.plus(NOTICE) {
                    self.warn(key, entry).await?;
                }
                Ok(())
            }
            // Without an entry, a function forgot it and may have died before it closed it.
            _ => {
                let code = entry.map_or(DisconnectCode::TokenExpired, code_at_end);
                Closer::of(self.ports)
                    .close_for_certain(key, token, entry, code)
                    .await?;
                if entry.is_none() {
                    self.ports
                        .store
                        .forget_token_connection(token, &key.id)
                        .await?;
                }
                Ok(())
            }
        }
    }

    /// Warns a connection that its token ends, behind what is parked for it. If the warning is lost, the client learns it at the
    /// end.
    async fn warn(&self, key: &ConnectionKey, entry: &Connection) -> Result<(), Fault> {
        let (store, environment) = (self.ports.store, self.ports.environment);
        let at = entry.ends_at;
        let mut entry = entry.clone();
        for _ in 0..STORE.retries {
            let now = environment.now();
            if !entry.is_gated(now) {
                let token_expires_at = at;
                let frame = ServerMessage::TokenExpiring { token_expires_at }.encode(None);
                let posted = self
                    .ports
                    .gateway
                    .post(&key.id, entry.framing, &[&frame])
                    .await;
                if posted.outcome == Outcome::Gone {
                    Closer::of(self.ports).disconnected(key).await?;
                }
                return Ok(());
            }
            let saw = entry.standing_gate(now, None);
            let reference = [Reference::TokenExpiring { at }];
            let parked = store.park(key, saw, &reference).await?;
            match (parked, saw) {
                (ParkedOutcome::NotRegistered, _)
                | (ParkedOutcome::Parked(Parked::Further), Some(_)) => return Ok(()),
                // No function may have scheduled a release for what is parked there.
                (ParkedOutcome::Parked(_), _) => {
                    return Sender::of(self.ports).schedule_release(key).await;
                }
                (ParkedOutcome::Changed, _) => {
                    match store.connections(&key.subscriber).await?.remove(&key.id) {
                        Some(read) if read.ends_at == at => entry = read,
                        _ => return Ok(()),
                    }
                }
            }
        }
        Ok(())
    }

    /// Has abandoned logs drained: an acknowledged event is pushed, even if every function died that was to push it.
    async fn sweep(&self) -> Result<(), Fault> {
        let mut shards = stream::iter(0..SHARDS)
            .map(|shard| self.sweep_shard(shard))
            .buffer_unordered(SHARDS_AT_ONCE);
        let mut failed = None;
        while let Some(swept) = shards.next().await {
            failed = worse(failed, swept, "sweep of a log failed");
        }
        failed.map_or(Ok(()), Err)
    }

    async fn sweep_shard(&self, shard: u32) -> Result<(), Fault> {
        let store = self.ports.store;
        let mut undrained = pin!(pages(
            |after: Option<LogId>| async move {
                store.undrained(shard, after.as_ref(), limits::PAGE).await
            },
            Clone::clone,
        ));
        let mut failed = None;
        while let Some(logs) = undrained.try_next().await? {
            let mut sweeping = stream::iter(&logs)
                .map(|log| self.sweep_log(log))
                .buffer_unordered(AT_ONCE);
            while let Some(swept) = sweeping.next().await {
                failed = worse(failed, swept, "sweep of a log failed");
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Leaves a log that is not pushed to its end to the worker, unless a function holds its lease.
    async fn sweep_log(&self, log: &LogId) -> Result<(), Fault> {
        if self.ports.store.settle(log).await? {
            return Ok(());
        }
        match self.ports.store.head(log).await? {
            Some(head) => self.ports.schedule_drain_if_abandoned(log, &head).await,
            None => Ok(()),
        }
    }
}

/// Groups what ends in a minute by token.
fn by_token(endings: Vec<Ending>) -> Vec<Due> {
    let mut tokens: BTreeMap<TokenHash, (bool, Vec<ConnectionId>)> = BTreeMap::new();
    for Ending { token, connection } in endings {
        let (itself, connections) = tokens.entry(token).or_default();
        match connection {
            Some(id) => connections.push(id),
            None => *itself = true,
        }
    }
    tokens
        .into_iter()
        .map(|(token, (itself, connections))| Due {
            token,
            itself,
            connections,
        })
        .collect()
}

/// Logs a fault and returns the one to report: a passing one rather than a corrupt item, because only a passing one is repeated.
fn worse(failed: Option<Fault>, ended: Result<(), Fault>, what: &'static str) -> Option<Fault> {
    let Err(fault) = ended else {
        return failed;
    };
    tracing::error!(%fault, "{what}");
    match failed {
        Some(passing) if matches!(fault, Fault::Corrupt(_)) => Some(passing),
        _ => Some(fault),
    }
}
