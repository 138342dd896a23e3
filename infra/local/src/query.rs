//! Query strings, decoded as API Gateway decodes them.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

/// Each key with its values in the order of the query.
pub type Parameters = BTreeMap<String, Vec<String>>;

/// Parses a raw query string. A key without `=` has an empty value.
#[must_use]
pub fn parse(raw: &str) -> Parameters {
    let mut parameters = Parameters::new();
    for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        parameters
            .entry(decode(key))
            .or_default()
            .push(decode(value));
    }
    parameters
}

fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " "))
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_in_order() {
        let parameters = parse("access_token=a%2Bb%3D&x=1&x=2&flag&&sp+ace=%C3%A9");
        assert_eq!(parameters["access_token"], ["a+b="]);
        assert_eq!(parameters["x"], ["1", "2"]);
        assert_eq!(parameters["flag"], [""]);
        assert_eq!(parameters["sp ace"], ["é"]);
        assert_eq!(parameters.len(), 4);
        assert!(parse("").is_empty());
    }
}
