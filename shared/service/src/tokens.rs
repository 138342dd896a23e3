//! Bearer tokens: issuing, authenticating, revoking.

pub(crate) mod authenticate;
pub(crate) mod issue;
pub(crate) mod revoke;
