//! The environment of a function that accepts an issuer's tokens.

use core::time::Duration;
use std::sync::Arc;

use protocol::Timestamp;
use service::ports::{
    Clock, Credential, Environment, Fault, Jti, Measure, Metrics, Random, SignedToken, TokenHash,
    TokenVerifier,
};

use crate::{
    Settings, SettingsError, claims,
    parse::{Parsed, signed_part},
    source::Source,
};

/// An environment that verifies the tokens of an issuer, if one is configured. Everything else comes from `E`.
#[derive(Clone, Debug)]
pub struct WithIssuer<E> {
    inner: E,
    issuer: Option<Arc<Issuer>>,
}

#[derive(Debug)]
struct Issuer {
    settings: Settings,
    source: Source,
}

impl<E: Environment> WithIssuer<E> {
    /// Adds the issuer that the environment variables name, if any.
    ///
    /// # Errors
    /// [`SettingsError`]
    pub fn from_env(inner: E) -> Result<Self, SettingsError> {
        Self::new(inner, Settings::from_env()?)
    }

    /// Adds the issuer of `settings`, if any. Its keys are fetched when they are first needed.
    ///
    /// # Errors
    /// [`SettingsError::Certificates`]
    pub fn new(inner: E, settings: Option<Settings>) -> Result<Self, SettingsError> {
        let issuer = match settings {
            Some(settings) => Some(Arc::new(Issuer {
                source: Source::new(&settings)?,
                settings,
            })),
            None => None,
        };
        Ok(Self { inner, issuer })
    }

    /// Returns the id `jti` of a token of `issuer`, or of the accepted issuer if `issuer` is `None`. Returns `None` if no token
    /// with this id is ever accepted.
    #[must_use]
    pub fn jti(&self, issuer: Option<&str>, jti: &str) -> Option<Jti> {
        let accepted = &self.issuer.as_ref()?.settings.issuer;
        let accepts = issuer.is_none_or(|it| it == accepted) && claims::is_jti(jti);
        accepts.then(|| Jti::new(accepted, jti))
    }
}

impl<E: Clock> Clock for WithIssuer<E> {
    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    async fn sleep(&self, duration: Duration) {
        self.inner.sleep(duration).await;
    }
}

impl<E: Random> Random for WithIssuer<E> {
    fn fresh_id(&self) -> String {
        self.inner.fresh_id()
    }

    fn fresh_token(&self) -> String {
        self.inner.fresh_token()
    }
}

impl<E: Metrics> Metrics for WithIssuer<E> {
    fn measure(&self, measure: Measure) {
        self.inner.measure(measure);
    }
}

impl<E: Clock> TokenVerifier for WithIssuer<E> {
    async fn credential(&self, token: &str) -> Result<Credential, Fault> {
        let (Some(issuer), Some(signed)) = (&self.issuer, signed_part(token)) else {
            return Ok(Credential::Opaque);
        };
        Ok(Credential::Signed {
            hash: TokenHash::of_signed(signed),
            token: issuer.verified(token, self.now()).await?,
        })
    }
}

impl Issuer {
    /// Returns what the token says if its signature and claims are accepted.
    ///
    /// # Errors
    /// Fails if there are no keys.
    async fn verified(&self, token: &str, now: Timestamp) -> Result<Option<SignedToken>, Fault> {
        let Some(parsed) = Parsed::read(token) else {
            return Ok(None);
        };
        if !self.source.has_signed(&parsed, now).await? {
            return Ok(None);
        }
        Ok(claims::read(&self.settings, parsed.signed, &parsed.payload))
    }
}
