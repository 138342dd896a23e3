//! Whose word a client takes for who is at the other end of a connection.
//!
//! AWS's own endpoints have certificates of Amazon's five roots, and AWS asks clients to trust all of these
//! (www.amazontrust.com/repository, 2026-11). Reading the system's 140 instead, once for each client, would be most of a
//! function's start.

/// Amazon's roots: Amazon Root CA 1 to 4, and Starfield Services Root Certificate Authority - G2. PEM; the first of them to
/// end does so in December 2037.
pub const AMAZON_ROOTS: &[u8] = include_bytes!("amazon.pem");

/// Whom a client trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Nobody: an `http://` endpoint, on the developer's own machine, is spoken to in plain text.
    Plain,
    /// [`AMAZON_ROOTS`].
    Amazon,
    /// The system's roots: the endpoint is somebody else's, such as an emulator's, or in a partition of AWS of which
    /// nothing is known.
    System,
}

impl Trust {
    /// For an endpoint.
    #[must_use]
    pub fn of(endpoint: &str) -> Self {
        if endpoint.starts_with("http://") {
            return Self::Plain;
        }
        let rest = endpoint.strip_prefix("https://").unwrap_or(endpoint);
        let host = rest.split(['/', ':', '?']).next().unwrap_or(rest);
        if host.ends_with(".amazonaws.com") {
            Self::Amazon
        } else {
            Self::System
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amazon_s_endpoints_are_trusted_by_amazon_s_roots_and_others_by_the_system_s() {
        for (endpoint, trust) in [
            (
                "https://a1.execute-api.eu-west-1.amazonaws.com/live",
                Trust::Amazon,
            ),
            ("https://lambda.us-east-1.amazonaws.com:443", Trust::Amazon),
            (
                "https://dynamodb.us-gov-west-1.amazonaws.com",
                Trust::Amazon,
            ),
            (
                "https://a1.execute-api.cn-north-1.amazonaws.com.cn/live",
                Trust::System,
            ),
            ("https://localhost.localstack.cloud:4566", Trust::System),
            ("https://evil.example/.amazonaws.com", Trust::System),
            ("http://127.0.0.1:8000", Trust::Plain),
        ] {
            assert_eq!(Trust::of(endpoint), trust, "{endpoint}");
        }
    }

    #[test]
    fn there_are_five_roots() {
        let pem = core::str::from_utf8(AMAZON_ROOTS).unwrap();
        assert_eq!(pem.matches("BEGIN CERTIFICATE").count(), 5);
    }
}
