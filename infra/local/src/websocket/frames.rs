//! The frames and bodies that API Gateway itself writes, byte for byte as captured.
//!
//! The spacing is as captured: one space after the first colon and after the commas, none after the later colons.

/// A function failed or returned an invalid response.
pub const INTERNAL: &str = "Internal server error";
/// No route matches the request, or the request is not allowed.
pub const FORBIDDEN: &str = "Forbidden";
/// The integration took longer than 29 seconds.
pub const TIMED_OUT: &str = "Endpoint request timed out";
/// The client did not prove its identity.
pub const UNAUTHORIZED: &str = "Unauthorized";

/// Returns the error frame for a message. It is sent on one-way routes too, and the connection stays open.
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
    fn error_frame_has_captured_bytes() {
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
