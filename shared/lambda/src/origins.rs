//! Which pages may use the service from a browser.

use std::env;

/// The origins that are let in. A request without an `Origin` is no page's and always is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins {
    all: bool,
    listed: Vec<String>,
}

impl Origins {
    /// From `ALLOWED_ORIGINS`: `*`, or origins separated by commas; none if it is empty. Where `CONNECTIONS_ENDPOINT` is
    /// spoken to in plain text, on the developer's own machine, all are let in.
    #[must_use]
    pub fn from_env() -> Self {
        let variable = |name| env::var(name).unwrap_or_default();
        let local = variable("CONNECTIONS_ENDPOINT").starts_with("http://");
        let mut origins = Self::parse(&variable("ALLOWED_ORIGINS"));
        origins.all |= local;
        origins
    }

    /// From a list.
    #[must_use]
    pub fn parse(list: &str) -> Self {
        let listed: Vec<String> = list
            .split(',')
            .map(str::trim)
            .filter(|it| !it.is_empty())
            .map(str::to_owned)
            .collect();
        Self {
            all: listed.iter().any(|it| it == "*"),
            listed,
        }
    }

    /// Whether a request with this `Origin` is let in.
    #[must_use]
    pub fn allow(&self, origin: Option<&str>) -> bool {
        self.all || origin.is_none_or(|origin| self.listed.iter().any(|it| it == origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_let_in_if_its_origin_is_listed() {
        let two = Origins::parse(" https://a.example , https://b.example:8443,");
        for (origin, allowed) in [
            (None, true),
            (Some("https://a.example"), true),
            (Some("https://b.example:8443"), true),
            (Some("https://b.example"), false),
            (Some("null"), false),
        ] {
            assert_eq!(two.allow(origin), allowed, "{origin:?}");
        }
        assert!(Origins::parse("*").allow(Some("null")));
        assert!(!Origins::parse("").allow(Some("https://a.example")));
    }
}
