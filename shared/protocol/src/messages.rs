//! The client messages. Each has one file with its fields, a wire example, its decision and its tests.

pub mod announce;
pub mod authorize;
pub mod channel_message;
pub mod create_channel;
pub mod delete_channel;
pub mod delivery;
pub mod direct_message;
pub mod get_history;
pub mod hello;
pub mod invite_subscriber;
pub mod join_channel;
pub mod leave_channel;
pub mod list_channels;
pub mod list_conversations;
pub mod list_subscribers;
pub mod ping;
pub mod remove_subscriber;
pub mod resume;
pub mod set_administrator;
pub mod typing;
pub mod unannounce;
pub mod update_channel;

use alloc::{boxed::Box, collections::BTreeMap, string::String};

use serde_json::value::RawValue;

use crate::{
    ChannelId, Destination, Json, LogId, MessageId, Subscriber, SubscriberId,
    decision::{Context, Decision, Known, Needs, PageRequest},
    error::{Code, Rejection},
    json, limits,
};

/// One type of client message. The macro `client_messages` dispatches to it.
trait Message: Sized {
    /// Takes the message from its fields.
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal>;

    /// Returns what must be read before the message can be decided for `subscriber`.
    fn needs(&self, _subscriber: &Subscriber) -> Needs {
        Needs::default()
    }

    /// Returns the log and the message id that identify a repeat of the message.
    fn idempotency(&self, _subscriber: &Subscriber) -> Option<(LogId, &MessageId)> {
        None
    }

    /// Decides the message.
    fn decide(&self, context: &Context, known: &Known) -> Result<Decision, Rejection>;
}

macro_rules! client_messages {
    ($($module:ident $variant:ident $name:literal;)*) => {
        /// A client message, by its `type`. Parsing has checked every field.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum ClientMessage {
            $(
                #[doc = concat!("`", $name, "`")]
                $variant($module::$variant),
            )*
        }

        impl ClientMessage {
            /// Every `type` that a client may send.
            pub const TYPES: &'static [&'static str] = &[$($name),*];

            fn parse(message_type: &str, fields: &Fields<'_>) -> Result<Self, Refusal> {
                match message_type {
                    $($name => <$module::$variant as Message>::parse(fields).map(Self::$variant),)*
                    _ => Err(Refusal::Malformed),
                }
            }

            /// Returns the `type` of the message.
            #[must_use]
            pub const fn message_type(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                }
            }

            /// Returns what must be read before the message can be decided for `subscriber`.
            #[must_use]
            pub fn needs(&self, subscriber: &Subscriber) -> Needs {
                match self {
                    $(Self::$variant(message) => message.needs(subscriber),)*
                }
            }

            /// Returns the log and the message id that identify a repeat of the message.
            ///
            /// Returns `None` if the client did not choose a message id.
            #[must_use]
            pub fn idempotency(&self, subscriber: &Subscriber) -> Option<(LogId, &MessageId)> {
                match self {
                    $(Self::$variant(message) => message.idempotency(subscriber),)*
                }
            }

            /// Decides the message.
            ///
            /// It accepts any `known`, so it may be called again with fresher data.
            ///
            /// # Errors
            /// Returns the rejection to answer the client with.
            pub fn decide(&self, context: &Context, known: &Known) -> Result<Decision, Rejection> {
                match self {
                    $(Self::$variant(message) => message.decide(context, known),)*
                }
            }
        }
    };
}

client_messages! {
    hello Hello "hello";
    ping Ping "ping";
    announce Announce "announce";
    unannounce Unannounce "unannounce";
    create_channel CreateChannel "create-channel";
    update_channel UpdateChannel "update-channel";
    delete_channel DeleteChannel "delete-channel";
    join_channel JoinChannel "join-channel";
    leave_channel LeaveChannel "leave-channel";
    invite_subscriber InviteSubscriber "invite-subscriber";
    remove_subscriber RemoveSubscriber "remove-subscriber";
    set_administrator SetAdministrator "set-administrator";
    list_channels ListChannels "list-channels";
    list_subscribers ListSubscribers "list-subscribers";
    list_conversations ListConversations "list-conversations";
    channel_message ChannelMessage "channel-message";
    direct_message DirectMessage "direct-message";
    delivery Delivery "delivery";
    get_history GetHistory "get-history";
    resume Resume "resume";
    typing Typing "typing";
    authorize Authorize "authorize";
}

