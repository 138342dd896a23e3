//! `list-subscribers`: lists the members of a channel with their presence, in the order of their ids.
//!
//! `{"type":"list-subscribers","channel-id":"c-1","limit":20}`

use super::{Fields, Message, RawPage, Refusal};
use crate::{
    ChannelId, ChannelKey, ServerMessage, Subscriber,
    decision::{Context, Decision, Known, Needs, PageRequest},
    error::Rejection,
    rights,
};

/// `list-subscribers`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListSubscribers {
    channel_id: ChannelId,
    page: PageRequest,
}

impl Message for ListSubscribers {
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let channel_id = fields.string("channel-id")?;
        let page = RawPage::take(fields)?;

        Ok(Self {
            channel_id: ChannelId::parse(&channel_id)?,
            page: page.parse()?,
        })
    }

    fn needs(&self, subscriber: &Subscriber) -> Needs {
        let channel = ChannelKey {
            domain: subscriber.domain.clone(),
            id: self.channel_id.clone(),
        };
        Needs {
            response: true,
            own_member: Some(channel.clone()),
            members: Some((channel, self.page.clone())),
            ..Needs::default()
        }
    }

    fn decide(&self, context: &Context, known: &Known) -> Result<Decision, Rejection> {
        rights::member(known)?;
        let (subscribers, next) = known.members.page(context, |it| it.presence.id.as_str());
        Ok(Decision::respond(ServerMessage::Subscribers {
            subscribers,
            next,
        }))
    }
}

#[cfg(test)]
mod tests {
    use crate::decision::tests::{channel_known, check, context, member, respond};

    #[test]
    fn only_members_may_list_members() {
        let list = r#"{"type":"list-subscribers","channel-id":"c"}"#;
        let mut known = channel_known(&["anna", "bob"]);
        assert!(check(list, &context("bob"), &known).is_err());
        known.own_member = Some(member("bob", 1));
        let page = respond(list, &context("bob"), &known);
        assert_eq!(page["subscribers"][1]["id"], "bob");
        assert!(page.get("next").is_none());
        known.own_member.as_mut().unwrap().left = Some(2);
        assert!(check(list, &context("bob"), &known).is_err());
    }
}
