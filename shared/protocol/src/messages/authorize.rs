//! `authorize`: a fresh token for this connection.
//!
//! `{"type":"authorize","token":"…"}`

use super::{Fields, Refusal};
use alloc::string::String;

/// `authorize`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorize {
    token: String,
}

impl Authorize {
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            token: fields.string("token")?,
        })
    }
}