/// A decoded text frame from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Malformed, or of an unknown type. It has no effect and no answer.
    Ignored,
    /// Well-formed, but rejected regardless of what is stored.
    Rejected {
        id: Option<String>,
        rejection: Rejection,
    },
    Message {
        id: Option<String>,
        message: Box<ClientMessage>,
    },
}

/// Decodes a text frame.
///
/// The presence and JSON types of the fields alone decide if it is malformed. Values are checked afterwards, so that a wrong
/// value never hides a missing field.
#[must_use]
pub fn decode(text: &str) -> Decoded {
    if !json::is_well_formed(text) {
        return Decoded::Ignored;
    }
    let Ok(fields) = serde_json::from_str(text).map(Fields) else {
        return Decoded::Ignored;
    };
    let (Ok(message_type), Ok(id)) = (fields.string("type"), fields.optional_string("id")) else {
        return Decoded::Ignored;
    };
    if id
        .as_ref()
        .is_some_and(|id| id.len() > limits::REQUEST_ID_BYTES)
    {
        return Decoded::Ignored;
    }
    match ClientMessage::parse(&message_type, &fields) {
        Err(Refusal::Malformed) => Decoded::Ignored,
        // A well-formed message that is too long gets an answer. A malformed one does not.
        _ if text.len() > limits::CLIENT_MESSAGE_BYTES => Decoded::Rejected {
            id,
            rejection: Rejection::new(Code::TooLarge, "a message must be at most 32 KiB"),
        },
        Err(Refusal::Rejected(rejection)) => Decoded::Rejected { id, rejection },
        Ok(message) => Decoded::Message {
            id,
            message: Box::new(message),
        },
    }
}

/// Why a message could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A field is missing or has the wrong JSON type. The message is ignored.
    Malformed,
    /// A field has a forbidden value. The message is answered.
    Rejected(Rejection),
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

/// The fields of a message, by name. If a key is repeated, the last value counts, as in JavaScript.
///
/// An accessor fails only if the message is malformed: if a required field is absent, or if a field has another JSON type.
/// `null` is another type. So a message first takes all its fields and then checks their values.
pub struct Fields<'a>(BTreeMap<String, &'a RawValue>);

type Field<T> = Result<T, Refusal>;

impl<'a> Fields<'a> {
    fn get(&self, name: &str, starts: &[char]) -> Field<Option<&'a RawValue>> {
        match self.0.get(name) {
            None => Ok(None),
            Some(raw) if raw.get().starts_with(starts) => Ok(Some(raw)),
            Some(_) => Err(Refusal::Malformed),
        }
    }

    fn optional_string(&self, name: &str) -> Field<Option<String>> {
        self.get(name, &['"'])?
            .map(|raw| json::string(raw).ok_or(Refusal::Malformed))
            .transpose()
    }

    fn string(&self, name: &str) -> Field<String> {
        self.optional_string(name)?.ok_or(Refusal::Malformed)
    }

    fn boolean(&self, name: &str) -> Field<bool> {
        self.get(name, &['t', 'f'])?
            .map(|raw| raw.get() == "true")
            .ok_or(Refusal::Malformed)
    }

    fn number(&self, name: &str) -> Field<Option<Number>> {
        const DIGITS: [char; 11] = ['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'];
        Ok(self.get(name, &DIGITS)?.map(|raw| Number(raw.get().into())))
    }

    fn object(&self, name: &str) -> Field<Option<Json>> {
        Ok(self.get(name, &['{'])?.map(Json::from))
    }

    fn any(&self, name: &str) -> Field<Json> {
        self.0
            .get(name)
            .map(|raw| Json::from(*raw))
            .ok_or(Refusal::Malformed)
    }

    fn array(&self, name: &str) -> Field<alloc::vec::Vec<&'a RawValue>> {
        let raw = self.get(name, &['['])?.ok_or(Refusal::Malformed)?;
        serde_json::from_str(raw.get()).map_err(|_| Refusal::Malformed)
    }

    /// Returns the unchecked destination: exactly one of `channel-id` and `subscriber-id`.
    fn destination(&self) -> Field<RawDestination> {
        match (
            self.optional_string("channel-id")?,
            self.optional_string("subscriber-id")?,
        ) {
            (Some(id), None) => Ok(RawDestination::Channel(id)),
            (None, Some(id)) => Ok(RawDestination::Subscriber(id)),
            _ => Err(Refusal::Malformed),
        }
    }
}

/// An unchecked JSON number.
struct Number(String);

