//! `delivery`: how far the caller got in a log: a horizon that covers everything up to `sequence`.
//!
//! `{"type":"delivery","subscriber-id":"bob","sequence":12,"status":"read"}`

use super::{Fields, Refusal};
use crate::{DeliveryStatus, Destination, error::Rejection, limits};

/// `delivery`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    destination: Destination,
    sequence: u64,
    status: DeliveryStatus,
}

impl Delivery {
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let destination = fields.destination()?;
        let sequence = fields.number("sequence")?.ok_or(Refusal::Malformed)?;
        let status = fields.string("status")?;

        Ok(Self {
            destination: destination.parse()?,
            sequence: sequence.within("sequence", 1..=limits::SEQUENCE)?,
            status: match status.as_str() {
                "displayed" => DeliveryStatus::Displayed,
                "read" => DeliveryStatus::Read,
                _ => return Err(Rejection::invalid("`status` must be `displayed` or `read`").into()),
            },
        })
    }
}
