//! The issuer whose tokens are accepted, read from the environment.

use core::net::IpAddr;

use http::Uri;
use protocol::Domain;

/// The maximum length of an issuer's name in bytes. The name is part of a key in the table.
const ISSUER_BYTES: usize = 512;
/// The longest life of a token in seconds, if it is not configured: a day.
const MAX_SECONDS: i64 = 24 * 60 * 60;
/// The values that the longest life may have. 30 days is the limit of opaque tokens too.
const MAX_SECONDS_RANGE: core::ops::RangeInclusive<i64> = 60..=30 * 24 * 60 * 60;

/// The one issuer whose tokens are accepted.
///
/// | variable | meaning |
/// |---|---|
/// | `JWT_ISSUER` | the required `iss` |
/// | `JWT_AUDIENCE` | the required `aud`, or an item of its list |
/// | `JWT_JWKS_URL` | the URL of the issuer's keys, `https://` unless it is on loopback |
/// | `JWT_DOMAIN_CLAIM` | the claim that names the domain, `domain` if empty |
/// | `JWT_DOMAINS` | the domains that tokens may name, separated by commas, any if empty |
/// | `JWT_MAX_SECONDS` | the longest life of a token, 86400 if empty |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) keys: Uri,
    pub(crate) domain_claim: String,
    /// The domains that tokens may name. `None` means any.
    pub(crate) domains: Option<Vec<Domain>>,
    /// The longest life of a token in seconds.
    pub(crate) max_seconds: i64,
}

