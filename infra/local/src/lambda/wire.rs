//! What Lambda's APIs have in common: request ids and error objects.

use bytes::Bytes;

/// Returns a new request id: a random UUID, like Lambda's.
pub(crate) fn request_id() -> String {
    uuid::Builder::from_random_bytes(rand::random())
        .into_uuid()
        .to_string()
}

/// Returns the error object that Lambda sends if a function did not answer.
pub(super) fn error_json(error_type: &str, message: &str) -> Bytes {
    serde_json::json!({ "errorType": error_type, "errorMessage": message })
        .to_string()
        .into()
}
