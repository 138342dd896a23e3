//! Which `Host` and `Origin` headers may use the listeners. The gateway is open to this machine, so the pages that a
//! browser shows must not be able to use it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The header in which a browser says where a request comes from.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The rules of the public port. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Guard {
    loopback: bool,
    hosts: Arc<[String]>,
    origins: Arc<[HeaderValue]>,
}

/// Why the public port refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The `Host` header is a name that may belong to another site.
    #[error(
        "This address does not answer requests for this host. Allow its name with --allow-host."
    )]
    Host,
    /// The request comes from a page that is not the gateway's own.
    #[error(
        "Pages of other origins may not use this API, because it needs no credentials. Allow an origin with --allow-origin."
    )]
    Origin,
}

impl Guard {
    /// Creates the rules of a public port at `address`. `hosts` and `origins` are allowed in addition to its own.
    #[must_use]
    pub fn new(address: IpAddr, hosts: &[String], origins: &[HeaderValue]) -> Self {
        Self {
            loopback: address.is_loopback(),
            hosts: hosts.into(),
            origins: origins.into(),
        }
    }

    /// Checks the `Host` of a request. A page of another site can reach the gateway under a name of its own (DNS
    /// rebinding), but not under an address.
    ///
    /// # Errors
    /// Fails unless `Host` is a loopback name or address, an allowed name, or, beyond loopback, any address.
    pub fn check_host(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = text(headers, &header::HOST).ok_or(Refusal::Host)?;
        let name = name_of(host);
        let is_allowed = is_loopback_authority(host)
            || (!self.loopback && address(name).is_some())
            || self.hosts.iter().any(|it| it.eq_ignore_ascii_case(name));
        is_allowed.then_some(()).ok_or(Refusal::Host)
    }

    /// Checks the `Origin` of a request to the HTTP API. Returns the origin if it is one of the allowed ones, which needs
    /// CORS headers in the response.
    ///
    /// # Errors
    /// Fails if a page sent the request that is neither the gateway's own nor of an allowed origin.
    pub fn check_origin(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Refusal> {
        let Some(origin) = headers.get(header::ORIGIN) else {
            // A browser sends no `Origin` for an image or a link, but says that another site caused the request.
            return match is_from_another_site(headers) {
                true => Err(Refusal::Origin),
                false => Ok(None),
            };
        };
        if let Some(allowed) = self.origins.iter().find(|it| *it == origin) {
            return Ok(Some(allowed.clone()));
        }
        let authority = origin.to_str().ok().and_then(|it| it.split_once("://"));
        let host = text(headers, &header::HOST);
        match (authority, host) {
            (Some(("http" | "https", authority)), Some(host))
                if authority.eq_ignore_ascii_case(host) =>
            {
                Ok(None)
            }
            _ => Err(Refusal::Origin),
        }
    }
}

/// Returns true if `Host` or `Origin` occurs several times. Two parts of a program could then believe different ones.
pub(crate) fn is_ambiguous(headers: &HeaderMap) -> bool {
    [header::HOST, header::ORIGIN]
        .iter()
        .any(|name| headers.get_all(name).iter().nth(1).is_some())
}

/// Returns true if a page of another site may have sent this request through a name that resolves to this machine (DNS
/// rebinding). Used on listeners of which only loopback names are legitimate.
pub(crate) fn is_rebound(headers: &HeaderMap) -> bool {
    is_ambiguous(headers) || !text(headers, &header::HOST).is_some_and(is_loopback_authority)
}

/// Returns true if a web page may have sent this request. SDKs and functions send no `Origin` and no other host. A
/// browser says `none` for an address that its user typed.
pub(crate) fn is_from_a_page(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN)
        || headers.get(FETCH_SITE).is_some_and(|site| site != "none")
        || is_rebound(headers)
}

/// Returns true if the browser says that a page of another origin caused this request.
pub(crate) fn is_from_another_site(headers: &HeaderMap) -> bool {
    let site = headers.get(FETCH_SITE);
    site.is_some_and(|site| site != "none" && site != "same-origin")
}

/// Returns true if `authority` (a `Host` header, or an origin without its scheme) names this machine.
fn is_loopback_authority(authority: &str) -> bool {
    let name = name_of(authority);
    // Any loopback address is safe. DNS rebinding needs a name.
    address(name).is_some_and(|it| it.is_loopback()) || name.eq_ignore_ascii_case("localhost")
}

/// Returns an authority without its port.
fn name_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    }
}

