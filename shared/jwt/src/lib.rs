//! Bearer tokens of another issuer: JSON Web Tokens (RFC 7519) that are signed with a key of its published set.
//!
//! The signature's algorithm is the key's, never the token's choice: the token's `alg` must be the one name that its key
//! has. Nothing a token says counts before its signature was verified, but for which key to take.
//!
//! The three algorithms are `ring`'s, which every function has in it for TLS anyway; what is around them is so little that
//! it is no crate of its own.

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
