//! Secrets that Secrets Manager generates: here each is made up anew in every run, the same wherever it is asked for.

use std::sync::OnceLock;

use super::Template;

const BEGIN: &str = "{{resolve:secretsmanager:";
const END: &str = "}}";

/// Replaces references to secrets in what functions and origins are told.
pub(super) fn resolve_all(template: &mut Template) {
    let variables = template
        .functions
        .values_mut()
        .flat_map(|function| function.environment.values_mut());
    let origins = template
        .distribution
        .iter_mut()
        .flat_map(|distribution| distribution.origins.values_mut());
    let headers = origins.flat_map(|origin| &mut origin.headers);
    for text in variables.chain(headers.map(|(_, value)| value)) {
        if let Some(resolved) = resolve(text) {
            *text = resolved;
        }
    }
}

/// `text` with its references replaced; none if it has none.
fn resolve(text: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (reference, after) = rest.split_once(END)?;
    let secret = secret(reference);
    let after = resolve(after).unwrap_or_else(|| after.to_owned());
    Some(format!("{before}{secret}{after}"))
}

/// `reference` is `<id or ARN>:SecretString`, maybe with a key and a version.
fn secret(reference: &str) -> String {
    static RUN: OnceLock<u128> = OnceLock::new();
    let id = reference.split(":SecretString").next().unwrap_or_default();
    let name = id.rsplit(':').next().unwrap_or_default();
    let run = RUN.get_or_init(rand::random);
    format!("{name}-{run:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_same_wherever_it_is_asked_for() {
        let arn = "arn:aws:secretsmanager:us-east-1:1:secret:messaging-Secret";
        let one = resolve(&format!(
            "{{{{resolve:secretsmanager:{arn}:SecretString}}}}"
        ))
        .unwrap();
        let within = resolve(&format!(
            "a {BEGIN}{arn}:SecretString:::{END} b {BEGIN}x{END}"
        ));
        assert!(within.unwrap().starts_with(&format!("a {one} b x-")));
        assert!(one.len() > 32 && !one.contains('{'));
        assert_eq!(resolve("none {{resolve:ssm:x}}"), None);
    }
}
