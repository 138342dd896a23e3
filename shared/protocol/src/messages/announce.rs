//! `announce`: sets how others see the subscriber while this connection is open.
//!
//! `{"type":"announce","availability":"available","status":"in the office","attributes":{"mood":"fine"}}`

use alloc::string::String;

use super::{Fields, Message, Refusal, attributes};
use crate::{
    Announcement, Availability, Json,
    decision::{Commit, Context, Decision, FollowUp, Known},
    error::Rejection,
    limits, text,
};

/// `announce`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    availability: Availability,
    status: String,
    attributes: Json,
}

impl Message for Announce {
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let availability = fields.string("availability")?;
        let status = fields.optional_string("status")?.unwrap_or_default();
        let json = fields.object("attributes")?;

        if status.chars().count() > limits::STATUS_CHARACTERS {
            return Err(Rejection::invalid("`status` must be at most 256 characters").into());
        }
        if text::has_control(&status) {
            return Err(Rejection::invalid(
                "`status` must have no control or directional formatting character",
            )
            .into());
        }
        Ok(Self {
            availability: Availability::parse(&availability)?,
            status,
            attributes: attributes(json)?.unwrap_or_else(Json::empty_object),
        })
    }

    fn decide(&self, context: &Context, _: &Known) -> Result<Decision, Rejection> {
        Ok(Decision {
            follow_up: FollowUp::PublishPresence,
            ..Decision::commit(Commit::Announce(Announcement {
                availability: self.availability,
                status: self.status.clone(),
                attributes: self.attributes.clone(),
                at: context.now,
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use crate::{
        error::Code,
        messages::tests::{ignored, parsed, rejected},
    };

    #[test]
    fn unknown_availability_is_rejected() {
        for word in ["invisible", "available", "dnd", "busy"] {
            parsed(&format!(r#"{{"type":"announce","availability":"{word}"}}"#));
        }
        assert_eq!(
            rejected(r#"{"type":"announce","availability":"away"}"#),
            Code::InvalidValue
        );
        ignored(&[
            r#"{"type":"announce"}"#,
            r#"{"type":"announce","availability":null}"#,
            r#"{"type":"announce","availability":"away","status":1}"#,
            r#"{"type":"announce","availability":"busy","attributes":[]}"#,
        ]);
    }

    #[test]
    fn status_with_control_is_rejected() {
        for status in ["\\n", "\\u0000", "a\\u202eb", "\\u2066"] {
            let text =
                format!(r#"{{"type":"announce","availability":"busy","status":"{status}"}}"#);
            assert_eq!(rejected(&text), Code::InvalidValue, "{status}");
        }
        parsed(r#"{"type":"announce","availability":"busy","status":"  "}"#);
    }

    #[test]
    fn oversized_status_or_attributes_are_rejected() {
        let announce = |status: &str, attribute: &str| {
            format!(
                r#"{{"type":"announce","availability":"busy","status":"{status}","attributes":{{"a":"{attribute}"}}}}"#
            )
        };
        parsed(&announce(&"é".repeat(256), &"x".repeat(4096 - 8)));
        assert_eq!(
            rejected(&announce(&"é".repeat(257), "")),
            Code::InvalidValue
        );
        assert_eq!(
            rejected(&announce("", &"x".repeat(4096 - 7))),
            Code::TooLarge
        );
        assert_eq!(
            rejected(r#"{"type":"announce","availability":"busy","attributes":{"a":1e999}}"#),
            Code::InvalidValue
        );
    }
}
