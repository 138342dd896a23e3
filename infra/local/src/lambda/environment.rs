//! The environment variables of a function. Of the gateway's own variables only a few harmless ones are passed on.

use super::LambdaOptions;
use crate::rights;
use crate::template::Function;

/// Variables that every process needs, and those that a developer sets to debug or profile one.
const INHERITED: [&str; 7] = [
    "HOME",
    "LANG",
    "LLVM_PROFILE_FILE",
    "PATH",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "TMPDIR",
];

/// Returns the variables of every instance of `function`. `lambda_url` is the URL of the Invoke API.
pub(super) fn variables(
    function: &Function,
    options: &LambdaOptions,
    lambda_url: &str,
) -> Vec<(String, String)> {
    let inherited = INHERITED
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
    let reserved = [
        (
            "AWS_ACCESS_KEY_ID",
            rights::access_key(&function.id).as_str(),
        ),
        ("AWS_SECRET_ACCESS_KEY", "local"),
        ("AWS_SESSION_TOKEN", "local"),
        ("AWS_REGION", &options.region),
        ("AWS_DEFAULT_REGION", &options.region),
        ("AWS_ENDPOINT_URL_DYNAMODB", &options.dynamodb_url),
        ("AWS_ENDPOINT_URL_LAMBDA", lambda_url),
        ("AWS_LAMBDA_FUNCTION_NAME", &function.name),
        (
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
            &function.memory_mb.to_string(),
        ),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        (
            "AWS_LAMBDA_LOG_GROUP_NAME",
            &format!("/aws/lambda/{}", function.name),
        ),
        ("TZ", ":UTC"),
        ("_HANDLER", &function.handler),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let own = function.environment.iter().map(|(name, value)| {
        let replaced = options
            .replacements
            .iter()
            .fold(value.clone(), |value, (from, to)| value.replace(from, to));
        (name.clone(), replaced)
    });
    // Lambda sets this variable only on managed instances. A function that does not support it may reject it.
    let concurrency = options.concurrency_of(function);
    let several = (concurrency > 1).then(|| {
        let name = "AWS_LAMBDA_MAX_CONCURRENCY".to_owned();
        (name, concurrency.to_string())
    });
    // Lambda rejects templates that set its reserved variables. Here the reserved values override the template's.
    inherited
        .chain(own)
        .chain(reserved)
        .chain(several)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::fault::Faults;

    #[test]
    fn aws_stage_url_becomes_local() {
        let aws = "https://localws001.execute-api.us-east-1.amazonaws.com/prod";
        let function = Function {
            id: "F".to_owned(),
            name: "messaging-F".to_owned(),
            arn: String::new(),
            binary: "f".to_owned(),
            handler: "bootstrap".to_owned(),
            timeout: Duration::from_secs(3),
            memory_mb: 128,
            environment: BTreeMap::from([("ENDPOINT".to_owned(), aws.to_owned())]),
            reserved_concurrency: None,
            event_retries: 2,
            url: None,
            rights: None,
        };
        let options = LambdaOptions {
            functions: BTreeMap::new(),
            executables: BTreeMap::new(),
            region: "us-east-1".to_owned(),
            dynamodb_url: "http://127.0.0.1:8000".to_owned(),
            replacements: vec![(aws.to_owned(), "http://127.0.0.1:3001/prod".to_owned())],
            max_instances: 1,
            concurrency: 1,
            retry_delay: Duration::ZERO,
            verbose: false,
            tells_leaving: false,
            faults: Faults::default(),
            rights: rights::Rights::default(),
            metrics: crate::metrics::Metrics::default(),
        };
        let variables: BTreeMap<_, _> = variables(&function, &options, "http://127.0.0.1:3002")
            .into_iter()
            .collect();
        assert_eq!(variables["ENDPOINT"], "http://127.0.0.1:3001/prod");
        assert_eq!(variables["AWS_LAMBDA_FUNCTION_NAME"], "messaging-F");
        assert_eq!(variables["_HANDLER"], "bootstrap");
        assert_eq!(
            variables["AWS_ENDPOINT_URL_LAMBDA"],
            "http://127.0.0.1:3002"
        );
        assert!(!variables.contains_key("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"));
        assert!(
            !variables.contains_key("CARGO_MANIFEST_DIR"),
            "the gateway's own environment is not passed on"
        );
    }
}
