//! Function URLs: serving requests, their addresses in other functions' variables, and response streaming.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails where it stands"
)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use common::{DEADLINE, Gateway, Response, eventually, http, try_http};
use serde_json::{Value, json};

/// A template in which three functions have a URL and `Caller` has every address as a variable.
fn template(dir: &Path) -> String {
    format!(
        "Globals: {{ Function: {{ Runtime: provided.al2023, Timeout: 20 }} }}
Resources:
  Called:
    Type: AWS::Serverless::Function
    Metadata: {{ BuildProperties: {{ Binary: bare_function }} }}
    Properties: {{ FunctionUrlConfig: {{ AuthType: NONE }} }}
  Raw:
    Type: AWS::Serverless::Function
    Metadata: {{ BuildProperties: {{ Binary: bare_function }} }}
    Properties: {{ FunctionUrlConfig: {{ AuthType: NONE, InvokeMode: RESPONSE_STREAM }} }}
  Streaming:
    Type: AWS::Serverless::Function
    Metadata: {{ BuildProperties: {{ Binary: streaming_function }} }}
    Properties:
      FunctionUrlConfig: {{ AuthType: NONE, InvokeMode: RESPONSE_STREAM }}
      Environment: {{ Variables: {{ EVENTS_DIR: {} }} }}
  Caller:
    Type: AWS::Serverless::Function
    Metadata: {{ BuildProperties: {{ Binary: bare_function }} }}
    Properties:
      Environment:
        Variables:
          Called: !GetAtt CalledUrl.FunctionUrl
          Raw: !GetAtt RawUrl.FunctionUrl
          Streaming: !GetAtt StreamingUrl.FunctionUrl
          Socket: !Sub wss://${{Api}}.execute-api.${{AWS::Region}}.${{AWS::URLSuffix}}/dev
          Management: !Sub https://${{Api}}.execute-api.${{AWS::Region}}.${{AWS::URLSuffix}}/dev
  Api:
    Type: AWS::Serverless::WebSocketApi
    Properties:
      StageName: dev
      RouteSelectionExpression: $request.body.action
      Routes: {{ $default: {{ FunctionArn: !GetAtt Caller.Arn }} }}
",
        dir.display()
    )
}

