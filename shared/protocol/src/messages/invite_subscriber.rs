//! `invite-subscriber`: an administrator opens the channel to somebody.
//!
//! `{"type":"invite-subscriber","channel-id":"c-1","subscriber-id":"bob"}`

use super::{Fields, Refusal};
use crate::{ChannelId, SubscriberId};

/// `invite-subscriber`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteSubscriber {
    channel_id: ChannelId,
    subscriber_id: SubscriberId,
}

impl InviteSubscriber {
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let channel_id = fields.string("channel-id")?;
        let subscriber_id = fields.string("subscriber-id")?;

        Ok(Self {
            channel_id: ChannelId::parse(&channel_id)?,
            subscriber_id: SubscriberId::parse(&subscriber_id)?,
        })
    }
}
