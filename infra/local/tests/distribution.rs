//! A CloudFront distribution in front of the WebSocket API and a function URL, from a nested template.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails where it stands"
)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use common::{DEADLINE, Gateway, connect_to, connection_id, http, try_http};
use local_gateway::template::Template;
use serde_json::{Value, json};

const NESTED: &str = r#"
Parameters:
  Api: { Type: String }
  Url: { Type: String }
  Secret: { Type: String }
  Greeting: { Type: String, Default: unused }
Resources:
  Router:
    Type: AWS::CloudFront::Function
    Properties:
      Name: !Select [2, !Split ["/", !Ref AWS::StackId]]
      FunctionConfig: { Runtime: cloudfront-js-2.0 }
      FunctionCode: !Sub |
        function handler(event) {
            const request = event.request;
            if (request.uri === '/greet') {
                return { statusCode: 200, headers: { 'x-one': { value: '1' } }, body: '${Greeting}' };
            }
            if (request.method === 'PUT') {
                return { statusCode: 405, headers: { allow: { value: 'GET' } } };
            }
            if (request.uri === '/fail') {
                return undefined;
            }
            if (request.uri.endsWith('/websocket')) {
                request.querystring.from = { value: request.uri };
                request.uri = '/';
            }
            return request;
        }
  Distribution:
    Type: AWS::CloudFront::Distribution
    Properties:
      DistributionConfig:
        Enabled: true
        Origins:
          - Id: function
            DomainName: !Select [2, !Split ["/", !Ref Url]]
            OriginCustomHeaders: [{ HeaderName: x-secret, HeaderValue: !Sub "{{resolve:secretsmanager:${Secret}:SecretString}}" }]
          - Id: socket
            DomainName: !Ref Api
            OriginPath: /dev
        DefaultCacheBehavior: &behaviour
          TargetOriginId: function
          ViewerProtocolPolicy: https-only
          AllowedMethods: [GET, HEAD, OPTIONS, PUT, PATCH, POST, DELETE]
          CachePolicyId: 4135ea2d-6df8-44a3-9df3-4b5a84be39ad
          OriginRequestPolicyId: b689b0a8-53d0-40ab-baf2-68738e2966ac
          FunctionAssociations: [{ EventType: viewer-request, FunctionARN: !GetAtt Router.FunctionARN }]
        CacheBehaviors:
          - { <<: *behaviour, PathPattern: "*/websocket", TargetOriginId: socket }
"#;

fn template(dir: &Path) -> String {
    fs::write(dir.join("nested.yaml"), NESTED).unwrap();
    format!(
        "Globals: {{ Function: {{ Runtime: provided.al2023, Timeout: 20 }} }}
Resources:
  Secret:
    Type: AWS::SecretsManager::Secret
    Properties: {{ GenerateSecretString: {{ ExcludePunctuation: true }} }}
  Api:
    Type: AWS::Serverless::WebSocketApi
    Properties:
      StageName: dev
      RouteSelectionExpression: $request.body.route
      Routes: {{ $connect: {{ FunctionArn: !GetAtt Fixture.Arn }}, $default: {{ FunctionArn: !GetAtt Fixture.Arn }} }}
  Fixture:
    Type: AWS::Serverless::Function
    Metadata: {{ BuildProperties: {{ Binary: fixture_function }} }}
    Properties:
      Environment:
        Variables:
          EVENTS_DIR: {}
          CONNECTIONS_ENDPOINT: !Sub https://${{Api}}.execute-api.${{AWS::Region}}.amazonaws.com/dev
  Called:
    Type: AWS::Serverless::Function
    Metadata: {{ BuildProperties: {{ Binary: bare_function }} }}
    Properties:
      FunctionUrlConfig: {{ AuthType: NONE }}
      Environment: {{ Variables: {{ SECRET: !Sub '{{{{resolve:secretsmanager:${{Secret}}:SecretString}}}}' }} }}
  Edge:
    Type: AWS::CloudFormation::Stack
    Properties:
      TemplateURL: nested.yaml
      Parameters:
        Api: !Sub ${{Api}}.execute-api.${{AWS::Region}}.${{AWS::URLSuffix}}
        Url: !GetAtt CalledUrl.FunctionUrl
        Secret: !Ref Secret
        Greeting: hello
",
        dir.display()
    )
}

/// Returns the names of the URLs in the ready file.
fn printed_urls(gateway: &Gateway) -> Vec<String> {
    let text = fs::read_to_string(gateway.dir().join("ready.json")).unwrap();
    let urls: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    urls.into_keys().collect()
}

