//! Signed bearer tokens of another issuer: JSON Web Tokens (RFC 7519) that are signed with a key of the issuer's published
//! key set.
//!
//! The key decides the algorithm of a signature, never the token: the token's `alg` must be the algorithm of its key. Before
//! the signature is verified, the only thing that a token decides is which key to use.
//!
//! # Why no other crate
//!
//! `jsonwebtoken` dropped `ring` in version 10 (its change log, 2025-09-29). It verifies with `aws-lc-rs`, which deny.toml bans
//! because of its cold start, or with RustCrypto's crates. Those would add a second implementation of each algorithm beside
//! `ring`, which every function has for TLS, among them `rsa` with RUSTSEC-2023-0071 (github.com/Keats/jsonwebtoken/issues/454).
//! Version 9 still has `ring`, but its last release is 9.3.1. Neither fetches key sets. The own part is small: base64url, JSON,
//! and three calls of `ring`. It is tested with the examples of RFC 7515, 7517 and 8037 and with Project Wycheproof's vectors,
//! and fuzzed by the target `jwt`.

mod claims;
mod environment;
mod fetch;
mod keys;
mod parse;
mod settings;
mod source;
mod verify;

pub use environment::WithIssuer;
pub use keys::KeySet;
pub use settings::{Settings, SettingsError};
pub use verify::verify;

#[cfg(test)]
mod tests;
