//! The origins whose pages may use the service from a browser.

use std::env;

/// The allowed origins. A request without an `Origin` header does not come from a page and is always allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins {
    all: bool,
    listed: Vec<String>,
}

impl Origins {
    /// Reads `ALLOWED_ORIGINS`: `*`, or origins separated by commas. If it is empty, no origin is allowed. All origins are
    /// allowed if `CONNECTIONS_ENDPOINT` is an `http:` URL, which is the case only on a developer's machine.
    #[must_use]
    pub fn from_env() -> Self {
        let variable = |name| env::var(name).unwrap_or_default();
        let local = variable("CONNECTIONS_ENDPOINT").starts_with("http://");
        let mut origins = Self::parse(&variable("ALLOWED_ORIGINS"));
        origins.all |= local;
        origins
    }

    /// Parses `*` or a comma-separated list of origins.
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

    /// Returns true if a request with this `Origin` header is allowed.
    #[must_use]
    pub fn allow(&self, origin: Option<&str>) -> bool {
        self.all || origin.is_none_or(|origin| self.listed.iter().any(|it| it == origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_origins_are_allowed() {
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
