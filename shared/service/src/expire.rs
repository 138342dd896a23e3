//! What is due: connections and tokens that end, notices before, and logs whose events nobody pushed to the end.
//!
//! Run each minute. Every step is safe twice, and a run that dies is repeated by the next, which begins where the last
//! one that ended set the checkpoint.

use std::collections::BTreeMap;

use core::time::Duration;

use futures::{StreamExt as _, join, stream};
use protocol::{
    ConnectionId, LogId, ServerMessage, Subscriber, Timestamp, frame::DisconnectCode, limits,
};

use crate::{
    ATTEMPTS, Service, Store,
    ports::{
        Connection, Ending, Environment, ExpiryCheckpoint, Fault, Minute, Outcome, Page, Parked,
        ParkedOutcome, Pushes, Reference, SHARDS, TokenHash, TokenState, Workers,
    },
};

/// How long before their end connections are warned: two runs ahead, so that each has a minute left even if it ended
/// right after a run.
const NOTICE: Duration = Duration::from_secs(120);
/// Minutes that are looked at again after they are over: how late the index and other functions' clocks may be.
const AGAIN: i64 = 1;
/// Minutes to look back at the first time.
const FIRST_TIME: i64 = 5;
/// Minutes to look back at most: connections and their rows are not kept longer than a day after their end.
const FURTHEST: i64 = 24 * 60;
/// After so long no further minute is begun; the next run goes on with it. The function may take a minute.
const PATIENCE: Duration = Duration::from_secs(30);
/// Tokens, or logs, that are worked on at once.
const AT_ONCE: usize = 16;
/// Shards that are swept at once.
const SHARDS_AT_ONCE: usize = 4;

/// Why a connection that is past its end is dropped.
pub(crate) fn code_at_end(connection: &Connection) -> DisconnectCode {
    if connection.ends_with_token() {
        DisconnectCode::TokenExpired
    } else {
        DisconnectCode::ConnectionExpired
    }
}

/// What of one token ends in one minute.
struct Due {
    token: TokenHash,
    /// Whether the token itself does.
    itself: bool,
    connections: Vec<ConnectionId>,
}

/// When a run looks, and up to where earlier ones warned.
#[derive(Clone, Copy)]
struct Moment {
    now: Timestamp,
    warned: Timestamp,
}

impl<S: Store, G: Pushes, W: Workers, E: Environment> Service<S, G, W, E> {
    /// Does what is due: drops connections past their end, warns those whose token ends soon, finishes invalidations that
    /// died half-way, and has logs drained that nobody holds. What fails does not stop the rest.
    ///
    /// # Errors
    /// A fault, once everything else is done; all are logged. The next run tries again what failed.
    ///
    /// # Cost
    /// A query of the index for each minute (five if no run is missing), and one for each shard: half a unit for each
    /// 4 KiB of keys. For each token of which something ends: its item and its subscriber's connections, one unit each.
    pub async fn expire(&self) -> Result<(), Fault> {
        // At once: each has its work also when there is too much of the other's.
        let (ended, swept) = join!(Box::pin(self.end_what_is_due()), Box::pin(self.sweep()));
        ended.and(swept)
    }

    async fn end_what_is_due(&self) -> Result<(), Fault> {
        let now = self.environment.now();
        let this = Minute::of(now);
        let stored = self.store.expiry_checkpoint().await?;
        let begin = stored.map_or_else(|| this.plus(-FIRST_TIME), |it| it.minute);
        let moment = Moment {
            now,
            warned: stored.map_or(now, |it| it.warned.max(now)),
        };
        let soon = now.plus(NOTICE);
        let impatient = now.plus(PATIENCE);

        let mut done = this.plus(-AGAIN);
        let mut warned = soon.max(moment.warned);
        let mut failed = None;
        let mut minute = begin.max(this.plus(-FURTHEST)).min(done);
        while minute <= Minute::of(soon) {
            if self.environment.now() >= impatient {
                tracing::warn!(minutes = this.number() - minute.number(), "behind");
                done = done.min(minute);
                warned = moment.warned;
                break;
            }
            if let Err(fault) = self.end_minute(minute, moment).await {
                // What can never be read must not hold up the checkpoint for a day.
                if !matches!(fault, Fault::Corrupt(_)) {
                    done = done.min(minute);
                }
                failed = worse(failed, Err(fault), "a minute is not done with");
            }
            minute = minute.plus(1);
        }
        // Last: a run that dies before is repeated.
        let checkpoint = ExpiryCheckpoint {
            minute: done,
            warned,
        };
        self.store.set_expiry_checkpoint(&checkpoint).await?;
        failed.map_or(Ok(()), Err)
    }

    async fn end_minute(&self, minute: Minute, moment: Moment) -> Result<(), Fault> {
        let mut after: Option<Ending> = None;
        let mut failed = None;
        // Their index moves on as they live, so what is not due yet stands in a later minute.
        if minute <= Minute::of(moment.now) {
            failed = worse(
                failed,
                self.end_sessions(minute).await,
                "sessions not ended",
            );
        }
        loop {
            let Page { items, more } = self
                .store
                .ending(minute, after.as_ref(), limits::PAGE)
                .await?;
            after = items.last().cloned();
            let mut ends = stream::iter(by_token(items))
                .map(|due| async move { Box::pin(self.end(&due, moment)).await })
                .buffer_unordered(AT_ONCE);
            while let Some(ended) = ends.next().await {
                failed = worse(failed, ended, "not ended");
            }
            if !more {
                return failed.map_or(Ok(()), Err);
            }
        }
    }

