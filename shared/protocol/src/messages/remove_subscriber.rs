//! `remove-subscriber`: an administrator ends the membership of another subscriber.
//!
//! `{"type":"remove-subscriber","channel-id":"c-1","subscriber-id":"bob"}`

use alloc::boxed::Box;

use super::{Fields, Message, Refusal, leave_channel::departure};
use crate::{
    ChannelId, ChannelKey, LeaveReason, Subscriber, SubscriberId,
    decision::{Commit, Context, Decision, Known, Needs},
    error::Rejection,
    plan::Answer,
    rights,
};

/// `remove-subscriber`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoveSubscriber {
    channel_id: ChannelId,
    subscriber_id: SubscriberId,
}

impl Message for RemoveSubscriber {
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let channel_id = fields.string("channel-id")?;
        let subscriber_id = fields.string("subscriber-id")?;

        Ok(Self {
            channel_id: ChannelId::parse(&channel_id)?,
            subscriber_id: SubscriberId::parse(&subscriber_id)?,
        })
    }

    fn needs(&self, subscriber: &Subscriber) -> Needs {
        let needs = Needs::channel_of(subscriber, &self.channel_id);
        Needs {
            other_member: Some(self.subscriber_id.clone()),
            seniors: needs.channel.clone(),
            ..needs
        }
    }

    fn decide(&self, context: &Context, known: &Known) -> Result<Decision, Rejection> {
        let (_, roster) = rights::administered(known)?;
        let removed = rights::other(known)?;
        Ok(Decision::commit(Commit::Change(Box::new(departure(
            ChannelKey {
                domain: context.subscriber.domain.clone(),
                id: self.channel_id.clone(),
            },
            removed,
            LeaveReason::Removed,
            roster,
            known,
            Answer::Nothing,
        )?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        EventBody,
        decision::tests::{administrator_known, check, context, member},
        error::Code,
    };

    #[test]
    fn removal_event_has_reason_removed() {
        let remove = r#"{"type":"remove-subscriber","channel-id":"c","subscriber-id":"carl"}"#;
        let mut known = administrator_known();
        assert_eq!(
            check(remove, &context("anna"), &known).unwrap_err().code,
            Code::NotFound
        );
        known.other_member = Some(member("carl", 3));
        let Commit::Change(plan) = check(remove, &context("anna"), &known).unwrap().commit else {
            panic!("nothing is changed");
        };
        assert!(matches!(
            plan.events.as_slice(),
            [EventBody::SubscriberLeft {
                reason: LeaveReason::Removed,
                ..
            }]
        ));
    }
}
