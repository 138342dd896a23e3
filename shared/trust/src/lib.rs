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
    /// For an endpoint; without one it is AWS's for that region.
    #[must_use]
    pub fn of(endpoint: Option<&str>, region: &str) -> Self {
        let Some(endpoint) = endpoint else {
            return if region.starts_with("cn-") {
                Self::System
            } else {
                Self::Amazon
            };
        };
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
        for (endpoint, region, trust) in [
            (None, "us-east-1", Trust::Amazon),
            (None, "us-gov-west-1", Trust::Amazon),
            (None, "cn-north-1", Trust::System),
            (
                Some("https://a1.execute-api.eu-west-1.amazonaws.com/live"),
                "eu-west-1",
                Trust::Amazon,
            ),
            (
                Some("https://lambda.us-east-1.amazonaws.com:443"),
                "us-east-1",
                Trust::Amazon,
            ),
            (
                Some("https://a1.execute-api.cn-north-1.amazonaws.com.cn/live"),
                "cn-north-1",
                Trust::System,
            ),
            (
                Some("https://localhost.localstack.cloud:4566"),
                "us-east-1",
                Trust::System,
            ),
            (
                Some("https://evil.example/.amazonaws.com"),
                "us-east-1",
                Trust::System,
            ),
            (Some("http://127.0.0.1:8000"), "us-east-1", Trust::Plain),
        ] {
            assert_eq!(Trust::of(endpoint, region), trust, "{endpoint:?}");
        }
    }

    #[test]
    fn there_are_five_roots() {
        let pem = core::str::from_utf8(AMAZON_ROOTS).unwrap();
        assert_eq!(pem.matches("BEGIN CERTIFICATE").count(), 5);
    }
}
