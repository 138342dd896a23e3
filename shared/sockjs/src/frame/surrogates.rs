//! Escaped lone surrogates. JSON's grammar allows them, Unicode does not.

use alloc::{borrow::Cow, string::String};

/// Returns `json` with each escape of a lone surrogate replaced by the escape of U+FFFD.
///
/// The length stays the same. Text that is no JSON is left to the parser.
pub(super) fn replaced(json: &str) -> Cow<'_, str> {
    let mut out = String::new();
    // The text before this index is in `out`.
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = json.get(at..).and_then(|rest| rest.find('\\')) {
        at += found;
        let length = match unit(json, at) {
            // An escape of one character. The character may be a backslash or longer than one byte.
            None => {
                let escaped = json.get(at + 1..).and_then(|rest| rest.chars().next());
                1 + escaped.map_or(0, char::len_utf8)
            }
            // A surrogate pair is copied.
            Some(0xd800..=0xdbff) if matches!(unit(json, at + 6), Some(0xdc00..=0xdfff)) => 12,
            // A lone surrogate is replaced.
            Some(0xd800..=0xdfff) => {
                out.push_str(json.get(copied..at).unwrap_or_default());
                out.push_str("\\ufffd");
                copied = at + 6;
                6
            }
            Some(_) => 6,
        };
        at += length;
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    out.push_str(json.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// Returns the code unit of the escape `\uxxxx` at index `at`, if there is one.
fn unit(json: &str, at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
    digits
        .bytes()
        .all(|it| it.is_ascii_hexdigit())
        .then(|| u16::from_str_radix(digits, 16).ok())
        .flatten()
}
