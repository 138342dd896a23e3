//! Verifying a token with a given key set.

use service::ports::SignedToken;

use crate::{
    Settings, claims,
    keys::{KeySet, Verdict},
    parse::Parsed,
};

/// Verifies the signature and the claims of a token with these keys. Fetches nothing. Returns `None` if the token is refused.
///
/// [`crate::WithIssuer`] does the same with keys that it fetches.
#[must_use]
pub fn verify(settings: &Settings, keys: &KeySet, token: &str) -> Option<SignedToken> {
    let parsed = Parsed::read(token)?;
    if keys.verify(&parsed) != Verdict::Good {
        return None;
    }
    claims::read(settings, parsed.signed, &parsed.payload)
}
