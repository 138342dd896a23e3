//! `create-channel`: creates a channel whose first member and administrator is the caller.
//!
//! `{"type":"create-channel","name":"Team","invite-token":"s3cret","attributes":{"topic":"work"},"channel-id":"c-1"}`

use alloc::{boxed::Box, string::String, vec};

use super::{Fields, Message, Refusal, attributes};
use crate::{
    ChannelId, ChannelKey, EventBody, Json, ServerMessage, Subscriber,
    change::{Profile, Replace, Roster, RowChange},
    decision::{Commit, Context, Decision, Known, Needs},
    digest::sha256_hex,
    error::{Code, Rejection},
    limits, model,
    plan::{Answer, Plan},
};

/// `create-channel`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateChannel {
    name: String,
    invite_token: Option<String>,
    attributes: Json,
    channel_id: Option<ChannelId>,
}

impl Message for CreateChannel {
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let name = fields.string("name")?;
        let invite_token = fields.optional_string("invite-token")?;
        let json = fields.object("attributes")?;
        let channel_id = fields.optional_string("channel-id")?;

        if let Some(token) = &invite_token {
            parse_invite_token(token)?;
        }
        Ok(Self {
            name: model::parse_name(&name)?,
            invite_token,
            attributes: attributes(json)?.unwrap_or_else(Json::empty_object),
            channel_id: channel_id.as_deref().map(ChannelId::parse).transpose()?,
        })
    }

    fn needs(&self, subscriber: &Subscriber) -> Needs {
        let named = self.channel_id.as_ref();
        Needs {
            response: true,
            membership_count: true,
            ..named.map_or_else(Needs::default, |id| Needs::channel_of(subscriber, id))
        }
    }

    fn decide(&self, context: &Context, known: &Known) -> Result<Decision, Rejection> {
        let creator = &context.subscriber.id;
        if let Some(profile) = &known.profile {
            return self.answer_repeat(context, known, profile);
        }
        if known.membership_count >= limits::CHANNELS_PER_SUBSCRIBER {
            return Err(too_many_channels());
        }
        let id = match &self.channel_id {
            Some(id) => id.clone(),
            None => ChannelId::parse(&context.fresh_id)?,
        };
        Ok(Decision::commit(Commit::Change(Box::new(Plan {
            channel: ChannelKey {
                domain: context.subscriber.domain.clone(),
                id: id.clone(),
            },
            create: true,
            close: false,
            events: vec![EventBody::SubscriberJoined {
                subscriber_id: creator.clone(),
                administrator: true,
            }],
            roster: Some(Replace {
                expect: None,
                to: Roster {
                    open: true,
                    members: 1,
                    administrators: 1,
                    version: 1,
                },
            }),
            profile: Some(Replace {
                expect: None,
                to: Profile {
                    name: self.name.clone(),
                    attributes: self.attributes.clone(),
                    invite_hash: self.invite_hash(),
                    creator: Some(creator.clone()),
                    version: 1,
                },
            }),
            rows: vec![RowChange::Joined {
                subscriber: creator.clone(),
                administrator: true,
                sequence: 0,
            }],
            answer: Answer::Ready(self.invitation(id)),
        }))))
    }
}

impl CreateChannel {
    /// Decides a repeat of the message. The first answer may have been lost.
    ///
    /// The creator gets the same answer again as long as that answer is still true. All others get a `conflict`.
    fn answer_repeat(
        &self,
        context: &Context,
        known: &Known,
        profile: &Profile,
    ) -> Result<Decision, Rejection> {
        let taken = || Rejection::new(Code::Conflict, "this `channel-id` is taken");
        let id = self.channel_id.clone().ok_or_else(Rejection::busy)?;
        let administers = known
            .own_member
            .as_ref()
            .is_some_and(|it| it.is_current() && it.administrator)
            && known.open_roster().is_some();
        let is_same = profile.creator.as_ref() == Some(&context.subscriber.id)
            && profile.name == self.name
            && profile.attributes == self.attributes
            && profile.invite_hash == self.invite_hash();
        if administers && is_same {
            Ok(Decision::respond(self.invitation(id)))
        } else {
            Err(taken())
        }
    }

