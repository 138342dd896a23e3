//! Reading the project's own template, and refusing what the gateway does not support.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails where it stands"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use local_gateway::template::Template;

fn read(text: &str) -> Result<Template, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Template::read(file.path(), &BTreeMap::new()).map_err(|error| error.to_string())
}

fn project() -> Template {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../template.yaml");
    Template::read(&path, &BTreeMap::new()).unwrap()
}

#[test]
fn project_template_is_read() {
    let template = project();
    let api = template.web_socket.as_ref().unwrap();
    assert_eq!(api.api_id.len(), 10, "as long as AWS's");
    assert_eq!(api.selection, "\\$default");
    assert_eq!(api.routes["$connect"], "ConnectFunction");
    assert_eq!(
        api.authorizer.as_ref().unwrap().function,
        "AuthorizerFunction"
    );
    let route = &template.http_routes[0];
    assert_eq!(
        (route.method.as_str(), route.path.as_str()),
        ("ANY", "/v1/{proxy+}")
    );
    assert_eq!(
        (route.function.as_str(), route.stage.as_str()),
        ("ApiFunction", "$default")
    );
}

#[test]
fn globals_and_intrinsics_reach_functions() {
    let template = project();
    let worker = &template.functions["WorkerFunction"];
    assert_eq!(worker.name, "messaging-worker");
    assert_eq!(worker.timeout, Duration::from_secs(60), "its own");
    let message = &template.functions["MessageFunction"];
    assert_eq!(message.name, "messaging-MessageFunction");
    assert_eq!(message.binary, "message");
    assert_eq!(message.timeout, Duration::from_secs(29), "from Globals");
    assert_eq!(message.environment["TOKENS_TABLE"], "messaging-Tokens");
    assert_eq!(message.environment["WORKER_FUNCTION"], "messaging-worker");
    assert_eq!(message.environment["URL_SUFFIX"], "amazonaws.com");
    assert_eq!(
        message.environment["CONNECTIONS_ENDPOINT"],
        template.connections_url().unwrap()
    );
}

#[test]
fn tables_keep_keys_indexes_ttl_only() {
    let template = project();
    let tokens = template
        .tables
        .iter()
        .find(|table| table.id == "Tokens")
        .unwrap();
    assert_eq!(tokens.name, "messaging-Tokens");
    assert_eq!(tokens.ttl_attribute.as_deref(), Some("ttl"));
    let index = &tokens.definition["GlobalSecondaryIndexes"][0];
    assert_eq!(index["IndexName"], "ends-minute");
    assert!(tokens.definition.get("SSESpecification").is_none());
}

#[test]
fn rights_come_from_own_policies() {
    let statement = "{ Statement: [{ Effect: Allow, Action: dynamodb:GetItem, Resource: \"*\" }] }";
    let read = |properties: &str| {
        let text = format!(
            "Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties:\n      Runtime: provided.al2023\n{properties}"
        );
        read(&text).unwrap().functions["F"]
            .rights
            .as_ref()
            .map(Vec::len)
    };
    let role = "      Role: arn:aws:iam::123456789012:role/other\n";
    let policies = format!("      Policies: {statement}\n");
    let managed = "      Policies: [AmazonDynamoDBReadOnlyAccess]\n";
    assert_eq!(read(""), Some(0));
    assert_eq!(read(&policies), Some(1));
    assert_eq!(
        read(role),
        None,
        "the role's policies are not in the template"
    );
    assert_eq!(read(&format!("{role}{policies}")), None);
    assert_eq!(read(managed), None);
}

#[test]
fn no_value_counts_as_absent() {
    let concurrency = |text: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../template.yaml");
        let parameters = BTreeMap::from([("SockjsConcurrency".to_owned(), text.to_owned())]);
        let template = Template::read(&path, &parameters).unwrap();
        template.functions["SockjsFunction"].reserved_concurrency
    };
    assert_eq!(concurrency("0"), None);
    assert_eq!(concurrency("7"), Some(7));
}

#[test]
fn parameters_are_overridden_and_validated() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../template.yaml");
    let with = |name: &str, value: &str| {
        let parameters = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        Template::read(&path, &parameters).map_err(|error| error.to_string())
    };
    assert_eq!(
        with("StageName", "dev").unwrap().web_socket.unwrap().stage,
        "dev"
    );
    assert!(
        with("Architecture", "mips")
            .unwrap_err()
            .contains("arm64, x86_64")
    );
    assert!(
        with("Stagename", "dev")
            .unwrap_err()
            .contains("no parameter `Stagename`")
    );
}

