//! JSON that is stored byte for byte, and checks that the JSON library does not make.

use alloc::{borrow::ToOwned, boxed::Box, collections::BTreeMap, string::String, vec::Vec};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::limits;

/// A JSON value exactly as its sender wrote it. Big integers, duplicate keys and spaces survive.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// Returns the value if `text` is one JSON value.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        RawValue::from_string(text.to_owned()).ok().map(Self)
    }

    /// Returns the empty object.
    #[must_use]
    pub fn empty_object() -> Self {
        Self::from_raw(RawValue::NULL, "{}")
    }

    /// Returns the text exactly as it was sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Returns the canonical text of the value, which is equal for equal values.
    ///
    /// It has no spaces, sorted and unique keys, and only the necessary escapes. Numbers stay as they are written.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut text = String::with_capacity(self.as_str().len());
        write_canonical(self.as_str(), &mut text);
        text
    }

    fn from_raw(fallback: &RawValue, text: &str) -> Self {
        Self(RawValue::from_string(text.to_owned()).unwrap_or_else(|_| fallback.to_owned()))
    }
}

impl From<&RawValue> for Json {
    fn from(raw: &RawValue) -> Self {
        Self(raw.to_owned())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str() || self.canonical() == other.canonical()
    }
}

impl Eq for Json {}

fn write_canonical(text: &str, out: &mut String) {
    let parsed = match text.as_bytes().first() {
        Some(b'{') => serde_json::from_str(text).map(|members| write_object(&members, out)),
        Some(b'[') => {
            serde_json::from_str(text).map(|items: Vec<&RawValue>| write_array(&items, out))
        }
        Some(b'"') => serde_json::from_str(text).map(|content: String| write_string(&content, out)),
        _ => return out.push_str(text),
    };
    // The text of a value can always be parsed, so this is never reached.
    if parsed.is_err() {
        out.push_str(text);
    }
}

fn write_object(members: &BTreeMap<String, &RawValue>, out: &mut String) {
    for (index, (key, value)) in members.iter().enumerate() {
        out.push(if index == 0 { '{' } else { ',' });
        write_string(key, out);
        out.push(':');
        write_canonical(value.get(), out);
    }
    out.push_str(if members.is_empty() { "{}" } else { "}" });
}

fn write_array(items: &[&RawValue], out: &mut String) {
    for (index, value) in items.iter().enumerate() {
        out.push(if index == 0 { '[' } else { ',' });
        write_canonical(value.get(), out);
    }
    out.push_str(if items.is_empty() { "[]" } else { "]" });
}

fn write_string(content: &str, out: &mut String) {
    out.push_str(&serde_json::to_string(content).unwrap_or_default());
}

