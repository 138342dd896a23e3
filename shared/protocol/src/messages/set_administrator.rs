//! `set-administrator`: an administrator gives or takes the right to administer the channel.
//!
//! `{"type":"set-administrator","channel-id":"c-1","subscriber-id":"bob","administrator":true}`

use alloc::{boxed::Box, vec};

use super::{Fields, Message, Refusal};
use crate::{
    ChannelId, ChannelKey, EventBody, Subscriber, SubscriberId,
    change::{Member, Replace, Roster, RowChange},
    decision::{Commit, Context, Decision, Known, Needs},
    error::{Code, Rejection},
    plan::Plan,
    rights,
};

/// `set-administrator`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAdministrator {
    channel_id: ChannelId,
    subscriber_id: SubscriberId,
    administrator: bool,
}

impl Message for SetAdministrator {
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let channel_id = fields.string("channel-id")?;
        let subscriber_id = fields.string("subscriber-id")?;
        let administrator = fields.boolean("administrator")?;

        Ok(Self {
            channel_id: ChannelId::parse(&channel_id)?,
            subscriber_id: SubscriberId::parse(&subscriber_id)?,
            administrator,
        })
    }

    fn needs(&self, subscriber: &Subscriber) -> Needs {
        Needs {
            other_member: Some(self.subscriber_id.clone()),
            ..Needs::channel_of(subscriber, &self.channel_id)
        }
    }

    fn decide(&self, context: &Context, known: &Known) -> Result<Decision, Rejection> {
        let (_, roster) = rights::administered(known)?;
        let other = rights::other(known)?;
        if other.administrator == self.administrator {
            return Ok(Decision::done());
        }
        let channel = ChannelKey {
            domain: context.subscriber.domain.clone(),
            id: self.channel_id.clone(),
        };
        Ok(Decision::commit(Commit::Change(Box::new(administration(
            channel,
            roster,
            other,
            self.administrator,
        )?))))
    }
}

/// Returns the change of a member's right.
///
/// The roster's version is part of the transaction. So two administrators that concurrently take the right from each other
/// cannot both succeed.
///
/// # Errors
/// `last-administrator` if no administrator would remain.
pub(crate) fn administration(
    channel: ChannelKey,
    roster: Roster,
    member: &Member,
    administrator: bool,
) -> Result<Plan, Rejection> {
    if !administrator && roster.administrators <= 1 {
        return Err(Rejection::new(
            Code::LastAdministrator,
            "a channel needs an administrator: give the right to another member first",
        ));
    }
    Ok(Plan {
        events: vec![EventBody::AdministratorChanged {
            subscriber_id: member.subscriber.clone(),
            administrator,
        }],
        roster: Some(Replace {
            expect: Some(roster.version),
            to: Roster {
                administrators: if administrator {
                    roster.administrators + 1
                } else {
                    roster.administrators.saturating_sub(1)
                },
                version: roster.version + 1,
                ..roster
            },
        }),
        rows: vec![RowChange::Administrator {
            subscriber: member.subscriber.clone(),
            joined: member.joined,
            administrator,
        }],
        ..Plan::empty(channel)
    })
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::decision::tests::{administrator_known, check, context, member};

    #[test]
    fn last_administrator_cannot_lose_right() {
        let set = |id: &str, to: bool| {
            format!(
                r#"{{"type":"set-administrator","channel-id":"c","subscriber-id":"{id}","administrator":{to}}}"#
            )
        };
        let mut known = administrator_known();
        known.other_member = Some(member("carl", 3));
        let Commit::Change(plan) = check(&set("carl", true), &context("anna"), &known)
            .unwrap()
            .commit
        else {
            panic!("nothing is changed");
        };
        assert_eq!(plan.roster.unwrap().to.administrators, 2);
        let unchanged = check(&set("carl", false), &context("anna"), &known).unwrap();
        assert!(matches!(unchanged.commit, Commit::Nothing));

        known.other_member = known.own_member.clone();
        let last = check(&set("anna", false), &context("anna"), &known).unwrap_err();
        assert_eq!(last.code, Code::LastAdministrator);
        known.roster.as_mut().unwrap().administrators = 2;
        assert!(check(&set("anna", false), &context("anna"), &known).is_ok());
    }
}