#[test]
fn conditions_and_joins_are_evaluated() {
    let template = read(
        r#"
Parameters: { Debug: { Type: String, Default: "yes" } }
Conditions: { Debugging: !Equals [!Ref Debug, "yes"], Silent: !Not [!Condition Debugging] }
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: provided.al2023
      Environment:
        Variables:
          LEVEL: !If [Debugging, debug, info]
          TABLE: { "Fn::GetAtt": [T, Arn] }
          JOINED: { "Fn::Join": ["/", [a, { Ref: T }, !Sub ["${x}-${!y}", { x: 1 }]]] }
          ABSENT: !Ref AWS::NoValue
  Left:
    Type: AWS::Serverless::Function
    Condition: Silent
    Properties: { Runtime: provided.al2023 }
  T:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: !Sub ${AWS::StackName}-${AWS::Region}
      AttributeDefinitions: [{ AttributeName: a, AttributeType: S }]
      KeySchema: [{ AttributeName: a, KeyType: HASH }]
"#,
    )
    .unwrap();
    let region = &template.region;
    let variables = &template.functions["F"].environment;
    assert_eq!(variables["LEVEL"], "debug");
    assert_eq!(
        variables["TABLE"],
        format!("arn:aws:dynamodb:{region}:123456789012:table/messaging-{region}")
    );
    assert_eq!(
        variables["JOINED"],
        format!("a/messaging-{region}/1-${{y}}")
    );
    assert!(!variables.contains_key("ABSENT"));
    assert!(
        !template.functions.contains_key("Left"),
        "its condition does not hold"
    );
    assert_eq!(
        template.functions["F"].binary, "F",
        "the logical id, where no binary is named"
    );
}

#[test]
fn template_sets_local_parameter_defaults() {
    let text = "
Metadata: { LocalGateway: { Parameters: { Level: here } } }
Parameters: { Level: { Type: String, Default: there }, Other: { Type: String, Default: same } }
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: provided.al2023
      Environment: { Variables: { LEVEL: !Ref Level, OTHER: !Ref Other } }
";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("template.yaml");
    std::fs::write(&path, text).unwrap();
    for (given, expected) in [(None, "here"), (Some("asked"), "asked")] {
        let parameters = given.map(|given: &str| ("Level".to_owned(), given.to_owned()));
        let template = Template::read(&path, &parameters.into_iter().collect()).unwrap();
        let variables = &template.functions["F"].environment;
        assert_eq!(
            (variables["LEVEL"].as_str(), variables["OTHER"].as_str()),
            (expected, "same")
        );
    }
}

#[test]
fn enabled_schedules_are_read() {
    let template = read(
        r#"
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: provided.al2023
      Events:
        A: { Type: Schedule, Properties: { Schedule: rate(1 minute), Input: '{"a":1}' } }
        B: { Type: ScheduleV2, Properties: { ScheduleExpression: cron(0 1 * * ? *) } }
        C: { Type: ScheduleV2, Properties: { ScheduleExpression: rate(1 day), State: DISABLED } }
"#,
    )
    .unwrap();
    let found: Vec<_> = template
        .schedules
        .iter()
        .map(|s| (s.expression.as_str(), s.input.as_deref()))
        .collect();
    assert_eq!(
        found,
        [
            ("rate(1 minute)", Some("{\"a\":1}")),
            ("cron(0 1 * * ? *)", None)
        ]
    );
}

#[test]
fn supported_event_properties_are_accepted() {
    let template = read(
        r#"
Globals: { HttpApi: { Auth: { DefaultAuthorizer: AWS_IAM, EnableIamAuthorizer: true } } }
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: provided.al2023
      Events:
        A: { Type: HttpApi, Properties: { Method: get, Path: /v1/a, PayloadFormatVersion: "2.0", Auth: { Authorizer: NONE } } }
        B: { Type: HttpApi, Properties: { Method: get, Path: /v1/b, PayloadFormatVersion: 2.0, RouteSettings: { ThrottlingRateLimit: 1 } } }
        C: { Type: HttpApi }
        D:
          Type: ScheduleV2
          Properties:
            ScheduleExpression: rate(1 hour)
            ScheduleExpressionTimezone: UTC
            FlexibleTimeWindow: { Mode: "OFF" }
            RetryPolicy: { MaximumRetryAttempts: 1 }
        E: { Type: Schedule, Properties: { Schedule: rate(1 hour), Name: hourly, Enabled: true } }
"#,
    )
    .unwrap();
    let routes = template.http_routes.iter();
    let routes: Vec<_> = routes
        .map(|route| (route.method.as_str(), route.path.as_str()))
        .collect();
    assert_eq!(
        routes,
        [("GET", "/v1/a"), ("GET", "/v1/b"), ("ANY", "$default")]
    );
    assert_eq!(template.schedules.len(), 2);
}

