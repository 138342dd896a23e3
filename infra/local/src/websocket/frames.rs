//! The frames and bodies that API Gateway itself writes, byte for byte as captured.
//!
//! Their spacing is peculiar: one space after the first colon and after the commas, none after the later colons.

/// A function failed or answered something unusable.
pub const INTERNAL: &str = "Internal server error";
/// No route matches, or the request is not allowed.
pub const FORBIDDEN: &str = "Forbidden";
/// The integration took longer than 29 seconds.
pub const TIMED_OUT: &str = "Endpoint request timed out";
/// Who the client is was not proven.
pub const UNAUTHORIZED: &str = "Unauthorized";

/// The error frame for a message, sent also on one-way routes; the connection stays open.
#[must_use]
pub fn error(message: &str, connection_id: &str, request_id: &str) -> String {
    format!(
        "{{\"message\": \"{message}\", \"connectionId\":\"{connection_id}\", \"requestId\":\"{request_id}\"}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_frame_has_the_captured_bytes() {
        assert_eq!(
            error(INTERNAL, "Qyi07eCbtjMCJKw=", "Qyi3UG41tjMFlUg="),
            r#"{"message": "Internal server error", "connectionId":"Qyi07eCbtjMCJKw=", "requestId":"Qyi3UG41tjMFlUg="}"#
        );
        assert_eq!(
            error(FORBIDDEN, "XDmENcnwIE0CFEQ=", "XDmGEE2RoE0FRdQ="),
            r#"{"message": "Forbidden", "connectionId":"XDmENcnwIE0CFEQ=", "requestId":"XDmGEE2RoE0FRdQ="}"#
        );
    }
}
