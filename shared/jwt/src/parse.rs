//! The three parts of a token (RFC 7515, 3.1), parsed before the signature is verified.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

/// The maximum length of a token in bytes. All headers of a request together may have 10,240 bytes
/// (docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-known-issues.html, 2026-08).
const TOKEN_BYTES: usize = 8 * 1024;

/// A token whose signature has not been verified.
#[derive(Debug)]
pub(crate) struct Parsed<'a> {
    pub(crate) header: Header,
    /// The text that was signed, byte for byte.
    pub(crate) signed: &'a str,
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

/// The parts of the header that are used.
#[derive(Debug, Deserialize)]
pub(crate) struct Header {
    pub(crate) alg: String,
    #[serde(default)]
    pub(crate) kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

/// Returns the signed text of a token if the token has the shape of a JSON Web Token: three parts of base64url.
pub(crate) fn signed_part(token: &str) -> Option<&str> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let is_part = |part: &str| {
        part.bytes()
            .all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'_')
    };
    // An unsecured token has an empty signature. It counts as a signed token, so that it is refused later.
    let shaped = !header.is_empty() && [header, payload, signature].into_iter().all(is_part);
    shaped.then_some(signed)
}

impl<'a> Parsed<'a> {
    /// Parses a token. Returns `None` if it is too long, malformed, or of a kind that authorises nothing.
    pub(crate) fn read(token: &'a str) -> Option<Self> {
        if token.len() > TOKEN_BYTES {
            return None;
        }
        let signed = signed_part(token)?;
        let signature = token.get(signed.len() + 1..)?;
        let (header, payload) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
        // `crit` lists extensions that must be understood (RFC 7515, 4.1.11). None is supported.
        if header.crit.is_some() || !header.is_bearer_token() {
            return None;
        }
        Some(Self {
            header,
            signed,
            payload: decode(payload)?,
            signature: decode(signature)?,
        })
    }
}

impl Header {
    /// Returns true if `typ` is absent, or is the type of a bearer token. Issuers sign other things with the same keys, such
    /// as logout tokens, and mark them by `typ` (RFC 8725, 3.11).
    fn is_bearer_token(&self) -> bool {
        let Some(kind) = &self.typ else { return true };
        let kind = kind.to_ascii_lowercase();
        let kind = kind.strip_prefix("application/").unwrap_or(&kind);
        matches!(kind, "jwt" | "at+jwt")
    }
}

/// Decodes base64url without padding. Unused bits must be zero, so each value has only one text.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_token_has_three_base64url_parts() {
        for shaped in ["a.b.c", "eyJ.e30.", "a..c", "A-_9.b.c"] {
            assert!(signed_part(shaped).is_some(), "{shaped}");
        }
        for other in [
            "", "abc", "a.b", "a.b.c.d", ".b.c", "a.b.c=", "a.b+.c", "a b.c.d", "ü.b.c",
        ] {
            assert!(signed_part(other).is_none(), "{other}");
        }
        assert_eq!(signed_part("a.b.c"), Some("a.b"));
    }

    #[test]
    fn unsupported_header_is_refused() {
        let read = |header: &str| {
            let token = format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(header));
            Parsed::read(&token).is_some()
        };
        for good in [
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"RS256","typ":"JWT"}"#,
            r#"{"alg":"RS256","typ":"application/AT+jwt","kid":"1","x5t":"y"}"#,
        ] {
            assert!(read(good), "{good}");
        }
        for bad in [
            "{}",
            "[]",
            "",
            r#"{"alg":1}"#,
            r#"{"alg":"RS256","alg":"RS256"}"#,
            r#"{"alg":"RS256","kid":1}"#,
            r#"{"alg":"RS256","typ":"logout+jwt"}"#,
            r#"{"alg":"RS256","crit":["b64"],"b64":false}"#,
        ] {
            assert!(!read(bad), "{bad}");
        }
    }

    #[test]
    fn non_canonical_base64url_is_refused() {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#);
        assert!(Parsed::read(&format!("{header}.e30.AA")).is_some());
        assert!(Parsed::read(&format!("{header}.e30.AB")).is_none());
        assert!(Parsed::read(&format!("{header}.e31.AA")).is_none());
    }
}
