//! Function URLs: served, and known to the other functions.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod common;

use std::path::Path;

use common::{Gateway, http};

/// One function has a URL, the other is told it.
fn template(_: &Path) -> String {
    "Globals: { Function: { Runtime: provided.al2023, Timeout: 20 } }
Resources:
  Called:
    Type: AWS::Serverless::Function
    Metadata: { BuildProperties: { Binary: bare_function } }
    Properties: { FunctionUrlConfig: { AuthType: NONE } }
  Caller:
    Type: AWS::Serverless::Function
    Metadata: { BuildProperties: { Binary: bare_function } }
    Properties: { Environment: { Variables: { URL: !GetAtt CalledUrl.FunctionUrl } } }
"
    .to_owned()
}

#[test]
fn a_function_is_called_by_the_url_another_one_knows() {
    let gateway = Gateway::start_with(&[], template);
    let invoke = format!(
        "{}/2015-03-31/functions/Caller/invocations",
        gateway.url("lambda")
    );
    let variables = http("POST", &invoke, r#"{"do":"environment"}"#).json();
    let url = variables["URL"].as_str().unwrap();
    let event = http("GET", &format!("{url}some/path?a=1"), "").json()["payload"].clone();
    assert_eq!(event["version"], "2.0");
    assert_eq!(event["routeKey"], "$default");
    assert_eq!(event["rawPath"], "/some/path");
    assert_eq!(event["queryStringParameters"]["a"], "1");
}
