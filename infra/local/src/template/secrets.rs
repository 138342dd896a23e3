//! Secrets of Secrets Manager. Every run generates new ones. Within a run, all references to a secret have the same
//! value.

use std::sync::OnceLock;

use super::Template;

const BEGIN: &str = "{{resolve:secretsmanager:";
const END: &str = "}}";

/// Replaces references to secrets in the variables of functions and the headers of origins.
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

/// Returns `text` with its references replaced, or `None` if it has no references.
fn resolve(text: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (reference, after) = rest.split_once(END)?;
    let secret = secret(reference);
    let after = resolve(after).unwrap_or_else(|| after.to_owned());
    Some(format!("{before}{secret}{after}"))
}

/// Returns the value of a secret. `reference` is `<id or ARN>:SecretString`, optionally with a key and a version.
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
    fn all_references_resolve_alike() {
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
