//! Tokens.

use protocol::{ConnectionId, Subscriber, Timestamp};
use service::ports::{
    Ending, ExpiryCheckpoint, Fault, Minute, Page, TokenHash, TokenRecord, TokenState, Tokens,
};

use super::{
    Memory, beyond, page,
    state::{DAY_SECONDS, Ttl},
};

impl Tokens for Memory {
    async fn put_token(&self, hash: &TokenHash, token: &TokenRecord) -> Result<(), Fault> {
        let ttl = Ttl::after(token.expires, DAY_SECONDS);
        self.write("put_token", |state, _| {
            let tokens = &mut state.person_mut(&token.subscriber).tokens;
            tokens.insert(hash.clone(), ttl);
        })
        .await?;
        self.write("put_token", |state, _| {
            state.tokens.entry(hash.clone()).or_default().record = Some((token.clone(), ttl));
            state.set_ending(of_token(hash), Some(Minute::of(token.expires)));
        })
        .await
    }

    async fn token(&self, hash: &TokenHash) -> Result<Option<TokenRecord>, Fault> {
        self.read("token", |state, now| {
            state.tokens.get(hash)?.record(now).cloned()
        })
        .await
    }

    async fn invalidate_token(
        &self,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Result<Option<TokenRecord>, Fault> {
        let minute = Minute::of(now);
        self.write("invalidate_token", |state, now| {
            let (record, ttl) = state.tokens.get_mut(hash)?.record.as_mut()?;
            let before = ttl.holds(now).then(|| record.clone())?;
            record.state = TokenState::Invalidated;
            state.set_ending(of_token(hash), Some(minute));
            Some(before)
        })
        .await
    }

    async fn tokens_of(
        &self,
        subscriber: &Subscriber,
        after: Option<&TokenHash>,
        limit: usize,
    ) -> Result<Page<TokenHash>, Fault> {
        let limit = self.cap(limit);
        self.read("tokens_of", |state, now| {
            let person = state.person(subscriber).into_iter();
            let hashes = person
                .flat_map(|it| it.tokens.range(beyond(after)))
                .filter(|(_, ttl)| ttl.holds(now))
                .map(|(hash, _)| hash.clone());
            page(hashes, limit)
        })
        .await
    }

    async fn token_connections(
        &self,
        hash: &TokenHash,
        after: Option<&ConnectionId>,
        limit: usize,
    ) -> Result<Page<ConnectionId>, Fault> {
        let limit = self.cap(limit);
        self.read("token_connections", |state, now| {
            let token = state.tokens.get(hash).into_iter();
            let ids = token
                .flat_map(|it| it.connections.range(beyond(after)))
                .filter(|(_, ttl)| ttl.holds(now))
                .map(|(id, _)| id.clone());
            page(ids, limit)
        })
        .await
    }

    async fn has_token_connection(
        &self,
        hash: &TokenHash,
        connection: &ConnectionId,
    ) -> Result<bool, Fault> {
        self.read("has_token_connection", |state, now| {
            let token = state.tokens.get(hash);
            let ttl = token.and_then(|it| it.connections.get(connection));
            ttl.is_some_and(|it| it.holds(now))
        })
        .await
    }

    async fn forget_token_connection(
        &self,
        hash: &TokenHash,
        connection: &ConnectionId,
    ) -> Result<(), Fault> {
        self.write("forget_token_connection", |state, _| {
            state.forget_token_connection(hash, connection);
        })
        .await
    }

    async fn settle_token(&self, hash: &TokenHash) -> Result<(), Fault> {
        self.write("settle_token", |state, _| {
            let record = state.tokens.get(hash).and_then(|it| it.record.as_ref());
            if record.is_some_and(|(record, _)| record.state == TokenState::Invalidated) {
                state.set_ending(of_token(hash), None);
            }
        })
        .await
    }

    async fn ending(
        &self,
        minute: Minute,
        after: Option<&Ending>,
        limit: usize,
    ) -> Result<Page<Ending>, Fault> {
        let limit = self.cap(limit);
        self.read("ending", |state, _| {
            let endings = state.endings(minute).into_iter();
            page(
                endings.flat_map(|it| it.range(beyond(after))).cloned(),
                limit,
            )
        })
        .await
    }

    async fn expiry_checkpoint(&self) -> Result<Option<ExpiryCheckpoint>, Fault> {
        self.read("expiry_checkpoint", |state, _| state.checkpoint)
            .await
    }

    async fn set_expiry_checkpoint(&self, checkpoint: &ExpiryCheckpoint) -> Result<(), Fault> {
        self.write("set_expiry_checkpoint", |state, _| {
            state.checkpoint = Some(*checkpoint);
        })
        .await
    }
}

fn of_token(hash: &TokenHash) -> Ending {
    Ending {
        token: hash.clone(),
        connection: None,
    }
}