impl From<&str> for Number {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl Number {
    /// Returns the number if it is an integer within `range`. Some encoders write whole numbers as `5.0` or `5e0`, which are
    /// accepted.
    fn within(
        &self,
        name: &'static str,
        range: core::ops::RangeInclusive<u64>,
    ) -> Result<u64, Rejection> {
        let integer = self.0.parse::<u64>().ok().or_else(|| {
            let float = self.0.parse::<f64>().ok()?;
            // Adding 0.0 turns `-0` into zero.
            let whole = alloc::format!("{:.0}", float + 0.0).parse::<u64>().ok()?;
            #[expect(
                clippy::as_conversions,
                reason = "the next line compares the result with the original number"
            )]
            let exact = whole as f64;
            (exact == float && whole <= limits::SEQUENCE).then_some(whole)
        });
        integer
            .filter(|value| range.contains(value))
            .ok_or_else(|| {
                Rejection::invalid(alloc::format!(
                    "`{name}` must be an integer from {} to {}",
                    range.start(),
                    range.end()
                ))
            })
    }
}

enum RawDestination {
    Channel(String),
    Subscriber(String),
}

impl RawDestination {
    fn parse(&self) -> Result<Destination, Rejection> {
        Ok(match self {
            Self::Channel(id) => Destination::Channel(ChannelId::parse(id)?),
            Self::Subscriber(id) => Destination::Subscriber(SubscriberId::parse(id)?),
        })
    }
}

/// Parses a page request from the parameters of a query string.
pub(crate) fn page_of(after: Option<&str>, limit: Option<&str>) -> Result<PageRequest, Rejection> {
    RawPage {
        after: after.map(String::from),
        limit: limit.map(Number::from),
    }
    .parse()
}

struct RawPage {
    after: Option<String>,
    limit: Option<Number>,
}

impl RawPage {
    fn take(fields: &Fields<'_>) -> Field<Self> {
        Ok(Self {
            after: fields.optional_string("after")?,
            limit: fields.number("limit")?,
        })
    }

    fn parse(self) -> Result<PageRequest, Rejection> {
        // A cursor is an id that the service sent. Any other text is no cursor.
        if let Some(after) = &self.after {
            SubscriberId::parse(after)
                .map_err(|_| Rejection::invalid("`after` is not a cursor of this list"))?;
        }
        Ok(PageRequest {
            after: self.after,
            limit: page_limit(self.limit.as_ref())?,
        })
    }
}

fn page_limit(limit: Option<&Number>) -> Result<usize, Rejection> {
    let Some(limit) = limit else {
        return Ok(limits::PAGE_DEFAULT);
    };
    let limit = limit.within("limit", 1..=u64::try_from(limits::PAGE).unwrap_or(u64::MAX))?;
    Ok(usize::try_from(limit).unwrap_or(limits::PAGE))
}

/// Returns `attributes` if they are within their limit and every decoder can read their numbers.
pub(crate) fn attributes(json: Option<Json>) -> Result<Option<Json>, Rejection> {
    match json {
        Some(json) if json.as_str().len() > limits::ATTRIBUTES_BYTES => Err(Rejection::new(
            Code::TooLarge,
            "`attributes` must be at most 4 KiB of JSON",
        )),
        Some(json) if !json::has_portable_numbers(json.as_str()) => Err(unportable("attributes")),
        json => Ok(json),
    }
}

fn unportable(name: &'static str) -> Rejection {
    Rejection::invalid(alloc::format!(
        "`{name}` has a number that is not finite as a double or has more than 400 characters"
    ))
}

/// Returns `content` if it is within its limit and every decoder can read its numbers.
pub(crate) fn content(json: Json) -> Result<Json, Rejection> {
    if json.as_str().len() > limits::CONTENT_BYTES {
        return Err(Rejection::new(
            Code::TooLarge,
            "`content` must be at most 16 KiB of JSON",
        ));
    }
    if !json::has_portable_numbers(json.as_str()) {
        return Err(unportable("content"));
    }
    Ok(json)
}

#[cfg(test)]
pub(crate) mod tests {
    use alloc::format;

    use proptest::prelude::*;

    use super::*;

    /// Decodes `text`, and asserts that it is a message.
    pub(crate) fn parsed(text: &str) -> ClientMessage {
        match decode(text) {
            Decoded::Message { message, .. } => *message,
            other => panic!("{text}: {other:?}"),
        }
    }

    /// Decodes `text`, asserts that it is rejected, and returns the code.
    pub(crate) fn rejected(text: &str) -> Code {
        match decode(text) {
            Decoded::Rejected { rejection, .. } => rejection.code,
            other => panic!("{text}: {other:?}"),
        }
    }

