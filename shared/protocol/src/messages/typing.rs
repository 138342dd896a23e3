//! `typing`: notifies the other participants that the caller started or stopped typing.
//!
//! `{"type":"typing","channel-id":"c-1","active":true}`

use super::{Fields, Message, Refusal, direct_message::to_oneself};
use crate::{
    Destination, LogId, Subscriber,
    decision::{Context, Decision, FollowUp, Known, Needs},
    error::Rejection,
    rights,
};

/// `typing`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typing {
    destination: Destination,
    active: bool,
}

impl Message for Typing {
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let destination = fields.destination()?;
        let active = fields.boolean("active")?;

        Ok(Self {
            destination: destination.parse()?,
            active,
        })
    }

    fn needs(&self, subscriber: &Subscriber) -> Needs {
        match &self.destination {
            Destination::Channel(id) => Needs::channel_of(subscriber, id),
            Destination::Subscriber(_) => Needs::default(),
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
        Ok(Decision {
            follow_up: FollowUp::Typing(
                LogId::of(&context.subscriber, &self.destination),
                self.active,
            ),
            ..Decision::done()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::tests::{channel_known, check, context, member};

    #[test]
    fn only_members_may_type() {
        let typing = r#"{"type":"typing","channel-id":"c","active":true}"#;
        let mut known = channel_known(&[]);
        assert_eq!(
            check(typing, &context("bob"), &known).unwrap_err(),
            Rejection::no_channel()
        );
        known.own_member = Some(member("bob", 1));
        assert!(matches!(
            check(typing, &context("bob"), &known).unwrap().follow_up,
            FollowUp::Typing(LogId::Channel(_), true)
        ));
        let to_oneself = r#"{"type":"typing","subscriber-id":"bob","active":false}"#;
        assert!(check(to_oneself, &context("bob"), &known).is_err());
    }
}
