//! Signed tokens: using and refusing them.

use protocol::{Subscriber, Timestamp};
use service::ports::{
    Ending, Fault, Jti, Minute, Page, Reauthorization, ReauthorizeError, RegisterError,
    Registration, SignedToken, SignedTokens, SignedUse, TokenHash, TokenRecord, TokenState,
};

use super::{
    Memory, beyond,
    connections::{enter, put_under},
    page,
    state::{DAY_SECONDS, State, Ttl},
};

impl SignedTokens for Memory {
    async fn register_signed(
        &self,
        registration: &Registration,
        token: &SignedUse,
    ) -> Result<(), RegisterError> {
        let hash = &registration.connection.token;
        let at = registration.connection.since;
        let registered = self.write("register_signed", |state, now| {
            if !use_token(state, hash, &registration.subscriber, token, at, now) {
                return Err(RegisterError::Token);
            }
            enter(state, registration);
            Ok(())
        });
        registered.await?
    }

    async fn reauthorize_signed(
        &self,
        reauthorization: &Reauthorization,
        token: &SignedUse,
    ) -> Result<(), ReauthorizeError> {
        let Reauthorization {
            subscriber,
            id,
            old,
            new,
            at,
            ..
        } = reauthorization;
        let reauthorized = self.write("reauthorize_signed", |state, now| {
            let registered = state
                .connection_mut(subscriber, id)
                .is_some_and(|it| it.token == *old);
            if !is_usable(state, new, token, *at, now) {
                return Err(ReauthorizeError::Token);
            }
            if !registered {
                return Err(Fault::Conflict.into());
            }
            use_token(state, new, subscriber, token, *at, now);
            put_under(state, reauthorization)
        });
        reauthorized.await?
    }

    async fn refuse_signed(&self, token: &SignedToken, now: Timestamp) -> Result<(), Fault> {
        let minute = Minute::of(now);
        self.write("refuse_signed", |state, _| {
            let record = TokenRecord {
                subscriber: token.subscriber.clone(),
                state: TokenState::Invalidated,
                issued: token.begins,
                expires: token.expires,
            };
            put_record(state, &token.hash, record, minute);
        })
        .await
    }

    async fn refuse_jti(&self, jti: &Jti, expires: Timestamp) -> Result<(), Fault> {
        self.write("refuse_jti", |state, _| {
            let ttl = Ttl::after(expires, DAY_SECONDS);
            state.jtis.entry(jti.clone()).or_default().refused = Some(ttl);
        })
        .await
    }

    async fn is_jti_refused(&self, jti: &Jti) -> Result<bool, Fault> {
        self.read("is_jti_refused", |state, now| is_refused(state, jti, now))
            .await
    }

    async fn tokens_with_jti(
        &self,
        jti: &Jti,
        after: Option<&TokenHash>,
        limit: usize,
    ) -> Result<Page<TokenHash>, Fault> {
        let limit = self.cap(limit);
        self.read("tokens_with_jti", |state, now| {
            let tokens = state.jtis.get(jti).into_iter();
            let hashes = tokens
                .flat_map(|it| it.tokens.range(beyond(after)))
                .filter(|(_, ttl)| ttl.holds(now))
                .map(|(hash, _)| hash.clone());
            page(hashes, limit)
        })
        .await
    }
}

fn is_refused(state: &State, jti: &Jti, now: Timestamp) -> bool {
    let refused = state.jtis.get(jti).and_then(|it| it.refused);
    refused.is_some_and(|ttl| ttl.holds(now))
}

fn is_usable(
    state: &State,
    hash: &TokenHash,
    token: &SignedUse,
    at: Timestamp,
    now: Timestamp,
) -> bool {
    let stored = state.tokens.get(hash).and_then(|it| it.record(now));
    let refused = token.jti.as_ref().map(|it| is_refused(state, it, now));
    at < token.expires
        && stored.is_none_or(|it| it.state == TokenState::Active)
        && refused != Some(true)
}

/// Stores that a token is used. Returns false if it was refused.
fn use_token(
    state: &mut State,
    hash: &TokenHash,
    subscriber: &Subscriber,
    token: &SignedUse,
    at: Timestamp,
    now: Timestamp,
) -> bool {
    if !is_usable(state, hash, token, at, now) {
        return false;
    }
    let record = TokenRecord {
        subscriber: subscriber.clone(),
        state: TokenState::Active,
        issued: at,
        expires: token.expires,
    };
    let ttl = Ttl::after(token.expires, DAY_SECONDS);
    put_record(state, hash, record, Minute::of(token.expires));
    let of_subscriber = &mut state.person_mut(subscriber).tokens;
    of_subscriber.insert(hash.clone(), ttl);
    if let Some(jti) = &token.jti {
        let of_jti = state.jtis.entry(jti.clone()).or_default();
        of_jti.tokens.insert(hash.clone(), ttl);
    }
    true
}

fn put_record(state: &mut State, hash: &TokenHash, record: TokenRecord, ends: Minute) {
    let ttl = Ttl::after(record.expires, DAY_SECONDS);
    state.tokens.entry(hash.clone()).or_default().record = Some((record, ttl));
    let ending = Ending {
        token: hash.clone(),
        connection: None,
    };
    state.set_ending(ending, Some(ends));
}
