//! Rejections of client messages, and the only table of their codes.

use alloc::borrow::Cow;

use serde::Serialize;

/// The stable code of a rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// A field has a forbidden value.
    InvalidValue,
    /// The target does not exist, or the caller may not know that it exists.
    NotFound,
    /// The caller may see the target but lacks the right for this operation.
    Forbidden,
    /// The request contradicts the stored state.
    Conflict,
    /// The operation would exceed a limit on a number of items.
    LimitExceeded,
    /// A value has more bytes than its limit.
    TooLarge,
    /// The operation would leave the channel without an administrator.
    LastAdministrator,
    /// The token belongs to another subscriber.
    TokenMismatch,
    /// The token is unknown, expired or invalidated.
    TokenInvalid,
    /// The requested events are older than the retention period.
    Gone,
    /// The service cannot do this now. A retry may succeed.
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

    /// Returns the HTTP status with which the back-end API answers.
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

/// The rejection of a well-formed message. The message changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
#[error("{reason}")]
pub struct Rejection {
    pub code: Code,
    /// One short sentence for the developer of the client.
    pub reason: Cow<'static, str>,
    /// Seconds after which a retry makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
}

impl Rejection {
    /// Returns a rejection without `retry_after`.
    #[must_use]
    pub fn new(code: Code, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            reason: reason.into(),
            retry_after: None,
        }
    }

    /// Returns an `invalid-value` rejection.
    #[must_use]
    pub fn invalid(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidValue, reason)
    }

    /// Returns the `not-found` rejection for a channel. It does not reveal if the channel exists.
    #[must_use]
    pub fn no_channel() -> Self {
        Self::new(Code::NotFound, "there is no such channel that you may see")
    }

    /// Returns an `unavailable` rejection that asks for a retry after one second.
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
    fn codes_serialize_in_kebab_case() {
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
    fn only_busy_has_retry_after() {
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
