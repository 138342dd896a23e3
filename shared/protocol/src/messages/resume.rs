//! `resume`: everything after the positions that the client has, in one answer.
//!
//! `{"type":"resume","positions":[{"channel-id":"c-1","sequence":12}],"since":"2026-01-01T00:00:00.000Z"}`

use super::{Fields, Number, RawDestination, Refusal};
use alloc::{collections::BTreeMap, string::String, vec::Vec};

use serde_json::value::RawValue;

use crate::{Destination, Timestamp, error::Rejection, limits};

/// `resume`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    positions: Vec<(Destination, u64)>,
    since: Option<Timestamp>,
}

impl Resume {
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let raw = fields
            .array("positions")?
            .into_iter()
            .map(position)
            .collect::<Result<Vec<_>, _>>()?;
        let since = fields.optional_string("since")?;

        if raw.len() > limits::POSITIONS {
            return Err(Rejection::invalid("`positions` are at most 100").into());
        }
        Ok(Self {
            positions: raw
                .into_iter()
                .map(|(destination, sequence)| {
                    Ok((
                        destination.parse()?,
                        sequence.within("sequence", 0..=limits::SEQUENCE)?,
                    ))
                })
                .collect::<Result<_, Rejection>>()?,
            since: since.as_deref().map(parse_time).transpose()?,
        })
    }
}

fn position(raw: &RawValue) -> Result<(RawDestination, Number), Refusal> {
    let fields: BTreeMap<String, &RawValue> =
        serde_json::from_str(raw.get()).map_err(|_| Refusal::Malformed)?;
    let fields = Fields(fields);
    let sequence = fields.number("sequence")?.ok_or(Refusal::Malformed)?;
    Ok((fields.destination()?, sequence))
}

fn parse_time(text: &str) -> Result<Timestamp, Rejection> {
    Timestamp::parse(text).ok_or_else(|| Rejection::invalid("`since` must be an RFC 3339 time"))
}