/// Returns the address that a host is, or `None` if the host is a name.
fn address(name: &str) -> Option<IpAddr> {
    let bracketed = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    match bracketed {
        Some(address) => address.parse().ok().map(|it: Ipv6Addr| it.into()),
        None => name.parse().ok().map(|it: Ipv4Addr| it.into()),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn guard(address: IpAddr) -> Guard {
        let origin = HeaderValue::from_static("http://localhost:3000");
        Guard::new(address, &["Dev.example".to_owned()], &[origin])
    }

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const EVERYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    #[test]
    fn only_local_names_are_loopback() {
        for yes in [
            "localhost",
            "localhost:8080",
            "127.0.0.1:1",
            "127.0.0.2:8080",
            "127.1.2.3",
            "[::1]:8080",
            "[::1]",
            "LOCALHOST",
        ] {
            assert!(is_loopback_authority(yes), "{yes}");
        }
        for no in [
            "example.com",
            "localhost.example.com:8080",
            "127.0.0.1.example.com",
            "",
            "10.0.0.1",
            "127.0.0.2.example.com:8080",
            "[::2]:8080",
            "[127.0.0.1]",
        ] {
            assert!(!is_loopback_authority(no), "{no}");
        }
        assert!(is_rebound(&HeaderMap::new()));
    }

    #[test]
    fn host_check_refuses_unknown_names() {
        let check = |address, host: &str| guard(address).check_host(&headers(&[("host", host)]));
        for address in [LOOPBACK, EVERYWHERE] {
            for host in [
                "localhost:8080",
                "127.0.0.1",
                "dev.example:8080",
                "DEV.EXAMPLE",
            ] {
                assert_eq!(check(address, host), Ok(()), "{host}");
            }
            for host in ["evil.example", "", "dev.example.evil", "10.0.0.1.evil"] {
                assert_eq!(check(address, host), Err(Refusal::Host), "{host}");
            }
            assert!(guard(address).check_host(&HeaderMap::new()).is_err());
        }
        // Rebinding needs a name, so any address is safe where other machines may connect.
        for host in ["10.0.0.1:8080", "[fe80::1]:8080"] {
            assert_eq!(check(EVERYWHERE, host), Ok(()), "{host}");
            assert_eq!(check(LOOPBACK, host), Err(Refusal::Host), "{host}");
        }
    }

    #[test]
    fn origin_check_allows_own_page_only() {
        let check = |host: &str, origin: &str| {
            guard(EVERYWHERE).check_origin(&headers(&[("host", host), ("origin", origin)]))
        };
        let own = "localhost:8080";
        assert_eq!(guard(LOOPBACK).check_origin(&HeaderMap::new()), Ok(None));
        assert_eq!(check(own, "http://localhost:8080"), Ok(None));
        assert_eq!(check("dev.example", "https://dev.example"), Ok(None));
        let allowed = check(own, "http://localhost:3000").unwrap();
        assert_eq!(allowed.unwrap(), "http://localhost:3000");
        for origin in [
            "http://localhost:3001",
            "http://127.0.0.1:8080",
            "https://localhost:3000",
            "https://evil.example",
            "http://localhost:8080.evil.example",
            "file://localhost:8080",
            "null",
            "",
        ] {
            assert_eq!(check(own, origin), Err(Refusal::Origin), "{origin}");
        }
        for (site, expected) in [
            ("none", Ok(None)),
            ("same-origin", Ok(None)),
            ("same-site", Err(Refusal::Origin)),
            ("cross-site", Err(Refusal::Origin)),
        ] {
            let headers = headers(&[("host", own), ("sec-fetch-site", site)]);
            assert_eq!(guard(LOOPBACK).check_origin(&headers), expected, "{site}");
        }
    }

    #[test]
    fn repeated_host_or_origin_is_ambiguous() {
        let host = ("host", "localhost");
        let origin = ("origin", "http://localhost");
        assert!(!is_ambiguous(&headers(&[host, origin])));
        assert!(is_ambiguous(&headers(&[host, host])));
        assert!(is_ambiguous(&headers(&[host, origin, origin])));
        assert!(is_rebound(&headers(&[host, ("host", "evil.example")])));
        assert!(!is_rebound(&headers(&[host])));
    }

    #[test]
    fn browser_requests_are_from_a_page() {
        let host = ("host", "127.0.0.1:1");
        assert!(!is_from_a_page(&headers(&[host])));
        assert!(!is_from_a_page(&headers(&[
            host,
            ("sec-fetch-site", "none")
        ])));
        for more in [
            ("origin", "http://127.0.0.1:1"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("host", "evil.example"),
        ] {
            assert!(is_from_a_page(&headers(&[host, more])), "{more:?}");
        }
    }
}