/// Returns a variable of the function `Caller`. A function's name yields its URL.
fn url(gateway: &Gateway, function: &str) -> String {
    let invoke = format!(
        "{}/2015-03-31/functions/Caller/invocations",
        gateway.url("lambda")
    );
    let variables = http("POST", &invoke, r#"{"do":"environment"}"#).json();
    variables[function].as_str().unwrap().to_owned()
}

fn open(url: &str) -> BufReader<TcpStream> {
    let host = url.strip_prefix("http://").unwrap().trim_end_matches('/');
    let stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    BufReader::new(stream)
}

/// Returns, for each instance of the streaming function, true if it is busy.
fn instances(gateway: &Gateway) -> Vec<bool> {
    let url = format!("{}/_local/functions", gateway.url("lambda"));
    let functions = http("GET", &url, "").json();
    let functions = functions.as_array().unwrap().iter();
    functions
        .filter(|one| one["function"] == "Streaming")
        .map(|one| one["busy"] == true)
        .collect()
}

/// Waits until the streaming function's instance is idle. An earlier request would start another instance.
fn idle(gateway: &Gateway) {
    eventually("the instance is idle", || {
        (instances(gateway) == [false]).then_some(())
    });
}

/// Opens a connection and posts the steps that the streaming function executes.
fn streaming(
    gateway: &Gateway,
    version: &str,
    headers: &str,
    steps: &Value,
) -> BufReader<TcpStream> {
    let mut client = open(&url(gateway, "Streaming"));
    let body = steps.to_string();
    let length = body.len();
    write!(
        client.get_mut(),
        "POST /x {version}\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
    .unwrap();
    client
}

fn line(reader: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Reads the lines of the response head, in lower case.
fn head(reader: &mut BufReader<TcpStream>) -> Vec<String> {
    std::iter::from_fn(|| Some(line(reader).to_lowercase()).filter(|line| !line.is_empty()))
        .collect()
}

/// Reads the next chunk of a chunked body. The last chunk is empty.
fn chunk(reader: &mut BufReader<TcpStream>) -> String {
    let length = usize::from_str_radix(&line(reader), 16).unwrap();
    let mut data = vec![0; length + 2];
    reader.read_exact(&mut data).unwrap();
    data.truncate(length);
    String::from_utf8(data).unwrap()
}

fn rest(reader: &mut BufReader<TcpStream>) -> String {
    let mut rest = String::new();
    let _ = reader.read_to_string(&mut rest);
    rest
}

#[test]
fn function_url_invokes_function() {
    let gateway = Gateway::start_with(&[], template);
    let url = url(&gateway, "Called");
    let event = |headers: &[(&str, &str)], body: &[u8]| -> Value {
        let url = format!("{url}some%20path/a%2Fb?a=1&b=%20");
        let answer: Response = try_http("POST", &url, headers, body).unwrap();
        answer.json()["payload"].clone()
    };
    let plain = event(&[("cookie", "a=1; b=2"), ("x-Tag", "t")], b"");
    assert_eq!(plain["version"], "2.0");
    assert_eq!(plain["routeKey"], "$default");
    assert_eq!(plain["rawPath"], "/some%20path/a%2Fb", "as it was sent");
    assert_eq!(plain["rawQueryString"], "a=1&b=%20");
    assert_eq!(plain["queryStringParameters"], json!({"a": "1", "b": " "}));
    assert_eq!(plain["cookies"], json!(["a=1", "b=2"]));
    assert_eq!(plain["headers"]["x-tag"], "t");
    assert_eq!(plain["requestContext"]["accountId"], "anonymous");
    assert_eq!(plain["requestContext"]["http"]["method"], "POST");
    assert!(plain.get("body").is_none());
    assert_eq!(plain["isBase64Encoded"], false);
    let text = event(
        &[("content-type", "text/plain;charset=UTF-8")],
        "é".as_bytes(),
    );
    assert_eq!(
        (&text["body"], &text["isBase64Encoded"]),
        (&json!("é"), &json!(false))
    );
    let other = event(&[("content-type", "T")], "é".as_bytes());
    assert_eq!(
        (&other["body"], &other["isBase64Encoded"]),
        (&json!("w6k="), &json!(true))
    );
}

#[test]
fn functions_get_local_stage_urls() {
    let gateway = Gateway::start_with(&[], template);
    assert_eq!(url(&gateway, "Socket"), gateway.url("stage"));
    assert_eq!(url(&gateway, "Management"), gateway.url("management"));
}

#[test]
fn response_streams_piece_by_piece() {
    let gateway = Gateway::start_with(&[], template);
    let steps = json!([{"send": "one"}, {"await": "go"}, {"send": "two"}, {"send": "three"}]);
    let mut client = streaming(&gateway, "HTTP/1.1", "", &steps);
    let head = head(&mut client);
    assert_eq!(head[0], "http/1.1 201 created");
    for expected in [
        "transfer-encoding: chunked",
        "content-type: text/plain; charset=utf-8",
        "set-cookie: a=1; path=/",
        "set-cookie: b=2",
        "x-two: 1",
        "x-two: 2",
    ] {
        assert!(
            head.contains(&expected.to_owned()),
            "{expected} in {head:?}"
        );
    }
    assert_eq!(chunk(&mut client), "one");
    // The function continues only after the client has seen the first piece.
    fs::write(gateway.dir().join("go"), "").unwrap();
    assert_eq!(chunk(&mut client), "two");
    assert_eq!(chunk(&mut client), "three");
    assert_eq!(chunk(&mut client), "");
    // The connection stays open, and the instance is reused.
    idle(&gateway);
    write!(client.get_mut(), "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n[]").unwrap();
    assert_eq!(self::head(&mut client)[0], "http/1.1 201 created");
    assert_eq!(chunk(&mut client), "");
    assert_eq!(instances(&gateway).len(), 1);
}

#[test]
fn http10_client_receives_unchunked_stream() {
    let gateway = Gateway::start_with(&[], template);
    let steps = json!([{"send": "one"}, {"await": "go"}, {"send": "two"}]);
    let mut client = streaming(&gateway, "HTTP/1.0", "Connection: Keep-Alive\r\n", &steps);
    let head = head(&mut client);
    assert!(head[0].ends_with(" 201 created"), "{head:?}");
    assert!(!head.iter().any(|line| line.starts_with("transfer-encoding") || line.starts_with("content-length")));
    assert!(
        !head.contains(&"connection: keep-alive".to_owned()),
        "{head:?}"
    );
    let mut one = [0; 3];
    client.read_exact(&mut one).unwrap();
    assert_eq!(&one, b"one");
    fs::write(gateway.dir().join("go"), "").unwrap();
    assert_eq!(rest(&mut client), "two");
}

#[test]
fn failing_stream_is_cut_off() {
    let gateway = Gateway::start_with(&[], template);
    let mut client = streaming(
        &gateway,
        "HTTP/1.1",
        "",
        &json!([{"send": "one"}, {"await": "go"}, "exit"]),
    );
    head(&mut client);
    assert_eq!(chunk(&mut client), "one");
    fs::write(gateway.dir().join("go"), "").unwrap();
    assert_eq!(rest(&mut client), "", "no last chunk");

    let when = gateway.dir().join("fail");
    let mut client = open(&url(&gateway, "Raw"));
    write!(
        client.get_mut(),
        "GET /?fail-when={} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        when.display()
    )
    .unwrap();
    assert!(head(&mut client).contains(&"content-type: text/x-raw".to_owned()));
    assert_eq!(chunk(&mut client), "begun");
    fs::write(when, "").unwrap();
    assert_eq!(rest(&mut client), "", "no last chunk");
}

#[test]
fn failure_before_stream_returns_502() {
    let gateway = Gateway::start_with(&[], template);
    let answer = rest(&mut streaming(
        &gateway,
        "HTTP/1.1",
        "Connection: close\r\n",
        &json!(["fail"]),
    ));
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(
        answer.ends_with(r#"{"Message":"Internal Server Error"}"#),
        "{answer}"
    );
}

#[test]
fn unstreamed_answer_becomes_body() {
    let gateway = Gateway::start_with(&[], template);
    let answer = http("GET", &format!("{}x", url(&gateway, "Raw")), "");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("application/octet-stream")
    );
    assert_eq!(answer.json()["payload"]["rawPath"], "/x");
}

#[test]
fn leaving_client_does_not_end_invocation() {
    let gateway = Gateway::start_with(&[], template);
    let steps = json!([{"send": "one"}, {"await": "go"}, {"send": "two"}, {"send": "three"}, {"send": "four"}]);
    let mut client = streaming(&gateway, "HTTP/1.1", "", &steps);
    head(&mut client);
    assert_eq!(chunk(&mut client), "one");
    drop(client);
    // The gateway notices the closed connection before it handles this request.
    assert_eq!(http("GET", &url(&gateway, "Called"), "").status, 200);
    fs::write(gateway.dir().join("go"), "").unwrap();
    eventually("the invocation has run to its end", || {
        gateway.dir().join("done").exists().then_some(())
    });
    assert!(!gateway.dir().join("left").exists());
}

#[test]
fn tell_leaving_notifies_function() {
    let gateway = Gateway::start_with(&["--tell-leaving"], template);
    let steps = json!([{"send": "one"}, {"await": "never"}]);
    let mut client = streaming(&gateway, "HTTP/1.1", "", &steps);
    head(&mut client);
    assert_eq!(chunk(&mut client), "one");
    drop(client);
    eventually("the function is notified", || {
        gateway.dir().join("left").exists().then_some(())
    });
    // The instance is still usable.
    idle(&gateway);
    let mut client = streaming(&gateway, "HTTP/1.1", "", &json!([{"send": "again"}]));
    head(&mut client);
    assert_eq!(chunk(&mut client), "again");
    assert_eq!(instances(&gateway).len(), 1);
}
