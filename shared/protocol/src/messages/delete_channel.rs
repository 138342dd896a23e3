//! `delete-channel`: an administrator ends a channel for everybody.
//!
//! `{"type":"delete-channel","channel-id":"c-1"}`

use super::{Fields, Refusal};
use crate::ChannelId;

/// `delete-channel`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteChannel {
    channel_id: ChannelId,
}

impl DeleteChannel {
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let channel_id = fields.string("channel-id")?;

        Ok(Self {
            channel_id: ChannelId::parse(&channel_id)?,
        })
    }
}
