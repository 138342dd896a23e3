//! `delivery`: moves the caller's read cursor of a log. The status applies to all events up to `sequence`.
//!
//! `{"type":"delivery","subscriber-id":"bob","sequence":12,"status":"read"}`

use super::{Fields, Message, Refusal, direct_message::to_oneself};
use crate::{
    DeliveryStatus, Destination, LogId, Subscriber,
    decision::{Commit, Context, Decision, Known, Needs, ReadCursor},
    error::Rejection,
    limits, rights,
};

/// `delivery`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    destination: Destination,
    sequence: u64,
    status: DeliveryStatus,
}

impl Message for Delivery {
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let destination = fields.destination()?;
        let sequence = fields.number("sequence")?.ok_or(Refusal::Malformed)?;
        let status = fields.string("status")?;

        Ok(Self {
            destination: destination.parse()?,
            sequence: sequence.within("sequence", 1..=limits::SEQUENCE)?,
            status: match status.as_str() {
                "displayed" => DeliveryStatus::Displayed,
                "read" => DeliveryStatus::Read,
                _ => {
                    return Err(Rejection::invalid("`status` must be `displayed` or `read`").into());
                }
            },
        })
    }

    fn needs(&self, subscriber: &Subscriber) -> Needs {
        let log = LogId::of(subscriber, &self.destination);
        Needs {
            own_member: match &log {
                LogId::Channel(channel) => Some(channel.clone()),
                LogId::Direct { .. } => None,
            },
            end_of: Some(log),
            ..Needs::default()
        }
    }

    fn decide(&self, context: &Context, known: &Known) -> Result<Decision, Rejection> {
        match &self.destination {
            Destination::Channel(_) => {
                rights::member(known)?;
            }
            Destination::Subscriber(peer) if *peer == context.subscriber.id => {
                return Err(to_oneself());
            }
            Destination::Subscriber(_) => {}
        }
        if self.sequence > known.last_sequence {
            return Err(Rejection::invalid(
                "`sequence` is beyond the end of the log",
            ));
        }
        Ok(Decision::commit(Commit::ReadCursor(ReadCursor {
            log: LogId::of(&context.subscriber, &self.destination),
            status: self.status,
            sequence: self.sequence,
        })))
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::{
        decision::tests::{check, context, member},
        error::Code,
        messages::tests::{ignored, rejected},
    };

    #[test]
    fn read_cursor_beyond_log_is_rejected() {
        let known = Known {
            last_sequence: 6,
            own_member: Some(member("a", 1)),
            ..Known::default()
        };
        let read = |sequence: u64| {
            format!(
                r#"{{"type":"delivery","channel-id":"c","sequence":{sequence},"status":"read"}}"#
            )
        };
        assert!(check(&read(6), &context("a"), &known).is_ok());
        assert_eq!(
            check(&read(7), &context("a"), &known).unwrap_err().code,
            Code::InvalidValue
        );
        assert_eq!(rejected(&read(0)), Code::InvalidValue);
    }

    #[test]
    fn other_delivery_statuses_are_rejected() {
        for status in ["stored", "received", "seen"] {
            let text = format!(
                r#"{{"type":"delivery","channel-id":"c","sequence":1,"status":"{status}"}}"#
            );
            assert_eq!(rejected(&text), Code::InvalidValue);
        }
        ignored(&[r#"{"type":"delivery","channel-id":"c","status":"read"}"#]);
    }
}
