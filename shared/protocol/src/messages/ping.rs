//! `ping`: answered by its `ack` alone.
//!
//! `{"type":"ping","id":"1"}`

use super::{Fields, Message, Refusal};
use crate::{
    decision::{Context, Decision, Known},
    error::Rejection,
};

/// `ping`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping;

impl Message for Ping {
    fn parse(_: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn decide(&self, _: &Context, _: &Known) -> Result<Decision, Rejection> {
        Ok(Decision::done())
    }
}
