//! `get-history`: reads a page of a log. Without `after` and `before` it reads the latest page.
//!
//! `{"type":"get-history","channel-id":"c-1","after":12,"limit":50}`

use alloc::{vec, vec::Vec};

use super::{Fields, Message, Number, Refusal, direct_message::to_oneself, page_limit};
use crate::{
    Destination, LogId, ServerMessage, Subscriber,
    decision::{Context, Decision, FollowUp, History, Known, Needs, Range},
    error::{Code, Rejection},
    limits, page_size, rights,
};

/// `get-history`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetHistory {
    destination: Destination,
    range: Range,
}

impl Message for GetHistory {
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let destination = fields.destination()?;
        let after = fields.number("after")?;
        let before = fields.number("before")?;
        let limit = fields.number("limit")?;

        let range = range(after, before, limit)?;
        Ok(Self {
            destination: destination.parse()?,
            range,
        })
    }

    fn needs(&self, subscriber: &Subscriber) -> Needs {
        let log = LogId::of(subscriber, &self.destination);
        Needs {
            response: true,
            own_member: match &log {
                LogId::Channel(channel) => Some(channel.clone()),
                LogId::Direct { .. } => None,
            },
            history: Some((log, self.range)),
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
        let history = known.history.as_ref().ok_or_else(Rejection::busy)?;
        retained(self.range, history)?;
        let reply_to = context.reply_to.as_deref();
        let events = &history.events;
        // Cut the page at its far end, so that it always contains the events nearest to the position.
        let (events, fitting): (Vec<_>, usize) = if matches!(self.range, Range::After { .. }) {
            let fitting = page_size::fitting(reply_to, events.iter());
            (events.iter().take(fitting).cloned().collect(), fitting)
        } else {
            let fitting = page_size::fitting(reply_to, events.iter().rev());
            let skip = events.len() - fitting;
            (events.iter().skip(skip).cloned().collect(), fitting)
        };
        let more = history.more || fitting < history.events.len();
        // A page of a direct conversation counts as received.
        let log = LogId::of(&context.subscriber, &self.destination);
        let follow_up = match (&log, events.last()) {
            (LogId::Direct { .. }, Some(last)) => FollowUp::Received(vec![(log, last.sequence)]),
            _ => FollowUp::Nothing,
        };
        Ok(Decision {
            follow_up,
            ..Decision::respond(ServerMessage::History {
                destination: self.destination.clone(),
                first_sequence: history.first_sequence,
                last_sequence: history.last_sequence,
                more,
                events,
            })
        })
    }
}

/// Checks that the page follows the requested position without an unnoticed gap.
///
/// # Errors
/// `gone` if the event after the position is no longer retained.
pub(crate) fn retained(range: Range, history: &History) -> Result<(), Rejection> {
    match range {
        Range::After { sequence, .. } if sequence > 0 && sequence + 1 < history.first_sequence => {
            Err(Rejection::new(
                Code::Gone,
                "the events that follow `after` are no longer retained",
            ))
        }
        _ => Ok(()),
    }
}

fn range(
    after: Option<Number>,
    before: Option<Number>,
    limit: Option<Number>,
) -> Result<Range, Rejection> {
    let limit = page_limit(limit.as_ref())?;
    match (after, before) {
        (None, None) => Ok(Range::Latest { limit }),
        (Some(after), None) => Ok(Range::After {
            sequence: after.within("after", 0..=limits::SEQUENCE)?,
            limit,
        }),
        (None, Some(before)) => Ok(Range::Before {
            sequence: before.within("before", 1..=limits::SEQUENCE)?,
            limit,
        }),
        (Some(_), Some(_)) => Err(Rejection::invalid(
            "`after` and `before` are mutually exclusive",
        )),
    }
}

/// Parses a range from the parameters of a query string.
pub(crate) fn range_of(
    after: Option<&str>,
    before: Option<&str>,
    limit: Option<&str>,
) -> Result<Range, Rejection> {
    range(
        after.map(Number::from),
        before.map(Number::from),
        limit.map(Number::from),
    )
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::ToString as _};

    use super::*;
    use crate::{
        decision::tests::{check, context, event, member, respond},
        messages::tests::{ignored, parsed, rejected},
        wire_event::WireEvent,
    };

    fn known(events: Vec<WireEvent>, first_sequence: u64) -> Known {
        Known {
            own_member: Some(member("a", 1)),
            history: Some(History {
                last_sequence: events.last().map_or(0, |it| it.sequence),
                events,
                more: false,
                first_sequence,
            }),
            ..Known::default()
        }
    }

    #[test]
    fn conflicting_history_fields_are_refused() {
        parsed(r#"{"type":"get-history","channel-id":"c","after":0}"#);
        parsed(r#"{"type":"get-history","subscriber-id":"b","before":1,"limit":1}"#);
        assert_eq!(
            rejected(r#"{"type":"get-history","channel-id":"c","after":1,"before":2}"#),
            Code::InvalidValue
        );
        assert_eq!(
            rejected(r#"{"type":"get-history","channel-id":"c","before":0}"#),
            Code::InvalidValue
        );
        ignored(&[
            r#"{"type":"get-history"}"#,
            r#"{"type":"get-history","channel-id":"c","subscriber-id":"b"}"#,
            r#"{"type":"get-history","channel-id":"c","after":"1"}"#,
        ]);
    }

    #[test]
    fn long_page_is_cut_far_end() {
        let big: Vec<_> = (1..=20).map(|sequence| event(sequence, 16_000)).collect();
        let after = respond(
            r#"{"type":"get-history","channel-id":"c","after":0}"#,
            &context("a"),
            &known(big.clone(), 1),
        );
        let latest = respond(
            r#"{"type":"get-history","channel-id":"c"}"#,
            &context("a"),
            &known(big, 1),
        );
        assert_eq!(after["events"][0]["sequence"], 1);
        let last = latest["events"].as_array().unwrap().last().unwrap();
        assert_eq!(last["sequence"], 20);
        for page in [after, latest] {
            assert_eq!(page["more"], true);
            assert!(page["events"].as_array().unwrap().len() < 20);
            assert!(page.to_string().len() < limits::SERVER_MESSAGE_BYTES);
        }
    }

    #[test]
    fn position_before_retention_is_gone() {
        let history = known(Vec::from([event(10, 1), event(11, 1)]), 10);
        let after = |sequence: u64| {
            format!(r#"{{"type":"get-history","channel-id":"c","after":{sequence}}}"#)
        };
        assert_eq!(
            check(&after(8), &context("a"), &history).unwrap_err().code,
            Code::Gone
        );
        assert!(check(&after(9), &context("a"), &history).is_ok());
        assert!(check(&after(0), &context("a"), &history).is_ok());
    }

    #[test]
    fn former_member_reads_no_history() {
        let mut history = known(Vec::from([event(1, 1)]), 1);
        history.own_member.as_mut().unwrap().left = Some(2);
        assert_eq!(
            check(
                r#"{"type":"get-history","channel-id":"c"}"#,
                &context("a"),
                &history
            )
            .unwrap_err(),
            Rejection::no_channel()
        );
    }
}
