//! Checks of texts that clients show to people, such as names.

/// Returns true if `text` has a control character (also NUL and every line end), or a character that embeds, overrides or
/// isolates the direction of text. Such a text can look like another one.
#[must_use]
pub fn has_control(text: &str) -> bool {
    text.chars().any(|character| {
        character.is_control()
            || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

/// Returns true if no character of `text` is visible: all are white space, or ignorable in Unicode's sense
/// (`Default_Ignorable_Code_Point`), or the blank Braille pattern.
#[must_use]
pub fn is_blank(text: &str) -> bool {
    text.chars().all(|character| {
        character.is_whitespace()
            || matches!(
                character,
                '\u{ad}'
                    | '\u{34f}'
                    | '\u{61c}'
                    | '\u{115f}'..='\u{1160}'
                    | '\u{17b4}'..='\u{17b5}'
                    | '\u{180b}'..='\u{180f}'
                    | '\u{200b}'..='\u{200f}'
                    | '\u{2028}'..='\u{202e}'
                    | '\u{2060}'..='\u{206f}'
                    | '\u{2800}'
                    | '\u{3164}'
                    | '\u{fe00}'..='\u{fe0f}'
                    | '\u{feff}'
                    | '\u{ffa0}'
                    | '\u{1bca0}'..='\u{1bca3}'
                    | '\u{1d173}'..='\u{1d17a}'
                    | '\u{e0000}'..='\u{e0fff}'
            )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_found() {
        for bad in [
            "a\0",
            "a\nb",
            "\r",
            "\t",
            "\u{7f}",
            "\u{85}",
            "\u{2028}",
            "\u{2029}",
            "\u{202a}",
            "ab\u{202e}cd",
            "\u{2066}x\u{2069}",
        ] {
            assert!(has_control(bad), "{bad:?}");
        }
        for good in [
            "",
            " ",
            "Team é 😀",
            "שלום",
            "a\u{200f}b",
            "👩\u{200d}👩\u{200d}👧",
        ] {
            assert!(!has_control(good), "{good:?}");
        }
    }

    #[test]
    fn invisible_text_is_blank() {
        for blank in [
            "",
            " ",
            "\u{a0}\u{3000}",
            "\u{200b}",
            "\u{2800}",
            "\u{3164} \u{e0041}",
        ] {
            assert!(is_blank(blank), "{blank:?}");
        }
        for visible in ["a", " . ", "\u{200b}x", "😀", "\u{301}"] {
            assert!(!is_blank(visible), "{visible:?}");
        }
    }
}
