//! `authorize`: a fresh token for this connection.
//!
//! `{"type":"authorize","token":"…"}`

use alloc::string::String;

use super::{Fields, Refusal};
use crate::decide::{Commit, Decision};

/// A bearer token as it came. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(String);

impl BearerToken {
    /// The token.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl core::fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("BearerToken(..)")
    }
}

/// `authorize`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorize {
    token: BearerToken,
}

impl Authorize {
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            token: BearerToken(fields.string("token")?),
        })
    }

    pub(crate) fn decide(&self) -> Decision {
        Decision::commit(Commit::Authorize {
            token: self.token.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use crate::messages::tests::{ignored, parsed};

    #[test]
    fn the_token_is_never_shown() {
        let message = parsed(r#"{"type":"authorize","token":"s3cret"}"#);
        assert!(!format!("{message:?}").contains("s3cret"));
        ignored(&[r#"{"type":"authorize"}"#, r#"{"type":"authorize","token":null}"#]);
    }
}
