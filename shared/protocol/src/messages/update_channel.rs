//! `update-channel`: an administrator changes a channel's name or attributes.
//!
//! `{"type":"update-channel","channel-id":"c-1","name":"New name"}`

use super::{Fields, Refusal, attributes};
use alloc::string::String;

use crate::{ChannelId, Json, model};

/// `update-channel`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateChannel {
    channel_id: ChannelId,
    name: Option<String>,
    attributes: Option<Json>,
}

impl UpdateChannel {
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let channel_id = fields.string("channel-id")?;
        let name = fields.optional_string("name")?;
        let object = fields.object("attributes")?;

        Ok(Self {
            channel_id: ChannelId::parse(&channel_id)?,
            name: name.as_deref().map(model::parse_name).transpose()?,
            attributes: attributes(object)?,
        })
    }
}
