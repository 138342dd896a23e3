//! `delete-channel`: an administrator ends a channel for all members.
//!
//! `{"type":"delete-channel","channel-id":"c-1"}`

use alloc::{boxed::Box, vec};

use super::{Fields, Message, Refusal};
use crate::{
    ChannelId, ChannelKey, EventBody, Subscriber,
    change::{Replace, Roster},
    decision::{Commit, Context, Decision, FollowUp, Known, Needs},
    error::Rejection,
    plan::{Answer, Plan},
    rights,
};

/// `delete-channel`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteChannel {
    channel_id: ChannelId,
}

impl Message for DeleteChannel {
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let channel_id = fields.string("channel-id")?;

        Ok(Self {
            channel_id: ChannelId::parse(&channel_id)?,
        })
    }

    fn needs(&self, subscriber: &Subscriber) -> Needs {
        Needs {
            response: true,
            ..Needs::channel_of(subscriber, &self.channel_id)
        }
    }

    fn decide(&self, context: &Context, known: &Known) -> Result<Decision, Rejection> {
        let (_, roster) = rights::administered(known)?;
        let channel = ChannelKey {
            domain: context.subscriber.domain.clone(),
            id: self.channel_id.clone(),
        };
        Ok(Decision {
            follow_up: FollowUp::Dismantle(channel.clone()),
            ..Decision::commit(Commit::Change(Box::new(deletion(channel, roster))))
        })
    }
}

/// Returns the change that ends a channel and appends the last event of its log. The rows of its members are deleted
/// afterwards.
pub(crate) fn deletion(channel: ChannelKey, roster: Roster) -> Plan {
    Plan {
        close: true,
        events: vec![EventBody::ChannelDeleted],
        roster: Some(Replace {
            expect: Some(roster.version),
            to: Roster {
                open: false,
                members: 0,
                administrators: 0,
                version: roster.version + 1,
            },
        }),
        answer: Answer::Event,
        ..Plan::empty(channel)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        decision::tests::{administrator_known, change, check, context},
        error::Code,
    };

    const DELETE: &str = r#"{"type":"delete-channel","channel-id":"c"}"#;

    #[test]
    fn deletion_closes_channel() {
        let (change, answer) = change(DELETE, &context("anna"), &administrator_known());
        assert_eq!(answer["type"], "channel-deleted");
        assert_eq!(answer["channel-id"], "c");
        assert!(!change.roster.unwrap().to.open);
    }

    #[test]
    fn deleting_ended_channel_is_not_found() {
        let mut known = administrator_known();
        known.roster.as_mut().unwrap().open = false;
        assert_eq!(
            check(DELETE, &context("anna"), &known).unwrap_err().code,
            Code::NotFound
        );
    }
}
