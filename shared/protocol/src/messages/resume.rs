//! `resume`: returns the events after the client's positions in one answer.
//!
//! `{"type":"resume","positions":[{"channel-id":"c-1","sequence":12}],"since":"2026-01-01T00:00:00.000Z"}`

use super::{Fields, Message, Number, RawDestination, Refusal, direct_message::to_oneself};
use alloc::{collections::BTreeMap, string::String, vec::Vec};

use serde_json::value::RawValue;

use crate::{
    Destination, LogId, ServerMessage, Subscriber, Timestamp,
    decision::{Context, Decision, FollowUp, Known, Needs, Positions},
    error::{Code, Rejection},
    limits,
    page_size::Budget,
    server_message::ResumedDestination,
};

/// `resume`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    positions: Positions,
}

impl Message for Resume {
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let raw = fields
            .array("positions")?
            .into_iter()
            .map(position)
            .collect::<Result<Vec<_>, _>>()?;
        let since = fields.optional_string("since")?;

        if raw.len() > limits::POSITIONS {
            return Err(Rejection::new(
                Code::LimitExceeded,
                "`positions` must have at most 100 entries",
            )
            .into());
        }
        let positions = raw
            .into_iter()
            .map(|(destination, sequence)| {
                Ok((
                    destination.parse()?,
                    sequence.within("sequence", 0..=limits::SEQUENCE)?,
                ))
            })
            .collect::<Result<_, Rejection>>()?;
        Ok(Self {
            positions: Positions {
                positions,
                since: since.as_deref().map(parse_time).transpose()?,
            },
        })
    }

    fn needs(&self, _: &Subscriber) -> Needs {
        Needs {
            response: true,
            resume: Some(self.positions.clone()),
            ..Needs::default()
        }
    }

    fn decide(&self, context: &Context, known: &Known) -> Result<Decision, Rejection> {
        let mut budget = Budget::new(context.reply_to.as_deref());
        let mut destinations = Vec::with_capacity(known.resumed.len());
        // Reserve room for an answer to each position.
        for ((destination, _), found) in self.positions.positions.iter().zip(&known.resumed) {
            let of = ResumedDestination::of(destination.clone());
            let answer = match found {
                Some(history) => ResumedDestination {
                    events: Some(Vec::new()),
                    last_sequence: Some(history.last_sequence),
                    complete: Some(false),
                    ..of
                },
                None => ResumedDestination {
                    error: Some(match destination {
                        Destination::Channel(_) => Rejection::no_channel(),
                        Destination::Subscriber(_) => to_oneself(),
                    }),
                    ..of
                },
            };
            budget.reserve(&answer);
            destinations.push(answer);
        }
        // Then add the new destinations, which have no events. A long page must not displace them.
        let new: Vec<ResumedDestination> = known
            .resumed_new
            .iter()
            .map(|(destination, last_sequence)| ResumedDestination {
                last_sequence: Some(*last_sequence),
                ..ResumedDestination::of(destination.clone())
            })
            .take_while(|it| budget.takes(it))
            .collect();
        // Fill the rest with events. An event of a direct conversation counts as received.
        let mut received = Vec::new();
        for ((answer, (destination, _)), found) in destinations
            .iter_mut()
            .zip(&self.positions.positions)
            .zip(&known.resumed)
        {
            let Some(history) = found else {
                continue;
            };
            let events: Vec<_> = history
                .events
                .iter()
                .take_while(|it| budget.takes(it))
                .cloned()
                .collect();
            answer.complete = Some(!history.more && events.len() == history.events.len());
            let log = LogId::of(&context.subscriber, destination);
            if let (LogId::Direct { .. }, Some(last)) = (&log, events.last()) {
                received.push((log, last.sequence));
            }
            answer.events = Some(events);
        }
        destinations.extend(new);
        Ok(Decision {
            follow_up: FollowUp::Received(received),
            ..Decision::respond(ServerMessage::Resumed { destinations })
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

#[cfg(test)]
mod tests {
    use alloc::{format, vec};

    use super::*;
    use crate::{
        ChannelId, Destination,
        decision::{
            History,
            tests::{context, event, respond},
        },
        messages::tests::{ignored, parsed, rejected},
        wire_event::WireEvent,
    };

    #[test]
    fn invalid_positions_are_refused() {
        let resume = |count: usize| {
            let positions = vec![r#"{"channel-id":"c","sequence":0}"#; count].join(",");
            format!(r#"{{"type":"resume","positions":[{positions}]}}"#)
        };
        parsed(&resume(0));
        parsed(&resume(100));
        assert_eq!(rejected(&resume(101)), Code::LimitExceeded);
        assert_eq!(
            rejected(r#"{"type":"resume","positions":[],"since":"yesterday"}"#),
            Code::InvalidValue
        );
        ignored(&[
            r#"{"type":"resume"}"#,
            r#"{"type":"resume","positions":[1]}"#,
            r#"{"type":"resume","positions":[{"channel-id":"c"}]}"#,
            r#"{"type":"resume","positions":[{"channel-id":"c","subscriber-id":"b","sequence":1}]}"#,
        ]);
    }

    #[test]
    fn resume_answers_positions_in_order() {
        let history = |events: Vec<WireEvent>, more| {
            Some(History {
                last_sequence: 40,
                first_sequence: 1,
                events,
                more,
            })
        };
        let known = Known {
            resumed: vec![
                history(vec![event(40, 10)], false),
                None,
                history((1..=40).map(|it| event(it, 16_000)).collect(), false),
                history(vec![event(40, 16_000)], false),
            ],
            resumed_new: vec![(Destination::Channel(ChannelId::parse("new").unwrap()), 3)],
            ..Known::default()
        };
        let text = r#"{"type":"resume","positions":[{"channel-id":"a","sequence":39},{"channel-id":"x","sequence":1},
            {"subscriber-id":"b","sequence":0},{"channel-id":"d","sequence":39}]}"#;
        let resumed = respond(text, &context("me"), &known);
        let destinations = resumed["destinations"].as_array().unwrap();
        assert_eq!(destinations.len(), 5);
        assert_eq!(destinations[0]["complete"], true);
        assert_eq!(destinations[1]["error"]["code"], "not-found");
        assert_eq!(destinations[2]["complete"], false);
        assert!(!destinations[2]["events"].as_array().unwrap().is_empty());
        assert_eq!(destinations[3]["complete"], false);
        assert_eq!(destinations[4]["channel-id"], "new");
        assert_eq!(destinations[4]["last-sequence"], 3);
        assert!(destinations[4].get("events").is_none());
    }

    #[test]
    fn largest_resume_fits_one_message() {
        let history = History {
            last_sequence: limits::SEQUENCE,
            first_sequence: 1,
            events: (1..=100).map(|it| event(it, 1_100)).collect(),
            more: false,
        };
        let mut resumed = vec![None; 99];
        resumed.insert(50, Some(history));
        let known = Known {
            resumed,
            resumed_new: vec![(Destination::Channel(ChannelId::parse("new").unwrap()), 3); 500],
            ..Known::default()
        };
        let positions: Vec<_> = (0..100)
            .map(|it| format!(r#"{{"channel-id":"{it:0128}","sequence":0}}"#))
            .collect();
        let text = format!(
            r#"{{"type":"resume","positions":[{}]}}"#,
            positions.join(",")
        );
        let resumed = respond(&text, &context("me"), &known);
        let text = serde_json::to_string(&resumed).unwrap();
        assert!(crate::page_size::sockjs_bytes(&text) <= limits::SERVER_MESSAGE_BYTES);
        assert_eq!(resumed["destinations"].as_array().unwrap().len(), 600);
        assert_eq!(resumed["destinations"][50]["complete"], false);
        assert!(
            !resumed["destinations"][50]["events"]
                .as_array()
                .unwrap()
                .is_empty()
        );
    }
}