    /// Does what is due of one token.
    async fn end(&self, due: &Due, moment: Moment) -> Result<(), Fault> {
        let token = &due.token;
        let Some(record) = self.store.token(token).await? else {
            // Kept a day longer than any connection under it may live, so nothing can be open any more.
            for id in &due.connections {
                self.store.forget_token_connection(token, id).await?;
            }
            return Ok(());
        };
        if due.itself && record.state == TokenState::Invalidated {
            self.invalidate(token).await?;
            return Ok(());
        }
        if due.connections.is_empty() {
            return Ok(());
        }
        let entries = self.store.connections(&record.subscriber).await?;
        let mut failed = None;
        for id in &due.connections {
            let ended = self
                .end_connection(&record.subscriber, token, id, entries.get(id), moment)
                .await;
            failed = worse(failed, ended, "not ended");
        }
        failed.map_or(Ok(()), Err)
    }

    async fn end_connection(
        &self,
        subscriber: &Subscriber,
        token: &TokenHash,
        id: &ConnectionId,
        entry: Option<&Connection>,
        Moment { now, warned }: Moment,
    ) -> Result<(), Fault> {
        match entry {
            Some(entry) if entry.token == *token && now < entry.ends_at => {
                let ends = entry.ends_at;
                if entry.ends_with_token() && warned < ends && ends <= now.plus(NOTICE) {
                    self.warn(subscriber, id, entry).await?;
                }
                Ok(())
            }
            // Without an entry it was forgotten by somebody who may have died before it was closed.
            _ => {
                let code = entry.map_or(DisconnectCode::TokenExpired, code_at_end);
                self.drop_for_certain(subscriber, token, id, entry, code)
                    .await?;
                if entry.is_none() {
                    self.store.forget_token_connection(token, id).await?;
                }
                Ok(())
            }
        }
    }

    /// Warns a connection that its token ends, behind what it waits for. A courtesy: what is lost here is told at the end.
    async fn warn(
        &self,
        subscriber: &Subscriber,
        id: &ConnectionId,
        entry: &Connection,
    ) -> Result<(), Fault> {
        let at = entry.ends_at;
        let mut entry = entry.clone();
        for _ in 0..ATTEMPTS {
            let now = self.environment.now();
            if !entry.is_gated(now) {
                let token_expires_at = at;
                let frame = ServerMessage::TokenExpiring { token_expires_at }.encode(None);
                let posted = self.gateway.post(id, entry.framing, &[&frame]).await;
                if posted.outcome == Outcome::Gone {
                    self.disconnect(subscriber, id).await?;
                }
                return Ok(());
            }
            let saw = entry.standing_gate(now, None);
            let reference = [Reference::TokenExpiring { at }];
            let parked = self.store.park(subscriber, id, saw, &reference).await?;
            match (parked, saw) {
                (ParkedOutcome::NotRegistered, _)
                | (ParkedOutcome::Parked(Parked::Further), Some(_)) => return Ok(()),
                // Nobody may be seeing to what is parked there.
                (ParkedOutcome::Parked(_), _) => {
                    return self.start_release(subscriber, id).await;
                }
                (ParkedOutcome::Changed, _) => {
                    match self.store.connections(subscriber).await?.remove(id) {
                        Some(read) if read.ends_at == at => entry = read,
                        _ => return Ok(()),
                    }
                }
            }
        }
        Ok(())
    }

    /// Has what lies in logs pushed: an acknowledged event is, also if everybody died who was to push it.
    async fn sweep(&self) -> Result<(), Fault> {
        let mut shards = stream::iter(0..SHARDS)
            .map(|shard| self.sweep_shard(shard))
            .buffer_unordered(SHARDS_AT_ONCE);
        let mut failed = None;
        while let Some(swept) = shards.next().await {
            failed = worse(failed, swept, "not swept");
        }
        failed.map_or(Ok(()), Err)
    }

    async fn sweep_shard(&self, shard: u32) -> Result<(), Fault> {
        let mut after: Option<LogId> = None;
        let mut failed = None;
        loop {
            let Page { items, more } = self
                .store
                .undrained(shard, after.as_ref(), limits::PAGE)
                .await?;
            let mut logs = stream::iter(&items)
                .map(|log| self.sweep_log(log))
                .buffer_unordered(AT_ONCE);
            while let Some(swept) = logs.next().await {
                failed = worse(failed, swept, "not swept");
            }
            drop(logs);
            after = items.into_iter().next_back();
            if !more {
                return failed.map_or(Ok(()), Err);
            }
        }
    }

    /// A log that is not pushed to its end is the worker's, unless somebody holds its lease.
    async fn sweep_log(&self, log: &LogId) -> Result<(), Fault> {
        if self.store.settle(log).await? {
            return Ok(());
        }
        match self.store.head(log).await? {
            Some(head) => self.notice(log, head.lease.as_ref(), &head).await,
            None => Ok(()),
        }
    }
}

/// What ends in a minute, by token.
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

/// Logs a fault and remembers the one to tell: a passing one rather than a defect, because it is to be tried again.
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
