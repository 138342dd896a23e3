//! How many items of a list fit into one server message.

use serde::Serialize;

use crate::limits;

/// Returns an upper bound of the bytes of `text` inside a SockJS frame.
///
/// A SockJS frame escapes every quote and every control character. It writes every character outside the Basic Multilingual
/// Plane as two escapes.
#[must_use]
pub fn sockjs_bytes(text: &str) -> usize {
    text.chars()
        .map(|character| match character {
            '"' | '\\' => 2,
            '\0'..='\x1f' => 6,
            _ => match character.len_utf8() {
                3 => 6,
                4 => 12,
                bytes => bytes,
            },
        })
        .sum()
}

/// The bytes of one server message that are left for items.
pub(crate) struct Budget {
    left: usize,
    empty: bool,
}

impl Budget {
    /// Returns the budget of a message that replies to `reply_to`.
    pub(crate) fn new(reply_to: Option<&str>) -> Self {
        // The parts of a page besides its items and `reply-to`: ids, names, attributes of a membership, the SockJS frame.
        // Escapes at most triple the attributes: a character outside the Basic Multilingual Plane becomes two escapes.
        const REST: usize = 4 * 1024 + 3 * limits::ATTRIBUTES_BYTES;
        let escaped = serde_json::to_string(&reply_to).unwrap_or_default();
        Self {
            left: limits::SERVER_MESSAGE_BYTES.saturating_sub(REST + sockjs_bytes(&escaped)),
            empty: true,
        }
    }

    /// Subtracts the bytes of `item`, which the message contains in any case.
    pub(crate) fn reserve(&mut self, item: &impl Serialize) {
        self.left = self.left.saturating_sub(item_bytes(item));
        self.empty = false;
    }

    /// Subtracts the bytes of `item` if it fits, and returns true if it does. The first item always fits. After one that does
    /// not fit, no other does.
    pub(crate) fn takes(&mut self, item: &impl Serialize) -> bool {
        let bytes = item_bytes(item);
        let fits = bytes <= self.left || self.empty;
        self.empty = false;
        self.left = if fits {
            self.left.saturating_sub(bytes)
        } else {
            0
        };
        fits
    }
}

/// Returns the bytes of an item of a list, with its comma.
fn item_bytes(item: &impl Serialize) -> usize {
    serde_json::to_string(item).map_or(0, |text| sockjs_bytes(&text) + 1)
}

/// Returns the bytes of the items of a list in a server message.
#[must_use]
pub fn items_bytes<'a, T: Serialize + 'a>(items: impl Iterator<Item = &'a T>) -> usize {
    items.map(item_bytes).sum()
}

/// Returns how many of `items`, in this order, fit into one server message that replies to `reply_to`. At least one fits.
#[must_use]
pub fn fitting<'a, T: Serialize + 'a>(
    reply_to: Option<&str>,
    items: impl Iterator<Item = &'a T>,
) -> usize {
    let mut budget = Budget::new(reply_to);
    items.take_while(|item| budget.takes(item)).count()
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn page_fits_limit_or_one_item() {
        let item = "x".repeat(limits::CONTENT_BYTES);
        assert_eq!(fitting(None, vec![&item; 100].into_iter()), 6);
        let escaped = "\u{0}".repeat(limits::CONTENT_BYTES);
        assert_eq!(fitting(None, vec![&escaped; 100].into_iter()), 1);
    }
}
