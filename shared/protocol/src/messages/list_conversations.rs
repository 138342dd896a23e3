//! `list-conversations`: lists the caller's direct conversations in the order of the peers' ids.
//!
//! `{"type":"list-conversations","limit":20}`

use super::{Fields, Message, RawPage, Refusal};
use crate::{
    ServerMessage, Subscriber,
    decision::{Context, Decision, Known, Needs, PageRequest},
    error::Rejection,
};

/// `list-conversations`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListConversations {
    page: PageRequest,
}

impl Message for ListConversations {
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            page: RawPage::take(fields)?.parse()?,
        })
    }

    fn needs(&self, _: &Subscriber) -> Needs {
        Needs {
            response: true,
            conversations: Some(self.page.clone()),
            ..Needs::default()
        }
    }

    fn decide(&self, context: &Context, known: &Known) -> Result<Decision, Rejection> {
        let (conversations, next) = known
            .conversations
            .page(context, |it| it.subscriber_id.as_str());
        Ok(Decision::respond(ServerMessage::Conversations {
            conversations,
            next,
        }))
    }
}
