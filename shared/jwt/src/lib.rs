//! Bearer tokens of another issuer: JSON Web Tokens (RFC 7519), signed with a key of its published set.
//!
//! The key decides the algorithm of the signature, never the token: the token's `alg` must be the only name that its key
//! allows. Before the signature is verified, the only thing that a token decides is which key to use.
//!
//! The three algorithms are those of `ring`, which every function contains for TLS anyway. The code around them is too small
//! to justify another dependency.

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
