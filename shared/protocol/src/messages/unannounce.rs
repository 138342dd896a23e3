//! `unannounce`: withdraws the announcement of this connection.
//!
//! `{"type":"unannounce"}`

use super::{Fields, Message, Refusal};
use crate::{
    decision::{Commit, Context, Decision, FollowUp, Known},
    error::Rejection,
};

/// `unannounce`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unannounce;

impl Message for Unannounce {
    fn parse(_: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn decide(&self, _: &Context, _: &Known) -> Result<Decision, Rejection> {
        Ok(Decision {
            follow_up: FollowUp::PublishPresence,
            ..Decision::commit(Commit::Unannounce)
        })
    }
}
