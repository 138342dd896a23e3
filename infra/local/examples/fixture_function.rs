//! The function of the integration tests, on the real Lambda runtime. One binary plays every part: what it does is
//! said by the event, and each event it gets is a line of `$EVENTS_DIR/events`.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "part of the tests: what cannot go on fails"
)]

use std::env;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use lambda_runtime::{Diagnostic, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    run(service_fn(handle)).await
}

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Diagnostic> {
    let event = event.payload;
    record(&event);
    let query = |name: &str| {
        event["queryStringParameters"][name]
            .as_str()
            .map(str::to_owned)
    };
    if event["type"] == "REQUEST" {
        return authorize(&event, &query("token").unwrap_or_default());
    }
    if event["rawPath"] == "/v1/hang" || query("hang").is_some() {
        std::future::pending::<()>().await;
    }
    match event["requestContext"]["eventType"].as_str() {
        Some("CONNECT") => connect(query),
        Some("MESSAGE") => message(&event).await,
        Some(_) => Ok(json!({"statusCode": 200})),
        None => http(&event),
    }
}

fn authorize(event: &Value, token: &str) -> Result<Value, Diagnostic> {
    let effect = if token == "deny" { "Deny" } else { "Allow" };
    let statement =
        json!({"Action": "execute-api:Invoke", "Effect": effect, "Resource": event["methodArn"]});
    let mut context = json!({"subscriber": token, "level": 3, "demo": true});
    match token {
        "unauthorized" => return Err(failure("Unauthorized")),
        "crash" => return Err(failure("boom")),
        "invalid" => return Ok(json!({"isAuthorized": true})),
        "object" => context["subscriber"] = json!({"id": "x"}),
        _ => {}
    }
    Ok(
        json!({"principalId": token, "policyDocument": {"Statement": [statement]}, "context": context}),
    )
}

fn connect(query: impl Fn(&str) -> Option<String>) -> Result<Value, Diagnostic> {
    if query("throw").is_some() {
        return Err(failure("connect failed"));
    }
    if let Some(raw) = query("raw") {
        return Ok(serde_json::from_str(&raw).unwrap());
    }
    let status: u16 = query("status").map_or(200, |status| status.parse().unwrap());
    let protocol = query("protocol");
    let headers =
        protocol.map_or_else(|| json!({}), |name| json!({"Sec-WebSocket-Protocol": name}));
    Ok(json!({"statusCode": status, "headers": headers, "body": "never shown"}))
}

async fn message(event: &Value) -> Result<Value, Diagnostic> {
    let body = event["body"].as_str().unwrap();
    let wanted: Value = serde_json::from_str(body).unwrap_or_else(|_| json!({"do": "show"}));
    let id = event["requestContext"]["connectionId"].as_str().unwrap();
    match wanted["do"].as_str() {
        Some("show") => post(id, &event.to_string()),
        Some("fail") => return Err(failure("asked to fail")),
        Some("exit") => std::process::exit(3),
        // Comes to an end only if another message of the same connection is handled meanwhile.
        Some("await") => {
            let file = dir().join(wanted["file"].as_str().unwrap());
            while !file.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            post(id, "met");
        }
        Some("touch") => drop(File::create(dir().join(wanted["file"].as_str().unwrap())).unwrap()),
        _ => {}
    }
    Ok(json!({"statusCode": wanted["status"].as_u64().unwrap_or(200), "body": "one-way"}))
}

fn http(event: &Value) -> Result<Value, Diagnostic> {
    if event["rawPath"] == "/v1/fail" {
        return Err(failure("asked to fail"));
    }
    Ok(json!({
        "statusCode": 201, "headers": {"content-type": "application/json", "x-one": "1"}, "body": event.to_string(),
    }))
}

fn failure(message: &str) -> Diagnostic {
    Diagnostic {
        error_type: "Fixture".to_owned(),
        error_message: message.to_owned(),
    }
}

fn dir() -> PathBuf {
    env::var("EVENTS_DIR").unwrap().into()
}

/// One write of a whole line, so that lines of several instances do not mix.
fn record(event: &Value) {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir().join("events"));
    file.unwrap()
        .write_all(format!("{event}\n").as_bytes())
        .unwrap();
}

/// PostToConnection through the endpoint of the environment, as the service does.
fn post(connection_id: &str, text: &str) {
    let endpoint = env::var("CONNECTIONS_ENDPOINT").unwrap();
    let (host, stage) = endpoint
        .strip_prefix("http://")
        .unwrap()
        .split_once('/')
        .unwrap();
    let id = connection_id.replace('=', "%3D");
    let mut stream = TcpStream::connect(host).unwrap();
    let length = text.len();
    write!(
        stream,
        "POST /{stage}/@connections/{id} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