    /// Asserts that each text is ignored.
    pub(crate) fn ignored(texts: &[&str]) {
        for text in texts {
            assert_eq!(decode(text), Decoded::Ignored, "{text}");
        }
    }

    #[test]
    fn malformed_message_is_ignored() {
        ignored(&[
            "",
            "hello",
            "[]",
            "null",
            "{}",
            r#"{"type":1}"#,
            r#"{"type":null}"#,
            r#"{"type":"no-such-type"}"#,
            r#"{"type":"Ping"}"#,
            r#"{"type":"ping","id":1}"#,
            r#"{"type":"ping","id":null}"#,
            r#"{"type":"ping"} x"#,
            r#"{"type":"ping"}{"type":"ping"}"#,
            "\u{feff}{\"type\":\"ping\"}",
            r#"{"type":"ping","x":"\ud800"}"#,
            r#"{"type":"ping",}"#,
        ]);
        let long = format!(
            r#"{{"type":"ping","id":"{}"}}"#,
            "x".repeat(limits::REQUEST_ID_BYTES + 1)
        );
        ignored(&[&long]);
        let deep = format!(
            r#"{{"type":"ping","x":{}{}}}"#,
            "[".repeat(64),
            "]".repeat(64)
        );
        ignored(&[&deep]);
    }

    #[test]
    fn decoding_keeps_id_ignores_unknown_fields() {
        for (wire, id) in [
            (r#""""#, ""),
            (r#""é\u0000😀""#, "é\0😀"),
            (r#""0""#, "0"),
            (r#""\ud83d\ude00""#, "😀"),
        ] {
            assert_eq!(
                decode(&format!(r#" {{"x":[null],"type":"ping","id":{wire}}} "#)),
                Decoded::Message {
                    id: Some(id.into()),
                    message: Box::new(ClientMessage::Ping(ping::Ping)),
                }
            );
        }
    }

    #[test]
    fn oversized_message_is_rejected() {
        let padded = |bytes: usize| {
            let frame = r#"{"type":"ping","x":""}"#;
            format!(
                r#"{{"type":"ping","x":"{}"}}"#,
                "y".repeat(bytes - frame.len())
            )
        };
        assert!(matches!(
            decode(&padded(limits::CLIENT_MESSAGE_BYTES)),
            Decoded::Message { .. }
        ));
        assert_eq!(
            rejected(&padded(limits::CLIENT_MESSAGE_BYTES + 1)),
            Code::TooLarge
        );
    }

    #[test]
    fn whole_numbers_parse_in_any_notation() {
        for (text, value) in [
            ("5", Some(5)),
            ("5.0", Some(5)),
            ("5e0", Some(5)),
            ("0.5e1", Some(5)),
            ("-0", Some(0)),
            ("-0.0", Some(0)),
            ("5.5", None),
            ("-1", None),
            ("1e400", None),
            ("9007199254740993.0", None),
        ] {
            assert_eq!(
                Number(text.into()).within("n", 0..=limits::SEQUENCE).ok(),
                value,
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,200}") {
            let _ = decode(&text);
        }

        #[test]
        fn json_like_text_never_panics(text in r#"[\[\]{}":,a-z0-9\\ud.\-eE ]{0,80}"#) {
            let _ = decode(&text);
        }

        #[test]
        fn arbitrary_field_value_never_panics(
            message_type in prop::sample::select(ClientMessage::TYPES),
            field in prop::sample::select(&["channel-id", "subscriber-id", "name", "limit", "after", "before",
                "content", "attributes", "sequence", "status", "active", "positions", "token", "availability"][..]),
            value in prop::sample::select(&["1", "-1", "1.5", "1e99", "\"x\"", "\"\"", "{}", "[]", "null", "true",
                "[{}]", "[{\"channel-id\":\"c\",\"sequence\":1}]"][..]),
        ) {
            let _ = decode(&format!(r#"{{"type":"{message_type}","{field}":{value}}}"#));
        }

        #[test]
        fn valid_message_is_decoded(id in any::<String>()) {
            prop_assume!(id.len() <= limits::REQUEST_ID_BYTES);
            let text = format!(r#"{{"type":"ping","id":{}}}"#, serde_json::to_string(&id).unwrap());
            let answered = matches!(decode(&text), Decoded::Message { id: Some(got), .. } if got == id);
            prop_assert!(answered);
        }
    }
}
