//! Route selection of HTTP APIs: the route of a request and its path parameters.

use std::collections::BTreeMap;

use http::Method;
use percent_encoding::percent_decode_str;

use crate::template::HttpRoute;

/// A route and the values of its path variables.
#[derive(Debug)]
pub(super) struct Match<'a> {
    pub(super) route: &'a HttpRoute,
    pub(super) parameters: BTreeMap<String, String>,
}

impl Match<'_> {
    /// Returns the route key in events, e.g. `ANY /v1/{proxy+}`.
    pub(super) fn key(&self) -> String {
        match self.route.path.as_str() {
            "$default" => "$default".to_owned(),
            path => format!("{} {path}", self.route.method),
        }
    }
}

/// Returns the most specific route that matches the decoded `path`: full matches before variables before `{proxy+}` before `$default`, and
/// a method before `ANY`.
pub(super) fn find<'a>(routes: &'a [HttpRoute], method: &Method, path: &str) -> Option<Match<'a>> {
    routes
        .iter()
        .filter(|route| route.method == "ANY" || route.method == method.as_str())
        .filter_map(|route| {
            let (rank, parameters) = match_path(&route.path, path)?;
            Some((rank, route.method == "ANY", Match { route, parameters }))
        })
        .min_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)))
        .map(|(_, _, matched)| matched)
}

/// Returns the rank of a match and its variables, or `None` if the path does not match. The rank has one number per
/// segment: 0 for the same text, 1 for a variable, 2 for the rest of the path. `$default` has the rank 3. The smallest
/// rank wins.
fn match_path(pattern: &str, path: &str) -> Option<(Vec<u8>, BTreeMap<String, String>)> {
    if pattern == "$default" {
        return Some((vec![3], BTreeMap::new()));
    }
    let mut rank = Vec::new();
    let mut parameters = BTreeMap::new();
    let mut rest = path.strip_prefix('/')?;
    let mut wanted = pattern.strip_prefix('/')?.split('/').peekable();
    while let Some(segment) = wanted.next() {
        let variable = segment
            .strip_prefix('{')
            .and_then(|name| name.strip_suffix('}'));
        // `{name+}` takes the rest of the path, which must not be empty.
        if let Some(name) = variable.and_then(|name| name.strip_suffix('+')) {
            if rest.is_empty() {
                return None;
            }
            parameters.insert(name.to_owned(), rest.to_owned());
            rank.push(2);
            return Some((rank, parameters));
        }
        // Take the next segment. The path and the pattern must have the same number of segments.
        let is_last = wanted.peek().is_none();
        let (sent, after) = match rest.split_once('/') {
            Some(_) if is_last => return None,
            Some(split) => split,
            None if is_last => (rest, ""),
            None => return None,
        };
        match variable {
            Some(name) if !sent.is_empty() => {
                parameters.insert(name.to_owned(), sent.to_owned());
                rank.push(1);
            }
            None if sent == segment => rank.push(0),
            _ => return None,
        }
        rest = after;
    }
    Some((rank, parameters))
}

/// Decodes a path once. "API Gateway decodes URL-encoded request parameters before passing them to your backend integration"
/// (docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html, 2026-11). That holds for `rawPath`, and
/// routes match the decoded path: `%2F` is a slash. REST APIs and function URLs pass paths on as they were sent.
pub(super) fn decoded(path: &str) -> String {
    percent_decode_str(path).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, path: &str, expected: Option<(&str, &[(&str, &str)])>) {
        let routes: Vec<_> = [
            ("ANY", "/v1/{proxy+}"),
            ("GET", "/v1/{proxy+}"),
            ("GET", "/v1/items/{id}"),
            ("ANY", "/v1/items/best"),
            ("GET", "/v2"),
        ]
        .into_iter()
        .map(|(method, path)| HttpRoute {
            method: method.to_owned(),
            path: path.to_owned(),
            function: "Function".to_owned(),
            api_id: "localapi01".to_owned(),
            stage: "$default".to_owned(),
        })
        .collect();
        let found = find(&routes, &method, path);
        let key = found.as_ref().map(Match::key);
        assert_eq!(key.as_deref(), expected.map(|(key, _)| key), "{path}");
        if let (Some(found), Some((_, parameters))) = (found, expected) {
            let parameters = parameters
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!(found.parameters, parameters, "{path}");
        }
    }

    #[test]
    fn most_specific_route_wins() {
        check(
            Method::GET,
            "/v1/items/7",
            Some(("GET /v1/items/{id}", &[("id", "7")])),
        );
        check(
            Method::GET,
            "/v1/items/best",
            Some(("ANY /v1/items/best", &[])),
        );
        check(
            Method::GET,
            "/v1/items/7/x",
            Some(("GET /v1/{proxy+}", &[("proxy", "items/7/x")])),
        );
        check(
            Method::POST,
            "/v1/items/7",
            Some(("ANY /v1/{proxy+}", &[("proxy", "items/7")])),
        );
        check(Method::GET, "/v2", Some(("GET /v2", &[])));
    }

    #[test]
    fn unmatched_path_has_no_route() {
        check(Method::POST, "/v2", None);
        check(Method::GET, "/v2/x", None);
        check(Method::GET, "/v1", None);
        check(Method::GET, "/v1/", None);
        check(Method::GET, "/", None);
    }

    #[test]
    fn path_is_decoded_once() {
        for (sent, key, parameter) in [
            ("/v1/items/b%20c", "GET /v1/items/{id}", ("id", "b c")),
            ("/v1/items/b%2520c", "GET /v1/items/{id}", ("id", "b%20c")),
            ("/v1/it%65ms/b", "GET /v1/items/{id}", ("id", "b")),
            (
                "/v1/items/a%2Fb",
                "GET /v1/{proxy+}",
                ("proxy", "items/a/b"),
            ),
            (
                "/v1/items%252Fb/c",
                "GET /v1/{proxy+}",
                ("proxy", "items%2Fb/c"),
            ),
        ] {
            check(Method::GET, &decoded(sent), Some((key, &[parameter])));
        }
    }
}
