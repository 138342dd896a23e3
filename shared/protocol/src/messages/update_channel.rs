//! `update-channel`: an administrator changes a channel's name or attributes.
//!
//! `{"type":"update-channel","channel-id":"c-1","name":"New name"}`

use alloc::{boxed::Box, string::String, vec};

use super::{Fields, Message, Refusal, attributes};
use crate::{
    ChannelId, ChannelKey, EventBody, Json, Subscriber,
    change::{Profile, Replace},
    decision::{Commit, Context, Decision, Known, Needs},
    error::Rejection,
    model,
    plan::{Answer, Plan},
    rights,
};

/// `update-channel`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateChannel {
    channel_id: ChannelId,
    name: Option<String>,
    attributes: Option<Json>,
}

impl Message for UpdateChannel {
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let channel_id = fields.string("channel-id")?;
        let name = fields.optional_string("name")?;
        let object = fields.object("attributes")?;

        Ok(Self {
            channel_id: ChannelId::parse(&channel_id)?,
            name: name.as_deref().map(model::parse_name).transpose()?,
            attributes: attributes(object)?,
        })
    }

    fn needs(&self, subscriber: &Subscriber) -> Needs {
        Needs {
            response: true,
            ..Needs::channel_of(subscriber, &self.channel_id)
        }
    }

    fn decide(&self, context: &Context, known: &Known) -> Result<Decision, Rejection> {
        let (profile, _) = rights::administered(known)?;
        let administrator = rights::member(known)?;
        if self.name.is_none() && self.attributes.is_none() {
            return Err(Rejection::invalid("`name` or `attributes` is required"));
        }
        let channel = context.subscriber.domain.channel(self.channel_id.clone());
        let plan = update(channel, profile, self.name.clone(), self.attributes.clone());
        Ok(Decision::commit(Commit::Change(Box::new(Plan {
            rows: vec![rights::still_administers(administrator)],
            ..plan
        }))))
    }
}

/// The change of a channel's name, attributes or both.
pub(crate) fn update(
    channel: ChannelKey,
    profile: &Profile,
    name: Option<String>,
    attributes: Option<Json>,
) -> Plan {
    let to = Profile {
        name: name.unwrap_or_else(|| profile.name.clone()),
        attributes: attributes.unwrap_or_else(|| profile.attributes.clone()),
        version: profile.version + 1,
        ..profile.clone()
    };
    Plan {
        events: vec![EventBody::ChannelUpdated {
            name: to.name.clone(),
            attributes: to.attributes.clone(),
        }],
        profile: Some(Replace {
            expect: Some(profile.version),
            to,
        }),
        answer: Answer::Event,
        ..Plan::empty(channel)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        decision::tests::{administrator_known, change, channel_known, check, context, member},
        error::Code,
        messages::tests::rejected,
    };

    const UPDATE: &str = r#"{"type":"update-channel","channel-id":"c","name":"New"}"#;

    #[test]
    fn update_keeps_other_settings() {
        let (change, answer) = change(UPDATE, &context("anna"), &administrator_known());
        assert_eq!(answer["type"], "channel-updated");
        assert_eq!(answer["name"], "New");
        assert_eq!(answer["sequence"], 7);
        let profile = change.profile.unwrap();
        assert_eq!((profile.expect, profile.to.version), (Some(1), 2));
        assert!(profile.to.invite_hash.is_some());
    }

    #[test]
    fn only_administrator_may_update() {
        let mut known = channel_known(&[]);
        assert_eq!(
            check(UPDATE, &context("bob"), &known).unwrap_err().code,
            Code::NotFound
        );
        known.own_member = Some(member("bob", 2));
        assert_eq!(
            check(UPDATE, &context("bob"), &known).unwrap_err().code,
            Code::Forbidden
        );
        let nothing = r#"{"type":"update-channel","channel-id":"c"}"#;
        let rejection = check(nothing, &context("anna"), &administrator_known()).unwrap_err();
        assert_eq!(rejection.code, Code::InvalidValue);
        assert_eq!(
            rejected(r#"{"type":"update-channel","channel-id":"c","name":""}"#),
            Code::InvalidValue
        );
    }
}
