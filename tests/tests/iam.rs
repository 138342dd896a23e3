//! The IAM policy of docs/operations.md for the back end of one domain, evaluated for every path of docs/openapi.yaml.

#![allow(clippy::indexing_slicing, reason = "a failed test shows the line")]

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use local_gateway::template::Statement;
use serde_json::Value;

const METHODS: [&str; 5] = ["delete", "get", "patch", "post", "put"];
const API: &str = "arn:aws:execute-api:REGION:ACCOUNT:API/$default";

fn read(path: &str) -> Result<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(file).with_context(|| path.to_owned())
}

/// Returns the only statement of the documented policy.
fn statement() -> Result<Statement> {
    let text = read("docs/operations.md")?;
    let (_, rest) = text
        .split_once("### A role for one domain")
        .context("no such section")?;
    let (_, rest) = rest.split_once("```json").context("no policy")?;
    let (policy, _) = rest.split_once("```").context("the policy does not end")?;
    let policy: Value = serde_json::from_str(policy)?;
    let statements = policy["Statement"].as_array().context("no statements")?;
    ensure!(statements.len() == 1 && statements[0]["Effect"] == "Allow");
    let resources = statements[0]["Resource"]
        .as_array()
        .context("no resources")?;
    Ok(Statement {
        id: None,
        actions: vec!["execute-api:Invoke".to_owned()],
        resources: resources
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    })
}

/// Returns the method and path of every operation, without the API's prefix.
fn operations() -> Result<Vec<(String, String)>> {
    let document: Value = serde_yaml_ng::from_str(&read("docs/openapi.yaml")?)?;
    let paths = document["paths"].as_object().context("no paths")?;
    let mut operations = Vec::new();
    for (path, item) in paths {
        for method in METHODS.iter().filter(|it| item.get(**it).is_some()) {
            operations.push((method.to_uppercase(), path.clone()));
        }
    }
    Ok(operations)
}

fn allows(statement: &Statement, method: &str, path: &str) -> bool {
    statement.allows("execute-api:Invoke", &format!("{API}/{method}/v1{path}"))
}

#[test]
fn policy_allows_one_domain_only() -> Result<()> {
    let statement = statement()?;
    let operations = operations()?;
    ensure!(operations.len() > 10, "{operations:?}");
    for (method, path) in &operations {
        let within = |domain: &str| {
            let path = path.replace("{domain}", domain);
            allows(&statement, method, &path)
        };
        let has_domain = path.contains("{domain}");
        ensure!(within("acme") == has_domain, "{method} {path}");
        for other in ["other", "acme2", "acm", "ACME", "other/v1/domains/acme"] {
            ensure!(!within(other), "{method} {path} of {other}");
        }
    }
    Ok(())
}

#[test]
fn policy_refuses_paths_containing_domain() -> Result<()> {
    let statement = statement()?;
    for path in [
        "/domains/other/channels/v1/domains/acme/messages",
        "/tokens/invalidate",
        "/tokens/v1/domains/acme/x",
        "/domains/acme",
        "//domains/acme/channels/c",
    ] {
        for method in METHODS {
            ensure!(
                !allows(&statement, &method.to_uppercase(), path),
                "{method} {path}"
            );
        }
    }
    Ok(())
}
