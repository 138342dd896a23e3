//! `leave-channel`: the caller ends its membership or declines an invitation.
//!
//! `{"type":"leave-channel","channel-id":"c-1"}`

use alloc::{boxed::Box, vec};

use super::{Fields, Message, Refusal};
use crate::{
    ChannelId, ChannelKey, EventBody, LeaveReason, ServerMessage, Subscriber, SubscriberId,
    change::{Member, Replace, Roster, RowChange},
    decision::{Commit, Context, Decision, Known, Needs},
    error::Rejection,
    plan::{Answer, Plan},
};

/// `leave-channel`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveChannel {
    channel_id: ChannelId,
}

impl Message for LeaveChannel {
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let channel_id = fields.string("channel-id")?;

        Ok(Self {
            channel_id: ChannelId::parse(&channel_id)?,
        })
    }

    fn needs(&self, subscriber: &Subscriber) -> Needs {
        let channel = ChannelKey {
            domain: subscriber.domain.clone(),
            id: self.channel_id.clone(),
        };
        Needs {
            response: true,
            channel: Some(channel.clone()),
            own_member: Some(channel.clone()),
            seniors: Some(channel),
            invitation: Some(self.channel_id.clone()),
            ..Needs::default()
        }
    }

    fn decide(&self, context: &Context, known: &Known) -> Result<Decision, Rejection> {
        let channel = ChannelKey {
            domain: context.subscriber.domain.clone(),
            id: self.channel_id.clone(),
        };
        let left = ServerMessage::ChannelLeft {
            channel_id: self.channel_id.clone(),
        };
        let member = known.own_member.as_ref().filter(|it| it.is_current());
        let (Some(member), Some(roster)) = (member, known.open_roster()) else {
            return Ok(self.decline(context, known, channel, left));
        };
        Ok(Decision::commit(Commit::Change(Box::new(departure(
            channel,
            member,
            LeaveReason::Left,
            roster,
            known,
            Answer::Ready(left),
        )?))))
    }
}

impl LeaveChannel {
    /// Answers a caller that is no member. The answer does not depend on the channel. An invitation is deleted.
    fn decline(
        &self,
        context: &Context,
        known: &Known,
        channel: ChannelKey,
        left: ServerMessage,
    ) -> Decision {
        if known.invitation.is_none() {
            return Decision::respond(left);
        }
        Decision::commit(Commit::Change(Box::new(Plan {
            rows: vec![RowChange::Uninvited {
                subscriber: context.subscriber.id.clone(),
            }],
            answer: Answer::Ready(left),
            ..Plan::empty(channel)
        })))
    }
}

/// Returns the change that ends the membership of `member`.
///
/// If it is the last administrator, the longest-standing member gets the right. If it is the last member, the channel ends.
///
/// # Errors
/// `unavailable` if the channel changed meanwhile, so that no successor is among the rows that were read.
pub(crate) fn departure(
    channel: ChannelKey,
    member: &Member,
    reason: LeaveReason,
    roster: Roster,
    known: &Known,
    answer: Answer,
) -> Result<Plan, Rejection> {
    let mut events = vec![EventBody::SubscriberLeft {
        subscriber_id: member.subscriber.clone(),
        reason,
    }];
    let mut rows = vec![RowChange::Left {
        subscriber: member.subscriber.clone(),
        administrator: member.administrator,
        joined: member.joined,
        sequence: 0,
    }];
    // The last administrator hands its right to the longest-standing member.
    let mut administrators = roster
        .administrators
        .saturating_sub(u64::from(member.administrator));
    let members = roster.members.saturating_sub(1);
    if administrators == 0 && members > 0 {
        let heir = heir(known, &member.subscriber).ok_or_else(Rejection::busy)?;
        events.push(EventBody::AdministratorChanged {
            subscriber_id: heir.subscriber.clone(),
            administrator: true,
        });
        rows.push(RowChange::Administrator {
            subscriber: heir.subscriber.clone(),
            joined: heir.joined,
            administrator: true,
        });
        administrators = 1;
    }
    Ok(Plan {
        channel,
        create: false,
        close: false,
        events,
        roster: Some(Replace {
            expect: Some(roster.version),
            to: Roster {
                open: members > 0,
                members,
                administrators,
                version: roster.version + 1,
            },
        }),
        profile: None,
        rows,
        answer,
    })
}

/// Returns the longest-standing member other than `leaver`.
fn heir<'a>(known: &'a Known, leaver: &SubscriberId) -> Option<&'a Member> {
    known
        .seniors
        .iter()
        .find(|it| it.subscriber != *leaver && it.is_current())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::tests::{change, channel_known, check, context, member, respond};

    const LEAVE: &str = r#"{"type":"leave-channel","channel-id":"c"}"#;

    #[test]
    fn leaving_hides_existence_of_channel() {
        let unknown = respond(LEAVE, &context("bob"), &Known::default());
        assert_eq!(unknown["type"], "channel-left");
        assert_eq!(
            respond(LEAVE, &context("bob"), &channel_known(&["anna"])),
            unknown
        );
    }

    #[test]
    fn leaving_ended_channel_is_no_op() {
        let mut known = channel_known(&["anna"]);
        known.own_member = Some(member("anna", 1));
        known.roster.as_mut().unwrap().open = false;
        let unknown = respond(LEAVE, &context("anna"), &Known::default());
        assert_eq!(respond(LEAVE, &context("anna"), &known), unknown);
    }

    #[test]
    fn longest_member_replaces_last_administrator() {
        let mut known = channel_known(&["anna", "carl"]);
        known.own_member = Some(Member {
            administrator: true,
            ..member("anna", 1)
        });
        known.seniors = vec![member("anna", 1), member("carl", 2)];
        let (change, answer) = change(LEAVE, &context("anna"), &known);
        assert_eq!(answer["type"], "channel-left");
        assert_eq!(change.entries.len(), 2);
        assert_eq!(change.entries[1].event.sequence, 8);
        assert!(matches!(
            &change.entries[1].event.body,
            EventBody::AdministratorChanged { subscriber_id, administrator: true } if subscriber_id.as_str() == "carl"
        ));
        let roster = change.roster.unwrap().to;
        assert_eq!((roster.open, roster.administrators), (true, 1));
        known.seniors.clear();
        assert!(
            check(LEAVE, &context("anna"), &known).is_err(),
            "there must be a successor"
        );
    }

    #[test]
    fn channel_closes_after_last_member() {
        let mut known = channel_known(&["anna"]);
        known.roster.as_mut().unwrap().members = 1;
        known.own_member = Some(Member {
            administrator: true,
            ..member("anna", 1)
        });
        let (change, _) = change(LEAVE, &context("anna"), &known);
        assert_eq!(change.entries.len(), 1);
        assert!(!change.roster.unwrap().to.open);
    }
}
