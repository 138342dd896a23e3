//! Errors as RFC 9457 problem documents.

use protocol::{Code, Rejection};
use serde_json::{Value, json};
use service::ports::Fault;

/// The value of `retry-after`, in seconds.
const RETRY_AFTER: &str = "1";

/// An error response.
#[derive(Debug)]
pub(crate) struct Problem {
    status: u16,
    code: &'static str,
    detail: String,
    allow: Option<&'static str>,
}

impl Problem {
    /// 400: the request is invalid.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(400, "invalid-value", detail)
    }

    /// 404: the resource does not exist.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, "not-found", detail)
    }

    /// 405: the path exists but does not allow the method.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::new(
                405,
                "method-not-allowed",
                format!("allowed methods: {allow}"),
            )
        }
    }

    fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            allow: None,
        }
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let code = match rejection.code {
            Code::InvalidValue => "invalid-value",
            Code::NotFound => "not-found",
            Code::Forbidden => "forbidden",
            Code::Conflict => "conflict",
            Code::LimitExceeded => "limit-exceeded",
            Code::TooLarge => "too-large",
            Code::LastAdministrator => "last-administrator",
            Code::TokenMismatch => "token-mismatch",
            Code::TokenInvalid => "token-invalid",
            Code::Gone => "gone",
            Code::Unavailable => "unavailable",
        };
        Self::new(rejection.code.status(), code, rejection.reason)
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        // The log gets the cause. The caller only needs to know that a retry may succeed.
        tracing::error!(%fault, "request failed");
        Self::new(503, "unavailable", "the service is busy, try again")
    }
}

impl From<Problem> for Value {
    fn from(problem: Problem) -> Self {
        let title = match problem.status {
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            409 => "Conflict",
            410 => "Gone",
            413 => "Content Too Large",
            _ => "Service Unavailable",
        };
        let body = json!({
            "type": "about:blank",
            "title": title,
            "status": problem.status,
            "code": problem.code,
            "detail": problem.detail,
        });
        let mut headers =
            json!({"content-type": "application/problem+json", "cache-control": "no-store"});
        if let Some(headers) = headers.as_object_mut() {
            if let Some(allow) = problem.allow {
                headers.insert("allow".to_owned(), allow.into());
            }
            if problem.status == 503 {
                headers.insert("retry-after".to_owned(), RETRY_AFTER.into());
            }
        }
        json!({"statusCode": problem.status, "headers": headers, "body": body.to_string()})
    }
}
