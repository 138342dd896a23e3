//! `set-administrator`: an administrator gives or takes the right.
//!
//! `{"type":"set-administrator","channel-id":"c-1","subscriber-id":"bob","administrator":true}`

use super::{Fields, Refusal};
use crate::{ChannelId, SubscriberId};

/// `set-administrator`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAdministrator {
    channel_id: ChannelId,
    subscriber_id: SubscriberId,
    administrator: bool,
}

impl SetAdministrator {
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let channel_id = fields.string("channel-id")?;
        let subscriber_id = fields.string("subscriber-id")?;
        let administrator = fields.boolean("administrator")?;

        Ok(Self {
            channel_id: ChannelId::parse(&channel_id)?,
            subscriber_id: SubscriberId::parse(&subscriber_id)?,
            administrator,
        })
    }
}
