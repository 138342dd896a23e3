//! `ping`: the `ack` is the pong.
//!
//! `{"type":"ping","id":"1"}`

use super::{Fields, Refusal};

/// `ping`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping;

impl Ping {
    #[expect(clippy::unnecessary_wraps, reason = "the parsers have one signature")]
    pub(super) fn parse(_: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self)
    }
}
