//! `unannounce`: this connection no longer says anything about its subscriber.
//!
//! `{"type":"unannounce"}`

use super::{Fields, Refusal};
use crate::decide::{Commit, Decision, FollowUp};

/// `unannounce`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unannounce;

impl Unannounce {
    #[expect(clippy::unnecessary_wraps, reason = "the parsers have one signature")]
    pub(super) fn parse(_: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self)
    }

    pub(crate) fn decide(&self) -> Decision {
        Decision {
            follow_up: FollowUp::PublishPresence,
            ..Decision::commit(Commit::Unannounce)
        }
    }
}
