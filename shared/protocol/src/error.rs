//! What a client did wrong, in the one table of codes.

use alloc::borrow::Cow;

use serde::Serialize;

/// The stable code of a rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// A field's value is none that it may have.
    InvalidValue,
    /// There is no such thing, or the caller may not know of it.
    NotFound,
    /// The caller sees it and may not do this to it.
    Forbidden,
    /// It contradicts what is there.
    Conflict,
    /// One more would be too many.
    LimitExceeded,
    /// More bytes than the limit.
    TooLarge,
    /// A channel keeps an administrator.
    LastAdministrator,
    /// The token is of another subscriber.
    TokenMismatch,
    /// The token is unknown, expired or invalidated.
    TokenInvalid,
    /// It lies before what is retained.
    Gone,
    /// It cannot be done now; trying again may help.
    Unavailable,
}

impl Code {
    /// Every code, for documents and tests.
    pub const ALL: [Self; 11] = [
        Self::InvalidValue,
        Self::NotFound,
        Self::Forbidden,
        Self::Conflict,
        Self::LimitExceeded,
        Self::TooLarge,
        Self::LastAdministrator,
        Self::TokenMismatch,
        Self::TokenInvalid,
        Self::Gone,
        Self::Unavailable,
    ];

    /// The HTTP status that the back-end API answers it with.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidValue => 400,
            Self::TokenMismatch | Self::TokenInvalid => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict | Self::LimitExceeded | Self::LastAdministrator => 409,
            Self::Gone => 410,
            Self::TooLarge => 413,
            Self::Unavailable => 503,
        }
    }
}

/// A well-formed message that cannot be honoured. It changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
#[error("{reason}")]
pub struct Rejection {
    /// What kind.
    pub code: Code,
    /// One short sentence for the developer of the client.
    pub reason: Cow<'static, str>,
    /// Seconds after which trying again makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
}

impl Rejection {
    /// A rejection with a reason.
    #[must_use]
    pub fn new(code: Code, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            reason: reason.into(),
            retry_after: None,
        }
    }

    /// `invalid-value`.
    #[must_use]
    pub fn invalid(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidValue, reason)
    }

    /// `not-found` for a channel: the same words whether it does not exist or may not be seen.
    #[must_use]
    pub fn no_channel() -> Self {
        Self::new(Code::NotFound, "there is no such channel that you may see")
    }

    /// `unavailable` for what may succeed in a moment.
    #[must_use]
    pub fn busy() -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(Code::Unavailable, "the service is busy, try again")
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    #[test]
    fn every_code_has_its_name_on_the_wire() {
        let names: alloc::vec::Vec<String> = Code::ALL
            .iter()
            .map(|code| serde_json::to_string(code).unwrap())
            .collect();
        assert_eq!(
            names.join(" "),
            r#""invalid-value" "not-found" "forbidden" "conflict" "limit-exceeded" "too-large" "last-administrator" "token-mismatch" "token-invalid" "gone" "unavailable""#
        );
    }

    #[test]
    fn retry_after_is_absent_where_it_makes_no_sense() {
        assert_eq!(
            serde_json::to_string(&Rejection::no_channel()).unwrap(),
            r#"{"code":"not-found","reason":"there is no such channel that you may see"}"#
        );
        assert!(
            serde_json::to_string(&Rejection::busy())
                .unwrap()
                .ends_with(r#""retry-after":1}"#)
        );
    }
}
