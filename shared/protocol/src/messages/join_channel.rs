//! `join-channel`: the caller becomes a member, with a pending invitation or the channel's invite token.
//!
//! `{"type":"join-channel","channel-id":"c-1","invite-token":"s3cret"}`

use alloc::{boxed::Box, string::String, vec, vec::Vec};

use super::{
    Fields, Message, Refusal,
    create_channel::{parse_invite_token, too_many_channels},
};
use crate::{
    ChannelId, ChannelKey, ChannelSubscriber, EventBody, Membership, ServerMessage, Subscriber,
    SubscriberId,
    change::{Member, Profile, Replace, Roster, RowChange},
    decision::{Commit, Context, Decision, Known, Listed, Needs, PageRequest},
    digest::sha256_hex,
    error::{Code, Rejection},
    limits,
    model::Presence,
    plan::{Answer, Plan},
};

/// `join-channel`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinChannel {
    channel_id: ChannelId,
    invite_token: Option<String>,
}

impl Message for JoinChannel {
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let channel_id = fields.string("channel-id")?;
        let invite_token = fields.optional_string("invite-token")?;

        if let Some(token) = &invite_token {
            parse_invite_token(token)?;
        }
        Ok(Self {
            channel_id: ChannelId::parse(&channel_id)?,
            invite_token,
        })
    }

    fn needs(&self, subscriber: &Subscriber) -> Needs {
        let channel = self.channel(subscriber);
        Needs {
            response: true,
            channel: Some(channel.clone()),
            own_member: Some(channel.clone()),
            invitation: Some(self.channel_id.clone()),
            membership_count: true,
            members: Some((
                channel,
                PageRequest {
                    after: None,
                    limit: limits::PAGE_DEFAULT,
                },
            )),
            ..Needs::default()
        }
    }

    fn decide(&self, context: &Context, known: &Known) -> Result<Decision, Rejection> {
        let (Some(profile), Some(roster)) = (&known.profile, known.open_roster()) else {
            return Err(Rejection::no_channel());
        };
        if let Some(member) = known.own_member.as_ref().filter(|it| it.is_current()) {
            return Ok(self.answer_repeat(context, known, profile, member));
        }
        let invited = known.invitation.is_some()
            || self.invite_token.as_ref().is_some_and(|token| {
                // The hashes are compared, so the duration reveals nothing about the token.
                profile.invite_hash.as_deref() == Some(&sha256_hex(token.as_bytes()))
            });
        if !invited {
            return Err(Rejection::no_channel());
        }
        has_room(known, roster)?;
        Ok(Decision::commit(Commit::Change(Box::new(
            self.plan(context, known, profile, roster),
        ))))
    }
}

impl JoinChannel {
    fn channel(&self, subscriber: &Subscriber) -> ChannelKey {
        ChannelKey {
            domain: subscriber.domain.clone(),
            id: self.channel_id.clone(),
        }
    }

    /// Decides a repeat by a member. It succeeds and writes no event.
    fn answer_repeat(
        &self,
        context: &Context,
        known: &Known,
        profile: &Profile,
        member: &Member,
    ) -> Decision {
        let read = member.read.max(member.joined);
        let (subscribers, next) = first_page(context, &known.members);
        Decision::respond(ServerMessage::ChannelJoined {
            membership: Membership {
                last_sequence: known.last_sequence,
                read_sequence: read,
                unread: known.last_sequence.saturating_sub(read),
                ..self.membership(profile, member.administrator)
            },
            subscribers,
            next,
            sequence: known.last_sequence,
        })
    }

    fn plan(&self, context: &Context, known: &Known, profile: &Profile, roster: Roster) -> Plan {
        let id = &context.subscriber.id;
        // In a channel that a back end created, the first member becomes administrator: no one could give it the right.
        let administrator = roster.administrators == 0;
        let mut members = known.members.clone();
        let index = members.items.partition_point(|it| it.presence.id < *id);
        // The new member is on the first page unless that page is full of smaller ids.
        if index < members.items.len() || members.next.is_none() {
            members.items.insert(
                index,
                ChannelSubscriber {
                    presence: Presence::of(id, None),
                    administrator,
                },
            );
        }
        let (subscribers, next) = first_page(context, &members);
        Plan {
            answer: Answer::Joined {
                membership: self.membership(profile, administrator),
                subscribers,
                next,
            },
            ..admission(self.channel(&context.subscriber), id, administrator, roster)
        }
    }

    fn membership(&self, profile: &Profile, administrator: bool) -> Membership {
        Membership {
            channel_id: self.channel_id.clone(),
            name: profile.name.clone(),
            administrator,
            attributes: profile.attributes.clone(),
            last_sequence: 0,
            read_sequence: 0,
            unread: 0,
        }
    }
}

