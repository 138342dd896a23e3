//! `remove-subscriber`: an administrator ends somebody's membership.
//!
//! `{"type":"remove-subscriber","channel-id":"c-1","subscriber-id":"bob"}`

use super::{Fields, Refusal};
use crate::{ChannelId, SubscriberId};

/// `remove-subscriber`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoveSubscriber {
    channel_id: ChannelId,
    subscriber_id: SubscriberId,
}

impl RemoveSubscriber {
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let channel_id = fields.string("channel-id")?;
        let subscriber_id = fields.string("subscriber-id")?;

        Ok(Self {
            channel_id: ChannelId::parse(&channel_id)?,
            subscriber_id: SubscriberId::parse(&subscriber_id)?,
        })
    }
}
