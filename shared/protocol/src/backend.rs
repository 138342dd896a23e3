//! The operations of a back end: the same changes as a client's, but without a caller whose rights are checked.

use alloc::string::String;

use crate::{
    ChannelKey, Destination, Json, LeaveReason, LogId, MessageId, Rejection, Subscriber,
    SubscriberId,
    change::{Profile, Replace, Roster},
    decision::{Draft, History, Known, PageRequest, Range},
    digest::sha256_hex,
    error::Code,
    messages::{
        self, create_channel, delete_channel, direct_message, get_history, join_channel,
        leave_channel, set_administrator, update_channel,
    },
    model,
    plan::{Answer, Plan},
};

/// A channel as a back end specifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub name: String,
    pub attributes: Json,
    /// The invite token. If it is `None`, an existing channel keeps its token.
    pub invite_token: Option<String>,
}

impl Given {
    /// Checks the values that a back end sent.
    ///
    /// # Errors
    /// `invalid-value` or `too-large`.
    pub fn new(
        name: &str,
        attributes: Option<Json>,
        invite_token: Option<String>,
    ) -> Result<Self, Rejection> {
        if let Some(token) = &invite_token {
            create_channel::parse_invite_token(token)?;
        }
        Ok(Self {
            name: model::parse_name(name)?,
            attributes: messages::attributes(attributes)?.unwrap_or_else(Json::empty_object),
            invite_token,
        })
    }
}

impl Given {
    fn invite_hash(&self) -> Option<String> {
        self.invite_token
            .as_ref()
            .map(|it| sha256_hex(it.as_bytes()))
    }
}

/// Checks a message that a back end sends in the name of `from`.
///
/// # Errors
/// `invalid-value` or `too-large`.
pub fn draft(
    from: &Subscriber,
    destination: &Destination,
    content: Json,
    attributes: Option<Json>,
    message_id: Option<&str>,
) -> Result<Draft, Rejection> {
    if *destination == Destination::Subscriber(from.id.clone()) {
        return Err(direct_message::to_oneself());
    }
    Ok(Draft {
        log: LogId::of(from, destination),
        message_id: message_id.map(MessageId::parse).transpose()?,
        content: messages::content(content)?,
        attributes: messages::attributes(attributes)?,
    })
}

/// Parses the page that a back end requests.
///
/// # Errors
/// `invalid-value`.
pub fn page(after: Option<&str>, limit: Option<&str>) -> Result<PageRequest, Rejection> {
    messages::page_of(after, limit)
}

/// Parses the range of a log that a back end requests.
///
/// # Errors
/// `invalid-value`.
pub fn range(
    after: Option<&str>,
    before: Option<&str>,
    limit: Option<&str>,
) -> Result<Range, Rejection> {
    get_history::range_of(after, before, limit)
}

/// Checks that the page that was read follows the requested position without a gap, as for a client.
///
/// # Errors
/// `gone` if the events after the requested position are no longer retained.
pub fn retained(range: Range, history: &History) -> Result<(), Rejection> {
    get_history::retained(range, history)
}

/// Creates the channel as given, or changes it accordingly. Returns `None` if nothing would change.
///
/// A new channel has no members. Its first member becomes its administrator.
///
/// # Errors
/// `conflict` if the channel has ended. Its id stays taken.
pub fn put_channel(
    channel: &ChannelKey,
    given: &Given,
    known: &Known,
) -> Result<Option<Plan>, Rejection> {
    let (Some(profile), Some(roster)) = (&known.profile, known.roster) else {
        return Ok(Some(create(channel, given)));
    };
    if !roster.open {
        return Err(Rejection::new(
            Code::Conflict,
            "the channel has ended, and its id stays taken",
        ));
    }
    let seen_alike = profile.name == given.name && profile.attributes == given.attributes;
    let invite_hash = given.invite_hash().or_else(|| profile.invite_hash.clone());
    if seen_alike && invite_hash == profile.invite_hash {
        return Ok(None);
    }
    let mut plan = update_channel::update(
        channel.clone(),
        profile,
        Some(given.name.clone()),
        Some(given.attributes.clone()),
    );
    if seen_alike {
        // Members do not see the invite token, so its change is no event.
        plan.events.clear();
        plan.answer = Answer::Nothing;
    }
    if let Some(profile) = &mut plan.profile {
        profile.to.invite_hash = invite_hash;
    }
    Ok(Some(plan))
}

fn create(channel: &ChannelKey, given: &Given) -> Plan {
    Plan {
        create: true,
        roster: Some(Replace {
            expect: None,
            to: Roster {
                open: true,
                members: 0,
                administrators: 0,
                version: 1,
            },
        }),
        profile: Some(Replace {
            expect: None,
            to: Profile {
                name: given.name.clone(),
                attributes: given.attributes.clone(),
                invite_hash: given.invite_hash(),
                creator: None,
                version: 1,
            },
        }),
        ..Plan::empty(channel.clone())
    }
}

