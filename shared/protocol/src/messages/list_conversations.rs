//! `list-conversations`: the caller's direct conversations, in the order of the peers' ids.
//!
//! `{"type":"list-conversations","limit":20}`

use super::{Fields, PageRequest, RawPage, Refusal};
use crate::{
    ServerMessage,
    decide::{Context, Decision, Known, Needs},
};

/// `list-conversations`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListConversations {
    page: PageRequest,
}

impl ListConversations {
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            page: RawPage::take(fields)?.parse()?,
        })
    }

    pub(crate) fn needs(&self) -> Needs {
        Needs {
            response: true,
            conversations: Some(self.page.clone()),
            ..Needs::default()
        }
    }

    pub(crate) fn decide(&self, context: &Context, known: &Known) -> Decision {
        let (conversations, next) = known.conversations.page(context, |it| it.subscriber_id.as_str());
        Decision::respond(ServerMessage::Conversations { conversations, next })
    }
}
