//! `typing`: tells the others that the caller types, or stopped.
//!
//! `{"type":"typing","channel-id":"c-1","active":true}`

use super::{Fields, Refusal};
use crate::Destination;

/// `typing`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typing {
    destination: Destination,
    active: bool,
}

impl Typing {
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let destination = fields.destination()?;
        let active = fields.boolean("active")?;

        Ok(Self {
            destination: destination.parse()?,
            active,
        })
    }
}
