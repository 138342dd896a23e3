//! Frames: the encoding of messages in both directions.
//!
//! The server sends `o` once, `h` from time to time, `a["…","…"]` with messages, and `c[code,"reason"]` at the end. The client
//! sends a JSON array of strings, or on a WebSocket also a single JSON value.

use alloc::{string::String, vec::Vec};
use core::fmt::{self, Write as _};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::codes::Close;

mod surrogates;

/// The first frame of a session.
pub const OPEN: &str = "o";
/// A heartbeat without content.
pub const HEARTBEAT: &str = "h";

/// The maximum number of messages in a frame on a WebSocket.
///
/// SockJS clients send one message per frame. A frame of thousands would be thousands of requests, although the gateway
/// counts one.
pub const FRAME_MESSAGES: usize = 100;
/// The maximum number of messages in an HTTP request, as in a frame on a WebSocket.
///
/// A client collects messages while its last request is in progress, and sends them in one request.
pub const BATCH_MESSAGES: usize = FRAME_MESSAGES;

/// Returns the frame `a[…]` with all messages.
#[must_use]
pub fn messages<T: AsRef<str>>(messages: impl IntoIterator<Item = T>) -> String {
    let mut frame = String::from("a[");
    for (index, message) in messages.into_iter().enumerate() {
        if index > 0 {
            frame.push(',');
        }
        string_into(&mut frame, message.as_ref());
    }
    frame.push(']');
    frame
}

/// Returns a frame of at most `limit` bytes with the first messages, and how many messages it contains.
///
/// The frame contains at least one message if there is one, even if it exceeds the limit.
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

/// Returns the last frame, `c[code,"reason"]`.
#[must_use]
pub fn close(code: u16, reason: &str) -> String {
    let mut frame = String::new();
    // Writing to a string cannot fail.
    let _ = write!(frame, "c[{code},");
    string_into(&mut frame, reason);
    frame.push(']');
    frame
}

impl Close {
    /// Returns the close frame.
    #[must_use]
    pub fn frame(self) -> String {
        close(self.code, self.reason)
    }
}

/// Returns `text` as a JSON string.
///
/// Like the reference server it also escapes characters outside the Basic Multilingual Plane, and characters that the parsers
/// or sockets of some browsers lose.
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
                    // Writing to a string cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

/// Why the body of an HTTP request from a client is rejected. The session continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The body is empty or not an array.
    #[error("Payload expected.")]
    NoPayload,
    /// The body is not JSON.
    #[error("Broken JSON encoding.")]
    Broken,
    /// The array has more than [`BATCH_MESSAGES`] messages.
    #[error("Too many messages.")]
    TooMany,
}

/// Decodes a request body, which must be an array of messages.
///
/// An element that is no string becomes its JSON text without spaces. A lone surrogate, which old clients send, becomes U+FFFD.
///
/// # Errors
/// [`BatchError`]. Its text is the body of the response.
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

/// A client sent text on a WebSocket that is not a frame, or a frame with more than [`FRAME_MESSAGES`] messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("broken framing")]
pub struct BrokenFraming;

/// Decodes text from a WebSocket: an array of messages or a single one. Empty text has no messages.
///
/// # Errors
/// [`BrokenFraming`] if the text is not JSON or has too many messages.
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

/// Decodes a payload of at most `most` messages. Returns `None` if it is not JSON.
///
/// Elements are not parsed further, so their size and depth do not matter, and numbers keep their digits.
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

/// The elements of an array, up to one more than [`BATCH_MESSAGES`].
///
/// The rest of a longer array is skipped, so that megabytes of `[1,1,…]` do not need a multiple of that memory.
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

/// Returns the text of a string, or the JSON of any other element without spaces.
fn message(element: &RawValue) -> Option<String> {
    let text = element.get();
    if text.starts_with('"') {
        return serde_json::from_str(text).ok();
    }
    Some(compact(text))
}

/// Returns the JSON without the spaces between its tokens.
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
