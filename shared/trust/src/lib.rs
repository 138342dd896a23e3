//! Which root certificates a TLS client trusts.
//!
//! AWS's own endpoints have certificates of Amazon's five roots, and AWS asks clients to trust all of them
//! (www.amazontrust.com/repository, 2026-11). Reading the system's 140 roots for each client would take most of a function's
//! start.

/// Amazon's roots in PEM: Amazon Root CA 1 to 4, and Starfield Services Root Certificate Authority - G2. The first of them
/// expires in December 2037.
pub const AMAZON_ROOTS: &[u8] = include_bytes!("amazon.pem");

/// The root certificates that a client trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// None. The endpoint is `http://`, on the developer's machine, and the client uses plain text.
    Plain,
    /// [`AMAZON_ROOTS`]
    Amazon,
    /// The system's roots. The endpoint is not AWS's own, such as that of an emulator, or is in an unknown partition of AWS.
    System,
}

impl Trust {
    /// Returns the trust for an endpoint.
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
    fn endpoint_decides_trust() {
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
    fn amazon_has_five_roots() {
        let pem = core::str::from_utf8(AMAZON_ROOTS).unwrap();
        assert_eq!(pem.matches("BEGIN CERTIFICATE").count(), 5);
    }
}