/// Returns the change that makes `subscriber` a member.
pub(crate) fn admission(
    channel: ChannelKey,
    subscriber: &SubscriberId,
    administrator: bool,
    roster: Roster,
) -> Plan {
    Plan {
        events: vec![EventBody::SubscriberJoined {
            subscriber_id: subscriber.clone(),
            administrator,
        }],
        roster: Some(Replace {
            expect: Some(roster.version),
            to: Roster {
                members: roster.members + 1,
                administrators: roster.administrators + u64::from(administrator),
                version: roster.version + 1,
                ..roster
            },
        }),
        rows: vec![RowChange::Joined {
            subscriber: subscriber.clone(),
            administrator,
            sequence: 0,
        }],
        ..Plan::empty(channel)
    }
}

/// Checks that the subscriber may join one more channel, and that the channel may have one more member.
///
/// # Errors
/// `limit-exceeded`
pub(crate) fn has_room(known: &Known, roster: Roster) -> Result<(), Rejection> {
    if known.membership_count >= limits::CHANNELS_PER_SUBSCRIBER {
        return Err(too_many_channels());
    }
    if roster.members >= limits::MEMBERS_PER_CHANNEL {
        return Err(Rejection::new(
            Code::LimitExceeded,
            "a channel can have at most 100,000 members",
        ));
    }
    Ok(())
}

/// Returns as many members as fit, and the cursor of the next page.
fn first_page(
    context: &Context,
    members: &Listed<ChannelSubscriber>,
) -> (Vec<ChannelSubscriber>, Option<String>) {
    members.page(context, |it| it.presence.id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        change::Invitation,
        decision::tests::{change, channel_known, check, context, member, respond},
    };

    fn invited(token: &str) -> String {
        alloc::format!(r#"{{"type":"join-channel","channel-id":"c","invite-token":"{token}"}}"#)
    }

    #[test]
    fn joining_requires_token_or_invitation() {
        let known = channel_known(&[]);
        let (change, answer) = change(&invited("t"), &context("bob"), &known);
        assert_eq!(answer["type"], "channel-joined");
        assert_eq!(answer["sequence"], 7, "the sequence of the event");
        assert_eq!(answer["membership"]["last-sequence"], 7);
        assert_eq!(answer["subscribers"][0]["id"], "bob");
        assert_eq!(change.roster.unwrap().expect, Some(5));

        let by_invitation = Known {
            invitation: Some(Invitation {
                channel: ChannelId::parse("c").unwrap(),
                from: None,
                at: context("x").now,
            }),
            ..known.clone()
        };
        let plain = r#"{"type":"join-channel","channel-id":"c"}"#;
        assert!(check(plain, &context("bob"), &by_invitation).is_ok());

        let unknown = check(&invited("t"), &context("bob"), &Known::default()).unwrap_err();
        for refused in [invited("wrong"), plain.into()] {
            let rejection = check(&refused, &context("bob"), &known).unwrap_err();
            assert_eq!(rejection, unknown, "a wrong token looks like no channel");
        }
        let mut closed = known;
        closed.roster.as_mut().unwrap().open = false;
        assert_eq!(
            check(&invited("t"), &context("bob"), &closed).unwrap_err(),
            unknown
        );
    }

    #[test]
    fn member_joins_again_without_event() {
        let mut known = channel_known(&[]);
        known.own_member = Some(member("bob", 3));
        let answer = respond(
            r#"{"type":"join-channel","channel-id":"c"}"#,
            &context("bob"),
            &known,
        );
        assert_eq!(answer["sequence"], 6);
        assert_eq!(answer["membership"]["read-sequence"], 3);
        assert_eq!(answer["membership"]["unread"], 3);
        let mut closed = known.clone();
        closed.roster.as_mut().unwrap().open = false;
        assert!(
            check(
                r#"{"type":"join-channel","channel-id":"c"}"#,
                &context("bob"),
                &closed
            )
            .is_err()
        );
        known.own_member.as_mut().unwrap().left = Some(4);
        assert!(
            check(
                r#"{"type":"join-channel","channel-id":"c"}"#,
                &context("bob"),
                &known
            )
            .is_err()
        );
    }

    #[test]
    fn first_page_contains_new_member() {
        let known = channel_known(&["anna", "carl"]);
        let (_, answer) = change(&invited("t"), &context("bob"), &known);
        let ids: Vec<_> = answer["subscribers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["id"].clone())
            .collect();
        assert_eq!(ids, ["anna", "bob", "carl"]);
        let mut full = known;
        full.members.next = Some("carl".into());
        let (_, answer) = change(&invited("t"), &context("dora"), &full);
        assert_eq!(answer["subscribers"].as_array().unwrap().len(), 2);
        assert_eq!(answer["next"], "carl");
    }

    #[test]
    fn joining_above_limits_is_rejected() {
        let mut known = channel_known(&[]);
        known.membership_count = 999;
        known.roster.as_mut().unwrap().members = 99_999;
        assert!(check(&invited("t"), &context("bob"), &known).is_ok());
        known.membership_count = 1_000;
        assert_eq!(
            check(&invited("t"), &context("bob"), &known)
                .unwrap_err()
                .code,
            Code::LimitExceeded
        );
        known.membership_count = 0;
        known.roster.as_mut().unwrap().members = 100_000;
        assert_eq!(
            check(&invited("t"), &context("bob"), &known)
                .unwrap_err()
                .code,
            Code::LimitExceeded
        );
    }
}