#[test]
fn unsupported_property_error_names_line() {
    let function = |property: &str| {
        format!(
            "Resources:\n  Hello:\n    Type: AWS::Serverless::Function\n    Properties:\n      Runtime: provided.al2023\n      {property}\n"
        )
    };
    let event = |kind: &str, properties: &str| {
        function(&format!(
            "Events: {{ E: {{ Type: {kind}, Properties: {{ {properties} }} }} }}"
        ))
    };
    let route = |property: &str| event("HttpApi", property);
    let timer = |property: &str| {
        event(
            "ScheduleV2",
            &format!("ScheduleExpression: rate(1 day), {property}"),
        )
    };
    let api = |property: &str| {
        format!(
            "Resources:\n  Api:\n    Type: AWS::Serverless::HttpApi\n    Properties: {{ {property} }}\n"
        )
    };
    for (text, expected) in [
        (
            "Resources:\n  Bucket:\n    Type: AWS::S3::Bucket\n".to_owned(),
            "line 2: Bucket: the local gateway does not support AWS::S3::Bucket",
        ),
        (
            function("Layers: [x]"),
            "line 2: Hello: the local gateway does not support the property Layers",
        ),
        (
            function("Events: { Q: { Type: SQS } }"),
            "events of type `SQS`",
        ),
        (
            function("Environment: { Variables: { A: !Ref Missing } }"),
            "`Missing`, which the template does not have",
        ),
        (
            function("Environment: { Variables: { A: !Base64 a } }"),
            "cannot evaluate Fn::Base64",
        ),
        (
            function("Environment: { Variables: { A: !Select [1, [a]] } }"),
            "there is no element 1",
        ),
        (
            route("PayloadFormatVersion: '1.0'"),
            "line 2: Hello: event E: the local gateway supports only PayloadFormatVersion 2.0, not 1.0",
        ),
        (
            route("TimeoutInMillis: 100"),
            "does not support the property TimeoutInMillis",
        ),
        (
            route("Auth: { Authorizer: Mine }"),
            "does not support the authorizer Mine",
        ),
        (
            route("Auth: { AuthorizationScopes: [a] }"),
            "does not support AuthorizationScopes in Auth",
        ),
        (
            timer("ScheduleExpressionTimezone: Europe/Berlin"),
            "supports schedules only in UTC, not in Europe/Berlin",
        ),
        (
            timer("EndDate: '2030-01-01T00:00:00Z'"),
            "does not support the property EndDate",
        ),
        (
            function(
                "Events: { E: { Type: Schedule, Properties: { Schedule: rate(1 day), Zone: UTC } } }",
            ),
            "does not support the property Zone",
        ),
        (
            api("CorsConfiguration: true"),
            "line 2: Api: the local gateway does not support the property CorsConfiguration",
        ),
        (
            api("Auth: { Authorizers: { Mine: { JwtConfiguration: {} } } }"),
            "does not support Authorizers in Auth",
        ),
        (
            api("Auth: { DefaultAuthorizer: Mine }"),
            "does not support the authorizer Mine",
        ),
        (
            format!(
                "Globals: {{ HttpApi: {{ CorsConfiguration: true }} }}\n{}",
                route("Path: /v1")
            ),
            "Globals: the local gateway does not support the property CorsConfiguration",
        ),
        (function("FunctionName: !Ref Hello"), "form a circle"),
        (function("Timeout: soon"), "`soon` is not a number"),
    ] {
        let error = read(&text).unwrap_err();
        assert!(
            error.contains(expected),
            "{error}\nshould contain: {expected}"
        );
    }
    assert!(
        read("Resources: [")
            .unwrap_err()
            .contains("is not a template")
    );
    let absent = Template::read(Path::new("/nowhere/template.yaml"), &BTreeMap::new()).unwrap_err();
    assert!(absent.to_string().contains("Name another with --template"));
}

#[test]
fn stack_nested_in_itself_is_refused() {
    let stack = |url: &str| {
        format!(
            "Resources:\n  Inner:\n    Type: AWS::CloudFormation::Stack\n    Properties: {{ TemplateURL: {url} }}\n"
        )
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("template.yaml");
    std::fs::create_dir(dir.path().join("nested")).unwrap();
    std::fs::write(dir.path().join("nested/a.yaml"), stack("../template.yaml")).unwrap();
    for (url, expected) in [
        (
            "template.yaml",
            "line 2: Inner: the stack template.yaml is nested in itself",
        ),
        (
            "nested/a.yaml",
            "line 2: Inner: nested/a.yaml: line 2: Inner: the stack ../template.yaml is nested in itself",
        ),
    ] {
        std::fs::write(&path, stack(url)).unwrap();
        let error = Template::read(&path, &BTreeMap::new()).unwrap_err();
        assert_eq!(error.to_string(), format!("{}: {expected}", path.display()));
    }
}

#[test]
fn aws_only_resources_are_ignored() {
    let template =
        read("Resources:\n  Q: { Type: AWS::SQS::Queue }\n  A: { Type: AWS::CloudWatch::Alarm }\n")
            .unwrap();
    assert!(template.functions.is_empty());
}