/// Sends a request verbatim and returns everything that arrives until the connection ends.
fn raw(gateway: &Gateway, request: &str) -> String {
    let host = gateway.url("edge").strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn viewer_function_answers_or_forwards() {
    let gateway = Gateway::start_with(&[], template);
    let edge = gateway.url("edge");
    let answer = http("GET", &format!("{edge}/greet"), "");
    assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
    assert_eq!(answer.header("x-one"), Some("1"));
    let answer = http("PUT", &format!("{edge}/x"), "");
    assert_eq!((answer.status, answer.body.as_str()), (405, ""));
    assert_eq!(answer.header("allow"), Some("GET"));
    assert_eq!(answer.header("content-type"), None);
    assert_eq!(http("GET", &format!("{edge}/fail"), "").status, 503);
    assert_eq!(http("TRACE", &format!("{edge}/x"), "").status, 403);
    // The gateway's own page and API take precedence.
    assert!(http("GET", &format!("{edge}/"), "").body.contains("<html"));
    assert_eq!(gateway.url("sockjs"), format!("{edge}/messaging"));
}

#[test]
fn origin_receives_request_unchanged() {
    let gateway = Gateway::start_with(&[], template);
    let url = format!("{}//a/./b%2Fc/%20?x=%20&flag", gateway.url("edge"));
    let headers = [
        ("cookie", "a=1"),
        ("x-tag", "t"),
        ("x-secret", "forged"),
        ("content-type", "text/plain"),
    ];
    let event: Value = try_http("POST", &url, &headers, b"hi").unwrap().json()["payload"].clone();
    assert_eq!(event["rawPath"], "//a/./b%2Fc/%20");
    assert_eq!(event["rawQueryString"], "x=%20&flag");
    assert_eq!(event["cookies"], json!(["a=1"]));
    assert_eq!(event["headers"]["x-tag"], "t");
    assert_eq!(event["body"], "hi");
    let host = event["headers"]["host"].as_str().unwrap();
    assert!(host.starts_with("called.lambda-url."), "{host}");
    let invoke = format!(
        "{}/2015-03-31/functions/Called/invocations",
        gateway.url("lambda")
    );
    let variables = http("POST", &invoke, r#"{"do":"environment"}"#).json();
    assert_eq!(event["headers"]["x-secret"], variables["SECRET"]);
    assert!(variables["SECRET"].as_str().unwrap().len() > 32);
}

#[tokio::test]
async fn websocket_reaches_stage() {
    let gateway = Gateway::start_with(&[], template);
    let url = format!(
        "{}/m/a%20b/websocket?token=t&x=1&x=2",
        gateway.url("edge").replace("http:", "ws:")
    );
    let mut socket = connect_to(&url, &[("origin", "https://example.com")])
        .await
        .unwrap();
    let id = connection_id(&mut socket).await;
    assert_eq!(http("GET", &gateway.connection_url(&id), "").status, 200);
    let event = gateway.event("CONNECT");
    assert_eq!(
        event["multiValueQueryStringParameters"],
        json!({"token": ["t"], "x": ["1", "2"], "from": ["/m/a b/websocket"]})
    );
    assert_eq!(event["headers"]["Origin"], "https://example.com");
    let plain = http("GET", &format!("{}/m/websocket", gateway.url("edge")), "");
    assert_eq!(plain.status, 426);
}

#[test]
fn unreachable_urls_are_not_printed() {
    let everywhere = ["dynamodb", "edge", "lambda", "management", "stage"];
    let gateway = Gateway::start_with(&[], |dir| {
        let template = template(dir);
        let elsewhere = NESTED.replace("*/websocket", "*/socket");
        fs::write(dir.join("nested.yaml"), elsewhere).unwrap();
        template
    });
    assert_eq!(printed_urls(&gateway), everywhere);
    // Here the distribution's function does not forward WebSockets.
    let gateway = Gateway::start_with(&[], |dir| {
        let template = template(dir);
        let closed = NESTED.replace("'/greet'", "'/messaging/websocket'");
        fs::write(dir.join("nested.yaml"), closed).unwrap();
        template
    });
    assert_eq!(printed_urls(&gateway), everywhere);
}

#[test]
fn route_hidden_by_distribution_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("template.yaml");
    let with = |events: &str, origin: &str| {
        let text = template(dir.path())
            .replace(
                "    Properties:\n      FunctionUrlConfig",
                &format!("    Properties:\n      Events: {events}\n      FunctionUrlConfig"),
            )
            .replace(
                "!Sub ${Api}.execute-api.${AWS::Region}.${AWS::URLSuffix}",
                origin,
            );
        fs::write(&path, text).unwrap();
        Template::read(&path, &BTreeMap::new()).map_err(|error| error.to_string())
    };
    let api = "!Sub ${Api}.execute-api.${AWS::Region}.${AWS::URLSuffix}";
    let route = |path: &str| {
        format!("{{ A: {{ Type: HttpApi, Properties: {{ Method: GET, Path: {path} }} }} }}")
    };
    assert!(with(&route("/v1/a"), api).is_ok());
    let refused = with(&route("/a"), api).unwrap_err();
    assert!(
        refused.contains(
            "Called: with a distribution, the local gateway serves HTTP API routes only under /v1: \
             /a is not, and its API is not an origin"
        ),
        "{refused}"
    );
    let origin = "localhttp0.execute-api.us-east-1.amazonaws.com";
    assert!(with(&route("/a"), origin).is_ok());
}

#[test]
fn http10_and_missing_length_are_accepted() {
    let gateway = Gateway::start_with(&[], template);
    let old = raw(&gateway, "GET /greet HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").to_lowercase();
    assert!(
        old.contains("content-length: 5\r\n") && !old.contains("transfer-encoding"),
        "{old}"
    );
    let old = raw(&gateway, "GET /x HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").to_lowercase();
    assert!(
        old.contains("content-length") && !old.contains("transfer-encoding"),
        "{old}"
    );
    // A request without a length has no body, and one connection carries several requests.
    let both = raw(
        &gateway,
        "POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /greet HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(both.matches("HTTP/1.1 200 OK").count(), 2, "{both}");
    assert!(both.ends_with("hello"), "{both}");
}
