//! `list-conversations`: the caller's direct conversations, in the order of the peers' ids.
//!
//! `{"type":"list-conversations","limit":20}`

use super::{Fields, PageRequest, RawPage, Refusal};
use crate::{
    ServerMessage,
    decide::{Context, Decision, Known, Needs},
    frame,
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
        let page = &known.conversations;
        let fitting = frame::fitting(context.reply_to.as_deref(), page.items.iter());
        let conversations: alloc::vec::Vec<_> = page.items.iter().take(fitting).cloned().collect();
        let more = page.more || fitting < page.items.len();
        Decision::respond(ServerMessage::Conversations {
            next: conversations.last().filter(|_| more).map(|it| it.subscriber_id.as_str().into()),
            conversations,
        })
    }
}
