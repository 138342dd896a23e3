//! What the targets `decode` and `message` share: parsing frames, and the knowledge that decisions need.

mod known;

use std::collections::BTreeMap;

use protocol::{limits, page_size::sockjs_bytes};
use serde_json::value::RawValue;

pub use known::{administrator, invited};

/// The fields of a server message that the targets check.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub message_type: String,
    pub reply_to: Option<String>,
}

impl Frame {
    /// Parses a frame.
    ///
    /// # Panics
    /// If it is not one JSON object with strings for `type` and `reply-to`, has a key twice, or is over the limit.
    #[must_use]
    pub fn of(text: &str) -> Self {
        // Raw values: a client may send numbers that no Rust type holds, and the service sends them back.
        let fields: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let string = |name: &str| {
            fields.get(name).map(|raw| {
                serde_json::from_str::<String>(raw.get())
                    .unwrap_or_else(|error| panic!("`{name}`: {error}: {text}"))
            })
        };
        let keys: usize = fields.iter().map(|(key, raw)| pair_bytes(key, raw)).sum();
        let commas = fields.len().saturating_sub(1);
        assert_eq!(keys + commas + 2, text.len(), "a key is repeated: {text}");
        assert!(
            sockjs_bytes(text) <= limits::SERVER_MESSAGE_BYTES,
            "{} bytes when SockJS-framed",
            sockjs_bytes(text)
        );
        Self {
            message_type: string("type").unwrap_or_else(|| panic!("no `type`: {text}")),
            reply_to: string("reply-to"),
        }
    }
}

/// The bytes of a key with its value as the encoder writes them, without any space.
fn pair_bytes(key: &str, raw: &RawValue) -> usize {
    let key = serde_json::to_string(key).map_or(0, |it| it.len());
    key + 1 + raw.get().len()
}