    fn invite_hash(&self) -> Option<String> {
        self.invite_token
            .as_ref()
            .map(|it| sha256_hex(it.as_bytes()))
    }

    fn invitation(&self, channel_id: ChannelId) -> ServerMessage {
        ServerMessage::Invitation {
            channel_id,
            name: self.name.clone(),
            invite_token: self.invite_token.clone(),
            administrator: true,
            attributes: self.attributes.clone(),
            from: None,
        }
    }
}

/// Checks an invite token. It can be any text of 1 to 128 characters.
pub(crate) fn parse_invite_token(text: &str) -> Result<(), Rejection> {
    if (1..=limits::ID_CHARACTERS).contains(&text.chars().count()) {
        Ok(())
    } else {
        Err(Rejection::invalid(
            "`invite-token` must be 1 to 128 characters",
        ))
    }
}

/// Returns the `limit-exceeded` rejection for memberships.
pub(super) fn too_many_channels() -> Rejection {
    Rejection::new(
        Code::LimitExceeded,
        "a subscriber can be a member of at most 1,000 channels",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decision::tests::{administrator_known, change, check, context, respond},
        messages::tests::{ignored, rejected},
    };

    const CREATE: &str =
        r#"{"type":"create-channel","name":"Team","invite-token":"t","channel-id":"c"}"#;

    #[test]
    fn creator_becomes_administrator() {
        let (change, answer) = change(CREATE, &context("alice"), &Known::default());
        assert_eq!(answer["type"], "invitation");
        assert_eq!(answer["channel-id"], "c");
        assert_eq!(answer["invite-token"], "t");
        assert_eq!(answer["administrator"], true);
        assert_eq!(change.head, Some(1));
        assert_eq!(change.roster.unwrap().to.administrators, 1);
        assert_ne!(change.profile.unwrap().to.invite_hash.as_deref(), Some("t"));
    }

    #[test]
    fn only_creator_may_repeat_creation() {
        let known = Known {
            profile: Some(Profile {
                name: "Team".into(),
                attributes: Json::empty_object(),
                invite_hash: Some(sha256_hex(b"t")),
                creator: Some(context("anna").subscriber.id),
                version: 1,
            }),
            ..administrator_known()
        };
        let conflict = |text: &str, who: &str, known: &Known| {
            let rejection = check(text, &context(who), known).unwrap_err();
            assert_eq!(rejection.code, Code::Conflict);
        };
        assert_eq!(
            respond(CREATE, &context("anna"), &known)["type"],
            "invitation"
        );
        conflict(CREATE, "bob", &known);
        // A message with another name or token is no repeat.
        conflict(&CREATE.replace("Team", "Two"), "anna", &known);
        conflict(&CREATE.replace(r#""t""#, r#""u""#), "anna", &known);
        let mut ended = known.clone();
        ended.roster.as_mut().unwrap().open = false;
        conflict(CREATE, "anna", &ended);
        let mut left = known;
        left.own_member.as_mut().unwrap().left = Some(2);
        conflict(CREATE, "anna", &left);
    }

    #[test]
    fn invalid_name_or_limit_is_rejected() {
        for name in ["", "  ", "\\u200b", "a\\u0000", "a\\nb", "a\\u202eb"] {
            let text = alloc::format!(r#"{{"type":"create-channel","name":"{name}"}}"#);
            assert_eq!(rejected(&text), Code::InvalidValue, "{name}");
        }
        assert_eq!(
            rejected(r#"{"type":"create-channel","name":"x","channel-id":"a#b"}"#),
            Code::InvalidValue
        );
        ignored(&[
            r#"{"type":"create-channel"}"#,
            r#"{"type":"create-channel","name":""  ,"attributes":"x"}"#,
        ]);
        let full = Known {
            membership_count: 1_000,
            ..Known::default()
        };
        assert_eq!(
            check(CREATE, &context("alice"), &full).unwrap_err().code,
            Code::LimitExceeded
        );
    }
}
