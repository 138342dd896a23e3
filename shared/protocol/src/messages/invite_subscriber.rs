//! `invite-subscriber`: an administrator invites a subscriber to the channel.
//!
//! `{"type":"invite-subscriber","channel-id":"c-1","subscriber-id":"bob"}`

use alloc::{boxed::Box, vec};

use super::{Fields, Message, Refusal};
use crate::{
    ChannelId, ChannelKey, Subscriber, SubscriberId,
    change::{Member, RowChange},
    decision::{Commit, Context, Decision, FollowUp, Known, Needs},
    error::Rejection,
    plan::Plan,
    rights,
};

/// `invite-subscriber`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteSubscriber {
    channel_id: ChannelId,
    subscriber_id: SubscriberId,
}

impl Message for InviteSubscriber {
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let channel_id = fields.string("channel-id")?;
        let subscriber_id = fields.string("subscriber-id")?;

        Ok(Self {
            channel_id: ChannelId::parse(&channel_id)?,
            subscriber_id: SubscriberId::parse(&subscriber_id)?,
        })
    }

    fn needs(&self, subscriber: &Subscriber) -> Needs {
        Needs {
            other_member: Some(self.subscriber_id.clone()),
            ..Needs::channel_of(subscriber, &self.channel_id)
        }
    }

    fn decide(&self, context: &Context, known: &Known) -> Result<Decision, Rejection> {
        rights::administered(known)?;
        let administrator = rights::member(known)?;
        // A member has nothing to accept.
        if known.other_member.as_ref().is_some_and(Member::is_current) {
            return Ok(Decision::done());
        }
        let channel = ChannelKey {
            domain: context.subscriber.domain.clone(),
            id: self.channel_id.clone(),
        };
        Ok(Decision {
            follow_up: FollowUp::Invite(self.subscriber_id.clone(), channel.clone()),
            ..Decision::commit(Commit::Change(Box::new(Plan {
                rows: vec![
                    rights::still_administers(administrator),
                    RowChange::Invited {
                        subscriber: self.subscriber_id.clone(),
                        from: Some(context.subscriber.id.clone()),
                    },
                ],
                ..Plan::empty(channel)
            })))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::tests::{administrator_known, check, context, member};

    const INVITE: &str = r#"{"type":"invite-subscriber","channel-id":"c","subscriber-id":"zoe"}"#;

    #[test]
    fn inviting_member_is_no_op() {
        let mut known = administrator_known();
        let decision = check(INVITE, &context("anna"), &known).unwrap();
        let Commit::Change(plan) = decision.commit else {
            panic!("an invitation is stored");
        };
        assert!(plan.events.is_empty());
        assert!(matches!(
            plan.rows.as_slice(),
            [RowChange::Administers { .. }, RowChange::Invited { .. }]
        ));
        assert!(matches!(decision.follow_up, FollowUp::Invite(id, _) if id.as_str() == "zoe"));
        known.other_member = Some(member("zoe", 3));
        let decision = check(INVITE, &context("anna"), &known).unwrap();
        assert!(matches!(decision.commit, Commit::Nothing));
    }
}