/// Ends the channel. Returns `None` if it has already ended.
///
/// # Errors
/// `not-found` if the channel never existed.
pub fn delete_channel(channel: &ChannelKey, known: &Known) -> Result<Option<Plan>, Rejection> {
    let roster = known.roster.ok_or_else(Rejection::no_channel)?;
    Ok(roster
        .open
        .then(|| delete_channel::deletion(channel.clone(), roster)))
}

/// Makes `subscriber` a member, and sets its right if `administrator` is given. Returns `None` if nothing would change.
///
/// # Errors
/// `not-found`, `limit-exceeded` or `last-administrator`.
pub fn put_member(
    channel: &ChannelKey,
    subscriber: &SubscriberId,
    administrator: Option<bool>,
    known: &Known,
) -> Result<Option<Plan>, Rejection> {
    let roster = known
        .roster
        .filter(|it| it.open)
        .ok_or_else(Rejection::no_channel)?;
    if let Some(member) = known.own_member.as_ref().filter(|it| it.is_current()) {
        return administrator
            .filter(|right| *right != member.administrator)
            .map(|right| set_administrator::administration(channel.clone(), roster, member, right))
            .transpose();
    }
    join_channel::has_room(known, roster)?;
    // A channel with members always has an administrator.
    let administrator = administrator.unwrap_or(false) || roster.administrators == 0;
    Ok(Some(join_channel::admission(
        channel.clone(),
        subscriber,
        administrator,
        roster,
    )))
}

/// Ends a membership. Returns `None` if there is none. When its last member leaves, a channel ends.
///
/// # Errors
/// `not-found`, or `unavailable` if the channel changed meanwhile.
pub fn remove_member(channel: &ChannelKey, known: &Known) -> Result<Option<Plan>, Rejection> {
    let roster = known.roster.ok_or_else(Rejection::no_channel)?;
    let Some(member) = known.own_member.as_ref().filter(|it| it.is_current()) else {
        return Ok(None);
    };
    let plan = leave_channel::departure(
        channel.clone(),
        member,
        LeaveReason::Removed,
        roster,
        known,
        Answer::Nothing,
    )?;
    Ok(Some(plan))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::tests::{channel_known, context, member};

    fn channel() -> ChannelKey {
        ChannelKey {
            domain: context("a").subscriber.domain,
            id: crate::ChannelId::parse("c").unwrap(),
        }
    }

    fn given(name: &str) -> Given {
        Given {
            name: name.into(),
            attributes: Json::empty_object(),
            invite_token: None,
        }
    }

    #[test]
    fn putting_same_channel_is_no_op() {
        let created = put_channel(&channel(), &given("Team"), &Known::default())
            .unwrap()
            .unwrap();
        assert!(created.create && created.events.is_empty());
        let known = channel_known(&[]);
        assert!(
            put_channel(&channel(), &given("Team"), &known)
                .unwrap()
                .is_none()
        );
        let updated = put_channel(&channel(), &given("New"), &known)
            .unwrap()
            .unwrap();
        assert_eq!(updated.slots(), 1);
        let rotated = Given {
            invite_token: Some("new".into()),
            ..given("Team")
        };
        let rotated = put_channel(&channel(), &rotated, &known).unwrap().unwrap();
        assert!(rotated.events.is_empty(), "members do not see the token");
        assert_eq!(
            rotated.profile.unwrap().to.invite_hash,
            Some(sha256_hex(b"new"))
        );
        let mut ended = known;
        ended.roster.as_mut().unwrap().open = false;
        assert_eq!(
            put_channel(&channel(), &given("Team"), &ended)
                .unwrap_err()
                .code,
            Code::Conflict
        );
    }

    #[test]
    fn first_member_becomes_and_stays_administrator() {
        let mut known = channel_known(&[]);
        known.roster.as_mut().unwrap().administrators = 0;
        known.roster.as_mut().unwrap().members = 0;
        let id = SubscriberId::parse("bob").unwrap();
        let plan = put_member(&channel(), &id, None, &known).unwrap().unwrap();
        assert_eq!(plan.roster.unwrap().to.administrators, 1);

        let mut known = channel_known(&[]);
        known.own_member = Some(member("bob", 2));
        assert!(put_member(&channel(), &id, None, &known).unwrap().is_none());
        assert!(
            put_member(&channel(), &id, Some(true), &known)
                .unwrap()
                .is_some()
        );
        known.own_member.as_mut().unwrap().administrator = true;
        let refused = put_member(&channel(), &id, Some(false), &known).unwrap_err();
        assert_eq!(refused.code, Code::LastAdministrator);
    }

    #[test]
    fn removing_member_twice_is_no_op() {
        let mut known = channel_known(&[]);
        assert!(remove_member(&channel(), &known).unwrap().is_none());
        known.own_member = Some(member("bob", 2));
        let plan = remove_member(&channel(), &known).unwrap().unwrap();
        assert!(matches!(
            plan.events.as_slice(),
            [crate::EventBody::SubscriberLeft {
                reason: LeaveReason::Removed,
                ..
            }]
        ));
    }
}