/// An error in the settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error(
        "{0} is not set: set all of JWT_ISSUER, JWT_AUDIENCE and JWT_JWKS_URL, or none to accept no signed tokens"
    )]
    Missing(&'static str),
    /// The issuer cannot be part of a key in the table.
    #[error("JWT_ISSUER contains `#`, or is longer than 512 bytes")]
    Issuer,
    #[error("JWT_JWKS_URL is not an https:// URL (http:// is allowed only on loopback)")]
    Address,
    #[error("JWT_DOMAINS is not a list of domains, separated by commas and without spaces")]
    Domains,
    #[error("JWT_MAX_SECONDS is not a number from 60 to 2592000")]
    MaxSeconds,
    #[error("cannot read the root certificates: {0}")]
    Certificates(#[from] std::io::Error),
}

impl Settings {
    /// Reads the settings from the environment. Returns `None` if no issuer is configured.
    ///
    /// # Errors
    /// [`SettingsError`]
    pub fn from_env() -> Result<Option<Self>, SettingsError> {
        Self::read(|name| std::env::var(name).ok())
    }

    /// Reads the settings from the variables that `variable` returns. Returns `None` if no issuer is configured.
    ///
    /// # Errors
    /// [`SettingsError`]
    pub fn read(
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Option<Self>, SettingsError> {
        let given = |name| variable(name).filter(|it| !it.is_empty()).ok_or(name);
        let all = [
            given("JWT_ISSUER"),
            given("JWT_AUDIENCE"),
            given("JWT_JWKS_URL"),
        ];
        if all.iter().all(Result::is_err) {
            return Ok(None);
        }
        let [issuer, audience, keys] = all.map(|it| it.map_err(SettingsError::Missing));
        let (issuer, audience, keys) = (issuer?, audience?, keys?);
        if issuer.contains('#') || issuer.len() > ISSUER_BYTES {
            return Err(SettingsError::Issuer);
        }
        let keys: Uri = keys.parse().map_err(|_| SettingsError::Address)?;
        let secure = match keys.scheme_str() {
            Some("https") => true,
            Some("http") => keys.host().is_some_and(is_loopback),
            _ => false,
        };
        if !secure {
            return Err(SettingsError::Address);
        }
        let domain_claim = given("JWT_DOMAIN_CLAIM").unwrap_or_else(|_| "domain".to_owned());
        let domains = match given("JWT_DOMAINS") {
            Ok(text) => Some(
                text.split(',')
                    .map(Domain::parse)
                    .collect::<Result<_, _>>()
                    .map_err(|_| SettingsError::Domains)?,
            ),
            Err(_) => None,
        };
        let max_seconds = match given("JWT_MAX_SECONDS") {
            Ok(text) => text
                .parse()
                .ok()
                .filter(|it| MAX_SECONDS_RANGE.contains(it))
                .ok_or(SettingsError::MaxSeconds)?,
            Err(_) => MAX_SECONDS,
        };
        Ok(Some(Self {
            issuer,
            audience,
            keys,
            domain_claim,
            domains,
            max_seconds,
        }))
    }

    /// Returns true if tokens may name this domain.
    pub(crate) fn speaks_for(&self, domain: &Domain) -> bool {
        self.domains
            .as_ref()
            .is_none_or(|domains| domains.contains(domain))
    }

    /// Returns true if the keys are fetched without TLS.
    pub(crate) fn is_plain(&self) -> bool {
        self.keys.scheme_str() == Some("http")
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|it: IpAddr| it.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        issuer: &str,
        audience: &str,
        keys: &str,
        domain: &str,
    ) -> Result<Option<Settings>, SettingsError> {
        Settings::read(|name| {
            let value = match name {
                "JWT_ISSUER" => issuer,
                "JWT_AUDIENCE" => audience,
                "JWT_JWKS_URL" => keys,
                "JWT_DOMAIN_CLAIM" => domain,
                _ => "",
            };
            Some(value.to_owned())
        })
    }

    #[test]
    fn incomplete_settings_are_refused() {
        assert!(read("", "", "", "").unwrap().is_none());
        assert!(read("", "", "", "tenant").unwrap().is_none());
        assert!(Settings::read(|_| None).unwrap().is_none());
        for (issuer, audience, keys) in [
            ("", "a", "https://h/k"),
            ("i", "", "https://h/k"),
            ("i", "a", ""),
        ] {
            let refused = read(issuer, audience, keys, "");
            assert!(matches!(refused, Err(SettingsError::Missing(_))));
        }
        let on = read("i", "a", "https://h/k", "").unwrap().unwrap();
        assert_eq!(on.domain_claim, "domain");
        let on = read("i", "a", "https://h/k", "tenant").unwrap().unwrap();
        assert_eq!(on.domain_claim, "tenant");
        let long = "i".repeat(ISSUER_BYTES + 1);
        for issuer in ["i#", &long] {
            let refused = read(issuer, "a", "https://h/k", "");
            assert!(matches!(refused, Err(SettingsError::Issuer)));
        }
    }

    /// Reads complete settings with one more variable.
    fn read_with(name: &'static str, value: &str) -> Result<Settings, SettingsError> {
        let settings = Settings::read(|variable| {
            let value = match variable {
                "JWT_JWKS_URL" => "https://h/k",
                _ if variable == name => value,
                "JWT_ISSUER" | "JWT_AUDIENCE" => "a",
                _ => return None,
            };
            Some(value.to_owned())
        });
        settings.map(Option::unwrap)
    }

    #[test]
    fn maximum_life_is_a_day_by_default() {
        for (text, seconds) in [
            ("", 86_400),
            ("60", 60),
            ("3600", 3_600),
            ("2592000", 2_592_000),
        ] {
            let settings = read_with("JWT_MAX_SECONDS", text).unwrap();
            assert_eq!(settings.max_seconds, seconds, "{text}");
        }
        for bad in ["0", "59", "2592001", "-1", "1h", "86400.0"] {
            let refused = read_with("JWT_MAX_SECONDS", bad);
            assert!(matches!(refused, Err(SettingsError::MaxSeconds)), "{bad}");
        }
    }

    #[test]
    fn issuer_speaks_for_listed_domains() {
        let domain = |text| Domain::parse(text).unwrap();
        let any = read_with("JWT_DOMAINS", "").unwrap();
        assert!(any.speaks_for(&domain("a")));
        let listed = read_with("JWT_DOMAINS", "a,b:c").unwrap();
        for text in ["a", "b:c"] {
            assert!(listed.speaks_for(&domain(text)));
        }
        for text in ["A", "b", "c", "a.b"] {
            assert!(!listed.speaks_for(&domain(text)));
        }
        for bad in [",", "a,", "a, b", "a,,b", "a#b", "*"] {
            let refused = read_with("JWT_DOMAINS", bad);
            assert!(matches!(refused, Err(SettingsError::Domains)), "{bad}");
        }
    }

    #[test]
    fn plain_http_needs_loopback() {
        for good in [
            "https://idp.example/keys",
            "http://127.0.0.1:80/k",
            "http://[::1]:1/k",
            "http://localhost/k",
        ] {
            assert!(read("i", "a", good, "").is_ok(), "{good}");
        }
        for bad in [
            "http://idp.example/keys",
            "http://127.0.0.1.idp.example/",
            "http://localhost.idp.example/",
            "file:///etc/keys",
            "/keys",
            "idp.example",
        ] {
            assert!(
                matches!(read("i", "a", bad, ""), Err(SettingsError::Address)),
                "{bad}"
            );
        }
    }
}
