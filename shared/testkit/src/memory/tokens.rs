//! Tokens.

use protocol::{ConnectionId, Subscriber, Timestamp};
use service::ports::{Fault, Page, TokenHash, TokenRecord, TokenState, Tokens};

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
        _now: Timestamp,
    ) -> Result<Option<TokenRecord>, Fault> {
        self.write("invalidate_token", |state, now| {
            let (record, ttl) = state.tokens.get_mut(hash)?.record.as_mut()?;
            let before = ttl.holds(now).then(|| record.clone())?;
            record.state = TokenState::Invalidated;
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

    async fn forget_token_connection(
        &self,
        hash: &TokenHash,
        connection: &ConnectionId,
    ) -> Result<(), Fault> {
        self.write("forget_token_connection", |state, _| {
            if let Some(token) = state.tokens.get_mut(hash) {
                token.connections.remove(connection);
            }
        })
        .await
    }
}
