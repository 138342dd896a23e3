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
    /// Parses a token. Its characters are those of RFC 6750, section 2.1. A comma is none of them, so values that were joined
    /// with commas are no token.
    fn new(token: &str) -> Option<Self> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        (!token.is_empty() && token.bytes().all(is_token)).then(|| Self(token.to_owned()))
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

/// Returns the token of a request if the request has exactly one, in one place.
///
/// A request must not transmit a token in more than one way (RFC 6750, section 2), and of two tokens it is unclear which one
/// counts. So a place counts as soon as it is used: an `Authorization` header of another scheme beside a good parameter is
/// refused too. `offered` are the values of the subprotocol header.
pub(crate) fn bearer<'a>(
    authorization: impl IntoIterator<Item = &'a str>,
    parameters: impl IntoIterator<Item = &'a str>,
    offered: impl IntoIterator<Item = &'a str>,
) -> Option<Bearer> {
    let offers = offered.into_iter().flat_map(|value| value.split(','));
    let mut places = authorization
        .into_iter()
        .map(|value| {
            let (scheme, token) = value.trim().split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        })
        .chain(parameters.into_iter().map(Some))
        .chain(offers.filter_map(|offer| offer.trim().strip_prefix(BEARER_OFFER).map(Some)));
    let token = places.next()??;
    places.next().is_none().then(|| Bearer::new(token))?
}

/// Returns all values of the header `name`, whose case is ignored. API Gateway passes only the last one on in `single`.
pub(crate) fn every_header<'a>(
    single: &'a Headers,
    multiple: &'a BTreeMap<String, Vec<String>>,
    name: &str,
) -> Vec<&'a str> {
    let all: Vec<&str> = multiple
        .iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .flat_map(|(_, values)| values)
        .map(String::as_str)
        .collect();
    if !all.is_empty() {
        return all;
    }
    single
        .iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
        .collect()
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
