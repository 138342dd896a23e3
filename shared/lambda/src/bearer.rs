//! Where a client sends its bearer token, and the subprotocol that the service selects.

use std::collections::BTreeMap;

/// The subprotocol that the service selects if the client offers it.
const SUBPROTOCOL: &str = "messaging.v1";
/// The prefix of a subprotocol offer that carries a token.
const BEARER_OFFER: &str = "bearer.";

/// A bearer token as the client sent it. It has no `Debug` output, so that it is never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Bearer(String);

impl Bearer {
    fn new(token: &str) -> Option<Self> {
        (!token.is_empty()).then(|| Self(token.to_owned()))
    }

    /// Returns the token's text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Request headers. Their names come in any case.
pub(crate) type Headers = BTreeMap<String, String>;

/// Returns the header `name`, whose case is ignored.
pub(crate) fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

/// Returns the token from the `Authorization` header or the `access_token` parameter, in this order.
pub(crate) fn bearer(headers: &Headers, query: &BTreeMap<String, String>) -> Option<Bearer> {
    let header = header(headers, "authorization").and_then(|value| {
        let (scheme, token) = value.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let parameter = query.get("access_token").map(String::as_str);
    header.or(parameter).and_then(Bearer::new)
}

/// Returns the token from a subprotocol offer.
pub(crate) fn offered_bearer(headers: &Headers) -> Option<Bearer> {
    offers(headers)
        .find_map(|offer| offer.strip_prefix(BEARER_OFFER))
        .and_then(Bearer::new)
}

/// Returns the service's subprotocol if the client offers it.
pub(crate) fn subprotocol(headers: &Headers) -> Option<&'static str> {
    offers(headers)
        .any(|offer| offer == SUBPROTOCOL)
        .then_some(SUBPROTOCOL)
}

fn offers(headers: &Headers) -> impl Iterator<Item = &str> {
    header(headers, "sec-websocket-protocol")
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
}
