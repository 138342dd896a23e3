//! Frames: how messages travel, either way.
//!
//! To a client: `o` once, `h` now and then, `a["…","…"]`, and `c[code,"reason"]` last. From a client: a JSON array of strings,
//! or on a WebSocket also a single JSON value.

use alloc::{string::String, vec::Vec};
use core::fmt::{self, Write as _};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::codes::Close;

mod surrogates;

/// The session is open: the first frame, once in a session.
pub const OPEN: &str = "o";
/// Still here.
pub const HEARTBEAT: &str = "h";

/// Messages at most of a WebSocket's frame. Clients send one in each; a frame of thousands would be thousands of requests
/// where the gateway counts one.
pub const FRAME_MESSAGES: usize = 100;
/// Messages at most of a request by HTTP, as of a WebSocket's frame: a client sends together what it gathered while its last
/// request was under way.
pub const BATCH_MESSAGES: usize = FRAME_MESSAGES;

/// `a[…]`: the messages in one frame.
#[must_use]
pub fn messages<T: AsRef<str>>(messages: impl IntoIterator<Item = T>) -> String {
    let mut frame = String::from("a[");
    for (place, message) in messages.into_iter().enumerate() {
        if place > 0 {
            frame.push(',');
        }
        string_into(&mut frame, message.as_ref());
    }
    frame.push(']');
    frame
}

/// As many of the first messages as one frame of at most `limit` bytes holds, but at least one if there is one; and how many
/// those are.
#[must_use]
pub fn batch<T: AsRef<str>>(messages: &[T], limit: usize) -> (String, usize) {
    let mut frame = String::from("a[");
    let mut count = 0;
    for message in messages {
        let before = frame.len();
        if count > 0 {
            frame.push(',');
        }
        string_into(&mut frame, message.as_ref());
        if count > 0 && frame.len() + "]".len() > limit {
            frame.truncate(before);
            break;
        }
        count += 1;
    }
    frame.push(']');
    (frame, count)
}

/// `c[code,"reason"]`: the last frame.
#[must_use]
pub fn close(code: u16, reason: &str) -> String {
    let mut frame = String::new();
    // Writing to a string does not fail.
    let _ = write!(frame, "c[{code},");
    string_into(&mut frame, reason);
    frame.push(']');
    frame
}

impl Close {
    /// The frame that says so.
    #[must_use]
    pub fn frame(self) -> String {
        close(self.code, self.reason)
    }
}

/// `text` as a JSON string. Escaped are also the characters that some browsers' parsers or sockets have lost, and those
/// outside the Basic Multilingual Plane, as the reference server does.
#[must_use]
pub fn string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    string_into(&mut quoted, text);
    quoted
}

fn string_into(out: &mut String, text: &str) {
    out.reserve(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}'
            | '\u{200c}'..='\u{200f}'
            | '\u{2028}'..='\u{202f}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fff0}'..=char::MAX => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    // Writing to a string does not fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

/// Why what a client sent by HTTP cannot be taken. It harms nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// There is nothing, or something else than an array.
    #[error("Payload expected.")]
    NoPayload,
    /// It is no JSON.
    #[error("Broken JSON encoding.")]
    Broken,
    /// They are more than [`BATCH_MESSAGES`].
    #[error("Too many messages.")]
    TooMany,
}

/// The messages of a request body: an array. What is no string stands for itself, as its JSON text without spaces. A lone
/// surrogate, which old clients send, becomes U+FFFD.
///
/// # Errors
/// [`BatchError`], whose text is the response's body.
pub fn decode_batch(body: &[u8]) -> Result<Vec<String>, BatchError> {
    if body.is_empty() {
        return Err(BatchError::NoPayload);
    }
    let text = core::str::from_utf8(body).map_err(|_| BatchError::Broken)?;
    match decode(text, BATCH_MESSAGES).ok_or(BatchError::Broken)? {
        Payload::Array(messages) => Ok(messages),
        Payload::TooMany => Err(BatchError::TooMany),
        Payload::Single(_) => Err(BatchError::NoPayload),
    }
}

/// What a client sent over a WebSocket is no frame, or one of more than [`FRAME_MESSAGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("broken framing")]
pub struct BrokenFraming;

/// The messages of a WebSocket's text: an array's, or a single value. No text at all is no message.
///
/// # Errors
/// [`BrokenFraming`] if it is no JSON, or too many.
pub fn decode_text(text: &str) -> Result<Vec<String>, BrokenFraming> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    match decode(text, FRAME_MESSAGES).ok_or(BrokenFraming)? {
        Payload::Array(messages) => Ok(messages),
        Payload::TooMany => Err(BrokenFraming),
        Payload::Single(message) => Ok(alloc::vec![message]),
    }
}

enum Payload {
    Array(Vec<String>),
    TooMany,
    Single(String),
}

/// None if it is no JSON. Elements stay as they are written, whatever their size or depth: numbers keep their digits.
fn decode(text: &str, most: usize) -> Option<Payload> {
    let text = surrogates::replaced(text);
    let whole: &RawValue = serde_json::from_str(&text).ok()?;
    if !whole.get().starts_with('[') {
        return message(whole).map(Payload::Single);
    }
    let Elements(elements) = serde_json::from_str(whole.get()).ok()?;
    if elements.len() > most {
        return Some(Payload::TooMany);
    }
    elements
        .into_iter()
        .map(message)
        .collect::<Option<_>>()
        .map(Payload::Array)
}

/// The elements of an array, of a longer one than anybody takes the first: megabytes of `[1,1,…]` must not take many times
/// their room.
struct Elements<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct First;
        impl<'de> Visitor<'de> for First {
            type Value = Elements<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while elements.len() <= BATCH_MESSAGES
                    && let Some(element) = array.next_element()?
                {
                    elements.push(element);
                }
                while array.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Elements(elements))
            }
        }
        deserializer.deserialize_seq(First)
    }
}

/// A string's text; of anything else its JSON without spaces.
fn message(element: &RawValue) -> Option<String> {
    let text = element.get();
    if text.starts_with('"') {
        return serde_json::from_str(text).ok();
    }
    Some(compact(text))
}

/// JSON without the spaces between its tokens.
fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut in_string = false;
    let mut escaped = false;
    for character in json.chars() {
        if in_string {
            in_string = escaped || character != '"';
            escaped = !escaped && character == '\\';
        } else if matches!(character, ' ' | '\n' | '\r' | '\t') {
            continue;
        } else {
            in_string = character == '"';
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests;
