use alloc::{borrow::ToOwned as _, format, string::ToString as _, vec};

use proptest::prelude::*;

use super::*;

/// Generates text with many characters that need escapes.
fn text() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        Just('"'),
        Just('\\'),
        Just('😀'),
        any::<char>(),
        proptest::char::range('\0', '\u{7f}'),
        proptest::char::range('\u{2000}', '\u{2070}'),
        proptest::char::range('\u{ff00}', '\u{ffff}'),
    ];
    proptest::collection::vec(character, 0..20).prop_map(String::from_iter)
}

/// Parses an `a` frame as a client does.
fn parsed(frame: &str) -> Vec<String> {
    serde_json::from_str(frame.strip_prefix('a').unwrap()).unwrap()
}

proptest! {
    #[test]
    fn encoded_messages_decode_again(texts in proptest::collection::vec(text(), 0..5)) {
        let frame = messages(&texts);
        prop_assert_eq!(parsed(&frame), texts.clone());
        prop_assert_eq!(decode_text(&frame[1..]).unwrap(), texts.clone());
        prop_assert_eq!(decode_batch(&frame.as_bytes()[1..]).unwrap(), texts);
    }

    #[test]
    fn batches_keep_limit_and_messages(
        texts in proptest::collection::vec(text(), 0..8), limit in 0_usize..300,
    ) {
        let mut rest = texts.as_slice();
        let mut got = Vec::new();
        while !rest.is_empty() {
            let (frame, count) = batch(rest, limit);
            prop_assert!(count == 1 || count > 1 && frame.len() <= limit);
            prop_assert_eq!(&frame, &messages(&rest[..count]));
            if let Some(next) = rest.get(count) {
                // One more message would exceed the limit.
                prop_assert!(frame.len() + 1 + string(next).len() > limit);
            }
            got.extend(parsed(&frame));
            rest = &rest[count..];
        }
        prop_assert_eq!(got, texts);
    }

    #[test]
    fn decoding_never_panics(text in any::<String>()) {
        let _ = decode_text(&text);
        let _ = decode_batch(text.as_bytes());
    }

    #[test]
    fn lone_surrogates_become_replacement_characters(units in proptest::collection::vec(any::<u16>(), 0..20)) {
        let escapes: String = units.iter().map(|it| format!("\\u{it:04x}")).collect();
        let expected = String::from_utf16_lossy(&units);
        prop_assert_eq!(decode_text(&format!("[\"{escapes}\"]")).unwrap(), vec![expected]);
    }
}

#[test]
fn unsafe_characters_are_escaped() {
    for code in (0..0x20)
        .chain(0x200c..=0x200f)
        .chain(0x2028..=0x202f)
        .chain(0x2060..=0x206f)
        .chain(0xfff0..=0xffff)
    {
        let character = char::from_u32(code).unwrap();
        let expected = match character {
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            '\t' => "\\t".to_owned(),
            '\u{8}' => "\\b".to_owned(),
            '\u{c}' => "\\f".to_owned(),
            _ => format!("\\u{code:04x}"),
        };
        assert_eq!(string(&character.to_string()), format!("\"{expected}\""));
    }
    assert_eq!(string("\"\\é/😀"), r#""\"\\é/\ud83d\ude00""#);
    for plain in ['\u{7f}', '\u{200b}', '\u{2010}', '\u{2070}', '\u{ffef}'] {
        assert_eq!(string(&plain.to_string()), format!("\"{plain}\""));
    }
}

#[test]
fn frames_match_protocol() {
    assert_eq!(messages::<&str>([]), "a[]");
    assert_eq!(messages(["x", r#"{"a":1}"#]), r#"a["x","{\"a\":1}"]"#);
    assert_eq!(close(3000, "Go away!"), r#"c[3000,"Go away!"]"#);
    assert_eq!(
        crate::codes::TOKEN_INVALIDATED.frame(),
        r#"c[4401,"token-invalidated"]"#
    );
}

#[test]
fn websocket_accepts_array_or_value() {
    for (text, expected) in [
        ("", vec![]),
        ("[]", vec![]),
        (r#"["a"]"#, vec!["a"]),
        (r#" [ "a" , "b" ] "#, vec!["a", "b"]),
        (r#""a""#, vec!["a"]),
        (
            r#"[{"a" : [1, "x \" y"]}, 1.10, null]"#,
            vec![r#"{"a":[1,"x \" y"]}"#, "1.10", "null"],
        ),
        (
            "[123456789012345678901234567890]",
            vec!["123456789012345678901234567890"],
        ),
        ("true", vec!["true"]),
        (
            r#"["\ud800","\udc00\ud83d\ude00"]"#,
            vec!["\u{fffd}", "\u{fffd}😀"],
        ),
        (r#"["\\ud800"]"#, vec!["\\ud800"]),
    ] {
        assert_eq!(decode_text(text).unwrap(), expected, "{text}");
    }
    for broken in [
        "[",
        "[\"a\"",
        "{\"a\"}",
        "[\"a\"]x",
        " ",
        "\u{feff}[]",
        "['a']",
        "[\"\\é\"]",
    ] {
        assert_eq!(decode_text(broken), Err(BrokenFraming), "{broken}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(decode_text(&deep), Err(BrokenFraming));
}

#[test]
fn request_accepts_array_only() {
    assert_eq!(decode_batch(b"[]"), Ok(vec![]));
    assert_eq!(
        decode_batch(br#"["a",{"b": 1}]"#).unwrap(),
        ["a", r#"{"b":1}"#]
    );
    for (body, error) in [
        (&b""[..], BatchError::NoPayload),
        (b"\"a\"", BatchError::NoPayload),
        (b"{\"a\":1}", BatchError::NoPayload),
        (b"[\"a", BatchError::Broken),
        (b"x", BatchError::Broken),
        (b"[\"\xff\"]", BatchError::Broken),
    ] {
        assert_eq!(decode_batch(body), Err(error), "{body:?}");
    }
    assert_eq!(BatchError::NoPayload.to_string(), "Payload expected.");
    assert_eq!(BatchError::Broken.to_string(), "Broken JSON encoding.");
}

#[test]
fn too_many_messages_are_rejected() {
    let array = |count: usize| format!("[{}]", vec!["1"; count].join(","));
    assert_eq!(
        decode_text(&array(FRAME_MESSAGES)).unwrap().len(),
        FRAME_MESSAGES
    );
    assert_eq!(decode_text(&array(FRAME_MESSAGES + 1)), Err(BrokenFraming));
    let batch = decode_batch(array(BATCH_MESSAGES).as_bytes()).unwrap();
    assert_eq!(batch.len(), BATCH_MESSAGES);
    for more in [BATCH_MESSAGES + 1, BATCH_MESSAGES + 2, 100_000] {
        assert_eq!(
            decode_batch(array(more).as_bytes()),
            Err(BatchError::TooMany)
        );
    }
    let broken = array(BATCH_MESSAGES + 2).replace(']', "");
    assert_eq!(decode_batch(broken.as_bytes()), Err(BatchError::Broken));
}
