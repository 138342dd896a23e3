//! Signed bearer tokens of another issuer: JSON Web Tokens (RFC 7519) that are signed with a key of the issuer's published
//! key set.
//!
//! The key decides the algorithm of a signature, never the token: the token's `alg` must be the algorithm of its key. Before
//! the signature is verified, the only thing that a token decides is which key to use.

mod claims;
mod environment;
mod fetch;
mod keys;
mod parse;
mod settings;
mod source;

pub use environment::WithIssuer;
pub use settings::{Settings, SettingsError};

#[cfg(test)]
mod tests;