/// Returns false if `text` has one of the faults that make a message malformed although a JSON parser accepts it.
///
/// These are a byte order mark, nesting deeper than [`limits::NESTING`], and an escaped lone surrogate. The check takes one
/// pass without recursion, so a deeply nested text costs no stack. Text that is no JSON is left to the parser.
#[must_use]
pub fn is_well_formed(text: &str) -> bool {
    if text.starts_with('\u{feff}') {
        return false;
    }
    let mut bytes = text.bytes();
    let mut depth = 0_usize;
    let mut in_string = false;
    // Set between the two halves of an escaped surrogate pair.
    let mut high_surrogate = false;
    while let Some(byte) = bytes.next() {
        if !in_string {
            match byte {
                b'"' => in_string = true,
                b'[' | b'{' => {
                    depth += 1;
                    if depth > limits::NESTING {
                        return false;
                    }
                }
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            continue;
        }
        // Inside a string: only an escaped low surrogate may follow an escaped high one.
        if byte == b'\\' {
            if bytes.next() != Some(b'u') {
                if high_surrogate {
                    return false;
                }
                continue;
            }
            let Some(unit) = code_unit(&mut bytes) else {
                return false;
            };
            high_surrogate = match (high_surrogate, unit) {
                (false, 0xd800..=0xdbff) => true,
                (true, 0xdc00..=0xdfff) => false,
                (true, _) | (false, 0xdc00..=0xdfff) => return false,
                (false, _) => false,
            };
        } else if high_surrogate {
            return false;
        } else if byte == b'"' {
            in_string = false;
        }
    }
    true
}

/// Returns true if every number in `text`, a JSON value, can be read by common decoders.
///
/// Such a number is finite as a double and has at most [`limits::NUMBER_CHARACTERS`] characters. Many decoders fail on the
/// whole message otherwise, so one such number would hide a page of events. The check takes one pass without recursion.
#[must_use]
pub fn has_portable_numbers(text: &str) -> bool {
    let mut in_string = false;
    let mut escaped = false;
    // Splits at every character that is in a string or cannot be in a number. What is left are numbers, and the `e` of words.
    text.split(|character| {
        if in_string {
            in_string = escaped || character != '"';
            escaped = !escaped && character == '\\';
            return true;
        }
        in_string = character == '"';
        !matches!(character, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')
    })
    .filter(|piece| piece.starts_with(|first: char| first == '-' || first.is_ascii_digit()))
    .all(|number| {
        number.len() <= limits::NUMBER_CHARACTERS
            && number.parse().is_ok_and(|it: f64| it.is_finite())
    })
}

fn code_unit(bytes: &mut impl Iterator<Item = u8>) -> Option<u32> {
    let mut unit = 0;
    for _ in 0..4 {
        unit = unit * 16 + char::from(bytes.next()?).to_digit(16)?;
    }
    Some(unit)
}

/// Returns the decoded text if `raw` is a JSON string.
#[must_use]
pub fn string(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_values_have_equal_canonical_text() {
        let json = |text: &str| Json::parse(text).unwrap();
        for (one, other) in [
            (
                r#"{"b":[1, 2],"a":"é"}"#,
                r#"{ "a" : "\u00e9" , "b" : [1,2] }"#,
            ),
            (r#"{"a":1,"a":{"x":[]}}"#, r#"{"a":{"x":[ ]}}"#),
            (r#""\/\ud83d\ude00""#, r#""/😀""#),
            ("{ }", "{}"),
        ] {
            assert_eq!(json(one), json(other));
            assert!(Json::parse(&json(one).canonical()).is_some(), "{one}");
        }
        for (one, other) in [
            ("[1,2]", "[2,1]"),
            ("1", "1.0"),
            ("12345678901234567890123", "12345678901234567890124"),
            (r#""1""#, "1"),
            (r#"{"a":null}"#, "{}"),
            (r#"["a,b"]"#, r#"["a","b"]"#),
        ] {
            assert_ne!(json(one), json(other));
        }
    }

    #[test]
    fn lone_surrogate_is_malformed() {
        for good in [
            r#""😀""#,
            r#""\\ud83d""#,
            r#""é""#,
            r#"{"a":"\ud83d\ude00x"}"#,
        ] {
            assert!(is_well_formed(good), "{good}");
        }
        for bad in [
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ud83dx""#,
            r#""\ud83d\n""#,
            r#""\ud83d\ud83d""#,
            r#""\u12""#,
            r#"{"\udc00":1}"#,
        ] {
            assert!(!is_well_formed(bad), "{bad}");
        }
    }

    #[test]
    fn nesting_above_limit_is_malformed() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(is_well_formed(&nested(64)));
        assert!(!is_well_formed(&nested(65)));
        assert!(is_well_formed(&alloc::format!("\"{}\"", "[".repeat(1_000))));
    }

    #[test]
    fn only_portable_numbers_are_accepted() {
        let digits = |count: usize| "1".repeat(count);
        for good in [
            "1",
            "-0.0",
            "1.7976931348623157e308",
            "1e-999",
            "0e999",
            "123456789012345678901234567890.10e+5",
            &alloc::format!("0.{}", digits(398)),
            r#"{"1e999":"1e999","a\\":[true,false,null,"\"",1e9]}"#,
            r#""1e999 \" 1e999""#,
        ] {
            assert!(Json::parse(good).is_some(), "{good}");
            assert!(has_portable_numbers(good), "{good}");
        }
        for bad in [
            "1e999",
            "-1e999",
            "1E+400",
            &digits(310),
            &alloc::format!("0.{}", digits(399)),
            r#"{"a":"\"","b":[1,{"c":1e309}]}"#,
            r#"["\\",1e309]"#,
        ] {
            assert!(Json::parse(bad).is_some(), "{bad}");
            assert!(!has_portable_numbers(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn accepted_numbers_are_read_by_serde(
            text in r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?"
        ) {
            let in_array = alloc::format!("[\"-\",{text},{text}]");
            let read = serde_json::from_str::<serde_json::Value>(&text);
            prop_assert_eq!(has_portable_numbers(&in_array), read.is_ok());
        }
    }

    #[test]
    fn json_is_kept_byte_for_byte() {
        let text = r#"{ "n": 123456789012345678901234567890.10e+5, "a":1,"a":2 }"#;
        let json = Json::parse(text).unwrap();
        assert_eq!(json.as_str(), text);
        assert_eq!(serde_json::to_string(&json).unwrap(), text);
    }
}
